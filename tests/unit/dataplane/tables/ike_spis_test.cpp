#include "dataplane/tables/ike_spis.hpp"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/unit/finding.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint32_t kSas = 64;
/// Of those that share a set.
constexpr std::uint64_t neighbor(std::uint64_t number) { return number << 40U | 5U; }

}  // namespace

TEST_CASE("ike spis: those that the key daemon spoke of are known, no others, and never zero") {
  IkeSpis spis(kSas);
  CHECK_FALSE(spis.contains(0));
  CHECK_FALSE(spis.contains(neighbor(1)));
  spis.put(neighbor(1));
  spis.put(0xffff'ffff'ffff'ffffU);
  CHECK(spis.contains(neighbor(1)));
  CHECK(spis.contains(0xffff'ffff'ffff'ffffU));
  CHECK_FALSE(spis.contains(neighbor(2)));
  CHECK_FALSE(spis.contains(0));
}

TEST_CASE("ike spis: of those that share a set the one goes that was not spoken of for longest") {
  IkeSpis spis(kSas);
  for (std::uint64_t number = 1; number <= 7; ++number) spis.put(neighbor(number));
  for (std::uint64_t number = 1; number <= 7; ++number) CHECK(spis.contains(neighbor(number)));
  spis.put(neighbor(1));
  spis.put(neighbor(4));
  spis.put(neighbor(8));
  for (std::uint64_t number = 1; number <= 8; ++number) {
    INFO(number);
    CHECK(spis.contains(neighbor(number)) == (number != 2));
  }
}

TEST_CASE("ike spis: one that is spoken of again is known all the time", "[threads]") {
  INFO(test::kRace);
  IkeSpis spis(kSas);
  for (std::uint64_t number = 1; number <= 7; ++number) spis.put(neighbor(number));
  std::atomic<bool> is_over = false;
  std::uint64_t missed = 0;
  std::thread worker([&] {
    while (!is_over.load(std::memory_order_relaxed)) missed += spis.contains(neighbor(4)) ? 0 : 1;
  });
  for (int round = 0; round < 100'000; ++round) {
    for (std::uint64_t number = 1; number <= 7; ++number) spis.put(neighbor(number));
  }
  is_over.store(true, std::memory_order_relaxed);
  worker.join();
  CHECK(missed == 0);
}

TEST_CASE("ike spis: as many IKE SAs as there may be find a place, but for one in some thousands") {
  constexpr std::uint32_t kMost = 65536;
  IkeSpis spis(kMost);
  std::uint64_t state = 1;
  std::vector<std::uint64_t> drawn;
  for (std::uint32_t number = 0; number < kMost / 2; ++number) {
    state ^= state << 13U;  // xorshift
    state ^= state >> 7U;
    state ^= state << 17U;
    drawn.push_back(state);
    spis.put(state);
  }
  CHECK(std::ranges::count_if(drawn, [&](auto one) { return !spis.contains(one); }) < 20);
}

}  // namespace culvert::dataplane
