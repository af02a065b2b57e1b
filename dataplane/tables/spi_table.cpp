#include "dataplane/tables/spi_table.hpp"

#include <bit>

namespace culvert::dataplane {

SlotAllocator::SlotAllocator(std::uint32_t capacity)
    : places_(std::size_t{capacity} + 1), end_(capacity) {
  places_[end_] = {end_, end_, true};
  for (std::uint32_t slot = 0; slot < capacity; ++slot) put_last(slot);
}

std::optional<SlotIndex> SlotAllocator::take() {
  // The longest unused first: an SPI of an SA that is gone is not seen again soon.
  const SlotIndex slot{places_[end_].next};
  if (!take(slot)) return std::nullopt;
  return slot;
}

bool SlotAllocator::take(SlotIndex slot) {
  Place& place = places_[raw(slot)];
  if (place.is_used) return false;
  places_[place.before].next = place.next;
  places_[place.next].before = place.before;
  place.is_used = true;
  ++in_use_;
  return true;
}

void SlotAllocator::give_back(SlotIndex slot) {
  if (!places_[raw(slot)].is_used) return;
  --in_use_;
  put_last(static_cast<std::uint32_t>(slot));
}

void SlotAllocator::put_last(std::uint32_t slot) {
  const std::uint32_t last = places_[end_].before;
  places_[slot] = {last, end_, false};
  places_[last].next = places_[end_].before = slot;
}

ForeignSpis::ForeignSpis(std::uint32_t capacity)
    : mask_(std::bit_ceil(capacity * 4U) - 1U),
      cells_(std::make_unique<std::atomic<std::uint64_t>[]>(mask_ + 1U)) {}

bool ForeignSpis::insert(std::uint32_t spi, SlotIndex slot) {
  const std::uint64_t cell = (std::uint64_t{spi} << 32U) | raw(slot);
  for (std::uint32_t at = hash(spi);; ++at) {
    std::atomic<std::uint64_t>& place = cells_[at & mask_];
    const std::uint64_t there = place.load(std::memory_order_relaxed);
    if (there != kNever && there != kRemoved) continue;
    // Half full at most: probes stay short, and there is always a cell that ends one.
    if (there == kNever && used_cells_ >= (mask_ + 1U) / 2U) return false;
    used_cells_ += there == kNever ? 1U : 0U;
    place.store(cell, std::memory_order_release);
    count_.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
}

void ForeignSpis::remove(std::uint32_t spi) {
  for (std::uint32_t at = hash(spi);; ++at) {
    std::atomic<std::uint64_t>& place = cells_[at & mask_];
    const std::uint64_t there = place.load(std::memory_order_relaxed);
    if (there == kNever) return;
    if (static_cast<std::uint32_t>(there >> 32U) != spi) continue;
    place.store(kRemoved, std::memory_order_release);
    count_.fetch_sub(1, std::memory_order_relaxed);
    // Nothing stands behind a cell that was never used, so those in front of it need not lead on:
    // without this, SPIs that come and go would use up every cell.
    if (cells_[(at + 1) & mask_].load(std::memory_order_relaxed) != kNever) return;
    while (cells_[at & mask_].load(std::memory_order_relaxed) == kRemoved) {
      cells_[at & mask_].store(kNever, std::memory_order_release);
      --used_cells_;
      --at;
    }
    return;
  }
}

}  // namespace culvert::dataplane
