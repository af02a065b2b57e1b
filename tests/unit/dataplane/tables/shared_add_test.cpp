// Counters that several workers share.
#include <numeric>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/finding.hpp"

namespace culvert::dataplane {
namespace {

TEST_CASE("shared counter: what is left is taken to the last, and nothing where it is less") {
  for (const std::uint32_t workers : {1U, 4U}) {
    CAPTURE(workers);
    const SharedAdd shared(workers);
    std::atomic<std::uint64_t> left{100};
    CHECK(shared.take(left, 60));
    CHECK_FALSE(shared.take(left, 41));
    CHECK(left == 40);
    CHECK(shared.take(left, 40));
    CHECK(shared.take(left, 0));
    CHECK_FALSE(shared.take(left, 1));
    CHECK(left == 0);
  }
}

TEST_CASE("shared counter: threads never take more than there was, and all of it", "[threads]") {
  INFO(test::kRace);
  constexpr std::uint64_t kBytes = 3'000'001;
  const SharedAdd shared(4);
  std::atomic<std::uint64_t> left{kBytes};
  std::vector<std::uint64_t> taken(4);
  std::vector<std::thread> threads;
  for (std::uint64_t& mine : taken) {
    threads.emplace_back([&] {
      // Large ones while there is room for such, then to the last byte.
      for (std::uint64_t amount : {97U, 13U, 1U}) {
        while (shared.take(left, amount)) mine += amount;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(std::accumulate(taken.begin(), taken.end(), std::uint64_t{0}) == kBytes);
  CHECK(left == 0);
}

}  // namespace
}  // namespace culvert::dataplane
