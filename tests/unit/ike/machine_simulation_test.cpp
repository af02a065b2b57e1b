// The simulator's schedules as a unit test; scripts/simulate runs as many as one likes.
#include <catch2/catch.hpp>

#include "tests/simulator/simulator.hpp"

TEST_CASE("simulator: the same seed gives the same run") {
  const auto first = culvert::simulation::run_schedule(7);
  const auto second = culvert::simulation::run_schedule(7);
  CHECK(first.log == second.log);
}
