// Our SPIs of the IKE SAs that peers have been let into: whoever names one is no newcomer. 64 bits
// that nobody guesses who is not on the way. Single writer: main; workers read.
#pragma once

#include <algorithm>
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
  /// `sas`: as many as there may be ESP SAs, of which an IKE SA has two or more. Some four places
  /// for each IKE SA then, the rest for those that did not come about: of randomly chosen SPIs one
  /// in some thousands finds its set full.
  explicit IkeSpis(std::uint32_t sas)
      : mask_(std::bit_ceil(std::max(std::uint64_t{sas}, kLeastSas) + 32) * 2 / 8 - 1) {
    sets_.map_and_touch(mask_ + 1);
  }

  /// Main thread: the key daemon speaks of it.
  void put(std::uint64_t spi) {
    Set& set = sets_[spi & mask_];
    auto& places = set.places;
    std::size_t at = 0;
    while (at + 1 < kPlaces && places[at].load(std::memory_order_relaxed) != spi) ++at;
    if (at == 0 && places[0].load(std::memory_order_relaxed) == spi) return;
    // The latest first. Odd: they move, and who does not find one looks again. Release, of each
    // place too: whoever sees one moved sees that they do.
    const std::uint64_t moves = set.moves.load(std::memory_order_relaxed);
    set.moves.store(moves + 1, std::memory_order_relaxed);
    for (; at > 0; --at) {
      places[at].store(places[at - 1].load(std::memory_order_relaxed), std::memory_order_release);
    }
    places[0].store(spi, std::memory_order_release);
    set.moves.store(moves + 2, std::memory_order_release);
  }

  /// How many it can hold.
  [[nodiscard]] std::size_t places() const { return (mask_ + 1) * kPlaces; }

  /// Any thread. Not to be sure of one while they move and move again is to know it: it is policed
  /// by its IKE SA then.
  [[nodiscard]] bool contains(std::uint64_t spi) const {
    constexpr int kLooks = 4;
    if (spi == 0) return false;
    const Set& set = sets_[spi & mask_];
    for (int look = 0; look < kLooks; ++look) {
      const std::uint64_t before = set.moves.load(std::memory_order_acquire);
      for (const auto& place : set.places) {
        if (place.load(std::memory_order_acquire) == spi) return true;
      }
      if (before % 2 == 0 && set.moves.load(std::memory_order_relaxed) == before) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kPlaces = 7;
  static constexpr std::uint64_t kLeastSas = 4096;
  struct alignas(64) Set {
    std::atomic<std::uint64_t> moves;
    std::array<std::atomic<std::uint64_t>, kPlaces> places;
  };
  static_assert(sizeof(Set) == 64, "a cache line");
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  std::uint64_t mask_;  ///< of sets, a power of two
  MappedArray<Set> sets_;
};

}  // namespace culvert::dataplane
