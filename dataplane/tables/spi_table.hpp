// Inbound SPIs: those we choose are generation ‖ slot, so that the SPI is the index. Who leased
// which slot, and where the SPIs stand that others chose (manual SAs).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "dataplane/tables/ids.hpp"

namespace culvert::dataplane {

/// Slots of one direction. Main thread.
class SlotAllocator {
 public:
  explicit SlotAllocator(std::uint32_t capacity);
  [[nodiscard]] std::optional<SlotIndex> take();
  /// That very slot, if it is free.
  [[nodiscard]] bool take(SlotIndex slot);
  void give_back(SlotIndex slot);
  [[nodiscard]] std::uint32_t in_use() const { return in_use_; }

 private:
  /// Of a free slot: those that have been free for longer and less long.
  struct Place {
    std::uint32_t before = 0, next = 0;
    bool is_used = false;
  };
  void put_last(std::uint32_t slot);

  std::vector<Place> places_;  ///< and the end of the circle, which is nobody's
  std::uint32_t end_;
  std::uint32_t in_use_ = 0;
};

/// SPIs whose low bits are not their slot. Open addressing, no allocation on lookup; RCU-read by
/// workers, single writer: main. Half of its cells are never used; removed ones are reused.
class ForeignSpis {
 public:
  explicit ForeignSpis(std::uint32_t capacity);
  [[nodiscard]] bool insert(std::uint32_t spi, SlotIndex slot);
  void remove(std::uint32_t spi);
  /// How many there are, for who wants to know whether any is.
  [[nodiscard]] const std::atomic<std::uint32_t>& count() const { return count_; }
  /// Precondition: `spi` is not 0.
  [[nodiscard]] SlotIndex find(std::uint32_t spi) const {
    // Relaxed: the InboundSa's own `spi` is what is acquired and compared.
    if (count_.load(std::memory_order_relaxed) == 0) return kNoSlot;
    for (std::uint32_t at = hash(spi);; ++at) {
      const std::uint64_t cell = cells_[at & mask_].load(std::memory_order_acquire);
      if (cell == kNever) return kNoSlot;
      if (static_cast<std::uint32_t>(cell >> 32U) == spi) {
        return SlotIndex{static_cast<std::uint32_t>(cell)};
      }
    }
  }

 private:
  // Both are cells of SPI 0, which is reserved (RFC 4303 §2.1) and not looked for.
  static constexpr std::uint64_t kNever = 0;  ///< ends a probe
  static constexpr std::uint64_t kRemoved = 1;
  static std::uint32_t hash(std::uint32_t spi) { return (spi * 0x9e3779b1U) >> 7U; }

  std::uint32_t mask_;
  std::uint32_t used_cells_ = 0;  ///< removed ones included
  std::atomic<std::uint32_t> count_{0};
  std::unique_ptr<std::atomic<std::uint64_t>[]> cells_;
};

}  // namespace culvert::dataplane
