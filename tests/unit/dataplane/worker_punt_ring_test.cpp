// A worker that puts packets into a ring and a main thread that sleeps when it has taken them all.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include <catch2/catch.hpp>
#include <rte_pause.h>
#include <rte_ring.h>

#include "dataplane/control/bell.hpp"
#include "dataplane/worker/punt_ring.hpp"
#include "tests/unit/dataplane/dpdk_environment.hpp"
#include "tests/unit/finding.hpp"

namespace culvert::dataplane {
namespace {

constexpr auto kPatience = std::chrono::seconds(5);  ///< by far more than a busy machine takes

struct Ring {
  Ring() {
    test::need_dpdk();
    ring = rte_ring_create("punt_ring_test", 64, 0, RING_F_SP_ENQ | RING_F_SC_DEQ);
    REQUIRE(ring != nullptr);
  }
  ~Ring() { rte_ring_free(ring); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  rte_ring* ring = nullptr;
};

TEST_CASE("punts: the main thread is woken for a packet that it would sleep over, for no other") {
  const Ring rings;
  rte_ring* const ring = rings.ring;
  std::array<void*, 8> taken{};
  const auto put = [&] { REQUIRE(rte_ring_sp_enqueue(ring, nullptr) == 0); };
  put();
  CHECK(has_to_wake(ring));
  put();
  CHECK_FALSE(has_to_wake(ring));
  Taken some = take_some(ring, taken.data(), sizeof(void*), 1);
  CHECK(some.count == 1);
  CHECK(some.is_more);
  some = take_some(ring, taken.data(), sizeof(void*), 8);
  CHECK(some.count == 1);
  CHECK_FALSE(some.is_more);
  CHECK(take_some(ring, taken.data(), sizeof(void*), 8).count == 0);
  put();
  CHECK(has_to_wake(ring));
}

TEST_CASE("punts: no packet is slept over, whenever it comes", "[threads]") {
  INFO(test::kRace);
  constexpr std::uint64_t kPackets = 6000;
  const Ring rings;
  control::Bell bell;
  std::atomic<std::uint64_t> taken{0};
  std::atomic<bool> is_over{false};
  std::thread worker([&] {
    const std::uint64_t one = 1;
    // Two, a little apart, so that the second now and then comes while the first is being taken;
    // then a rest, so that there is nobody behind who would wake the main thread for it.
    for (std::uint64_t packet = 0; packet < kPackets && !is_over; ++packet) {
      for (auto wait = packet % 2 == 1 ? packet / 2 % 512 : 0; wait != 0; --wait) rte_pause();
      if (rte_ring_sp_enqueue(rings.ring, nullptr) != 0) break;
      if (has_to_wake(rings.ring) && write(bell.descriptor(), &one, sizeof(one)) < 0) break;
      while (packet % 2 == 1 && taken.load(std::memory_order_relaxed) <= packet && !is_over) {
        std::this_thread::yield();
      }
    }
  });
  bool is_more = false;
  while (taken < kPackets) {
    // As if asleep, but awake at once: the kernel's way of waking is longer than what is tried.
    const auto late = std::chrono::steady_clock::now() + kPatience;
    std::uint64_t rung = 0;
    while (!is_more && read(bell.descriptor(), &rung, sizeof(rung)) < 0) {
      if (std::chrono::steady_clock::now() > late) break;
    }
    if (!is_more && rung == 0) break;
    std::array<void*, 4> packets{};
    const Taken some = take_some(rings.ring, packets.data(), sizeof(void*), packets.size());
    is_more = some.is_more;
    taken.fetch_add(some.count, std::memory_order_relaxed);
  }
  is_over = true;
  worker.join();
  CHECK(taken == kPackets);
}

}  // namespace
}  // namespace culvert::dataplane
