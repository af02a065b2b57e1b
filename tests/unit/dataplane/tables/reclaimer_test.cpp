#include "dataplane/tables/reclaimer.hpp"

#include <vector>

#include <catch2/catch.hpp>

namespace culvert::dataplane {
namespace {

constexpr WorkerId kFirst{0}, kSecond{1};

TEST_CASE("reclaimer: nothing is freed while a worker that was online has not reported") {
  Reclaimer reclaimer(2);
  reclaimer.online(kFirst);
  reclaimer.online(kSecond);
  bool freed = false;
  reclaimer.retire([&] { freed = true; });
  reclaimer.poll();
  CHECK_FALSE(freed);
  reclaimer.quiescent(kFirst);
  reclaimer.poll();
  CHECK_FALSE(freed);
  reclaimer.quiescent(kSecond);
  CHECK_FALSE(freed);  // only poll frees: the main thread
  reclaimer.poll();
  CHECK(freed);
  CHECK(reclaimer.pending() == 0);
}

TEST_CASE("reclaimer: a worker that sleeps or never started holds nothing up") {
  Reclaimer reclaimer(2);
  reclaimer.online(kFirst);
  bool freed = false;
  reclaimer.retire([&] { freed = true; });
  reclaimer.offline(kFirst);
  reclaimer.poll();
  CHECK(freed);
}

TEST_CASE("reclaimer: a worker that comes online after something was retired does not hold it") {
  Reclaimer reclaimer(2);
  bool freed = false;
  reclaimer.retire([&] { freed = true; });
  reclaimer.online(kSecond);
  reclaimer.poll();
  CHECK(freed);
}

TEST_CASE("reclaimer: a report from before something was retired does not count for it") {
  Reclaimer reclaimer(1);
  reclaimer.online(kFirst);
  reclaimer.quiescent(kFirst);
  bool freed = false;
  reclaimer.retire([&] { freed = true; });
  reclaimer.poll();
  CHECK_FALSE(freed);
  reclaimer.quiescent(kFirst);
  reclaimer.poll();
  CHECK(freed);
}

TEST_CASE(
    "reclaimer: frees in the order of retiring, and what is retired while freeing waits again") {
  Reclaimer reclaimer(1);
  reclaimer.online(kFirst);
  std::vector<int> order;
  reclaimer.retire([&] {
    order.push_back(1);
    reclaimer.retire([&] { order.push_back(3); });
  });
  reclaimer.retire([&] { order.push_back(2); });
  reclaimer.quiescent(kFirst);
  reclaimer.poll();
  CHECK(order == std::vector<int>{1, 2});
  reclaimer.quiescent(kFirst);
  reclaimer.poll();
  CHECK(order == std::vector<int>{1, 2, 3});
}

TEST_CASE("reclaimer: what is left when it ends is freed, and what that retires") {
  int freed = 0;
  {
    Reclaimer reclaimer(1);
    reclaimer.online(kFirst);
    reclaimer.retire([&] { ++freed; });
    reclaimer.retire([&] {
      for (int more = 0; more < 100; ++more) reclaimer.retire([&] { ++freed; });
    });
    reclaimer.retire([&] { ++freed; });
  }
  CHECK(freed == 102);
}

}  // namespace
}  // namespace culvert::dataplane
