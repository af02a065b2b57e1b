// The simulator's schedules as a unit test; scripts/simulate runs as many as one likes.
#include <catch2/catch.hpp>

#include "tests/simulator/simulator.hpp"

TEST_CASE("simulator: after any schedule every child has exactly one usable pair") {
  constexpr std::uint64_t kSchedules = 1500;
  for (std::uint64_t seed = 1; seed <= kSchedules; ++seed) {
    const auto outcome = culvert::simulation::run_schedule(seed);
    if (!outcome.failures.empty()) FAIL(culvert::simulation::to_text(outcome));
  }
}

TEST_CASE("simulator: the same seed gives the same run") {
  const auto first = culvert::simulation::run_schedule(7);
  const auto second = culvert::simulation::run_schedule(7);
  CHECK(first.log == second.log);
}
