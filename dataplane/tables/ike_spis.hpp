// Our SPIs of the IKE SAs that peers have been let into: whoever names one is no newcomer. 64 bits
// that nobody guesses who is not on the way. Single writer: main; workers read.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "dataplane/tables/mapped_array.hpp"

namespace culvert::dataplane {

/// In memory of fixed size: of those that share a set, the one goes of which the key daemon has not
/// spoken for longest. Who was forgotten, and still has an IKE SA, is a newcomer until our next
/// message to it.
class IkeSpis {
 public:
  /// `sas`: as many as there may be ESP SAs, of which an IKE SA has two or more. Four places for
  /// each IKE SA then: of randomly chosen SPIs one in some thousands finds its set full.
  explicit IkeSpis(std::uint32_t sas)
      : mask_(std::bit_ceil(std::uint64_t{sas} + 32) * 2 / kPlaces - 1) {
    sets_.map_and_touch(mask_ + 1);
  }

  /// Main thread: the key daemon speaks of it.
  void put(std::uint64_t spi) {
    auto& places = sets_[spi & mask_].places;
    std::size_t at = 0;
    while (at + 2 < kPlaces && places[at].load(std::memory_order_relaxed) != spi) ++at;
    // The latest first. A worker that looks meanwhile finds it, for it stands in the last place,
    // which is for that alone, and all others: each is in its new place before it leaves the old
    // one, and workers look in this direction. Release pairs with the acquire in `contains`.
    places[kPlaces - 1].store(spi, std::memory_order_release);
    for (; at > 0; --at) {
      places[at].store(places[at - 1].load(std::memory_order_relaxed), std::memory_order_release);
    }
    places[0].store(spi, std::memory_order_release);
  }

  /// How many it can hold.
  [[nodiscard]] std::size_t places() const { return (mask_ + 1) * kPlaces; }

  [[nodiscard]] bool contains(std::uint64_t spi) const {
    if (spi == 0) return false;
    for (const auto& place : sets_[spi & mask_].places) {
      if (place.load(std::memory_order_acquire) == spi) return true;
    }
    return false;
  }

 private:
  static constexpr std::size_t kPlaces = 8;
  struct alignas(64) Set {
    std::array<std::atomic<std::uint64_t>, kPlaces> places;
  };
  static_assert(sizeof(Set) == 64, "a cache line");
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  std::uint64_t mask_;  ///< of sets, a power of two
  MappedArray<Set> sets_;
};

}  // namespace culvert::dataplane
