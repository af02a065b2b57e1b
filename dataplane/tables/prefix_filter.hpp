// Around which addresses there are rules at all, by prefix: a search need not look into shapes of
// whose prefixes none has the packet's address. Most lists have many shapes and few prefixes around
// any one address.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "dataplane/tables/mapped_array.hpp"

namespace culvert::dataplane {

/// Counts prefixes by hash, the number of rules in each cell: it may say that there are rules where
/// there are none, never that there are none where there are. One writer changes it while workers
/// read.
class PrefixFilter {
 public:
  enum class Side : std::uint8_t { source, destination };

  /// For so many rules; with more it says yes more often.
  explicit PrefixFilter(std::size_t rules)
      : mask_(std::bit_ceil(std::max<std::size_t>(kCellsARule * rules, 64)) - 1) {
    cells_.map_and_touch(mask_ + 1);
  }

  // ---- main thread ----

  /// Before the rule is where workers find it.
  template <typename Address>
  void add(Side side, Address mask, Address address) {
    auto& cell = cells_[cell_of(side, mask, address)];
    const std::uint16_t rules = cell.load(std::memory_order_relaxed);
    // Relaxed: who must see the rule sees it through whatever tells of the rule.
    if (rules != kMany)
      cell.store(static_cast<std::uint16_t>(rules + 1), std::memory_order_relaxed);
  }
  /// When workers do not find it any more.
  template <typename Address>
  void remove(Side side, Address mask, Address address) {
    auto& cell = cells_[cell_of(side, mask, address)];
    const std::uint16_t rules = cell.load(std::memory_order_relaxed);
    // Release: who sees this sees that the rule is gone.
    if (rules != kMany)
      cell.store(static_cast<std::uint16_t>(rules - 1), std::memory_order_release);
  }

  // ---- workers ----

  /// Where to look for the prefix of an address.
  template <typename Address>
  [[nodiscard]] std::size_t cell_of(Side side, Address mask, Address address) const {
    std::uint64_t hash = static_cast<std::uint64_t>(side) + 1;
    for (const Address value : {mask, static_cast<Address>(address & mask)}) {
      for (std::size_t at = 0; at < sizeof(Address); at += sizeof(std::uint32_t)) {
        hash = (hash ^ static_cast<std::uint32_t>(value >> (at * 8))) * 0x9e3779b97f4a7c15ULL;
        hash ^= hash >> 32U;
      }
    }
    return hash & mask_;
  }
  void prefetch(std::size_t cell) const { __builtin_prefetch(&cells_[cell]); }
  [[nodiscard]] bool has(std::size_t cell) const {
    return cells_[cell].load(std::memory_order_relaxed) != 0;
  }

 private:
  /// Of two prefixes a rule: in a full table a quarter of the prefixes of no rule seem to be of one
  /// at most.
  static constexpr std::size_t kCellsARule = 8;
  /// Not counted further, nor down again: rules share wide prefixes. More than one policy has, or a
  /// peer may have: else who makes policies and takes them back would fill the cells for good.
  static constexpr std::uint16_t kMany = 65535;

  std::size_t mask_;
  MappedArray<std::atomic<std::uint16_t>> cells_;
};

}  // namespace culvert::dataplane
