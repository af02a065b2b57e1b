#include <catch2/catch.hpp>

#include "dataplane/worker/stage_clock.hpp"

using namespace culvert::dataplane;

TEST_CASE("stage clock: time is of the stage that was entered last") {
  StageClock clock;
  clock.enter(Stage::rx, 1000);
  clock.enter(Stage::classify, 1030);
  clock.enter(Stage::crypto, 1100);
  clock.enter(Stage::classify, 1400);
  clock.enter(Stage::loop, 1407);
  CHECK(clock.cycles(Stage::rx) == 30);
  CHECK(clock.cycles(Stage::classify) == 70 + 7);
  CHECK(clock.cycles(Stage::crypto) == 300);
  CHECK(clock.cycles(Stage::tx) == 0);
  CHECK(clock.entries(Stage::classify) == 2);
  CHECK(clock.entries(Stage::tx) == 0);
}

TEST_CASE("stage clock: what the scheduler took is of no stage") {
  StageClock clock;
  clock.enter(Stage::header, 1);
  clock.enter(Stage::crypto, StageClock::kInterrupted + 1);
  clock.enter(Stage::loop, StageClock::kInterrupted + 21);
  CHECK(clock.cycles(Stage::header) == 0);
  CHECK(clock.cycles(Stage::crypto) == 20);
}
