// IPv6 destination → adjacency: a trie of the first two bytes and then byte by byte, no larger than
// its routes ask for. RCU-read by workers; single writer: main.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "dataplane/tables/adjacency.hpp"
#include "dataplane/tables/mapped_array.hpp"
#include "dataplane/tables/reclaimer.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane {

class RouteTrie {
 public:
  explicit RouteTrie(Reclaimer& reclaimer) : reclaimer_(reclaimer) {}

  /// False when there is no address space; throws std::bad_alloc when there is no memory.
  [[nodiscard]] bool create();

  /// Adds or replaces an IPv6 route without host bits, longer than 0 bits. False, and nothing has
  /// changed, when there is no room.
  [[nodiscard]] bool add(const wire::Prefix& network, AdjacencyIndex adjacency);
  void remove(const wire::Prefix& network);

  /// Longest match, Adjacencies::kDrop when nothing matches. `address`: 16 bytes.
  [[nodiscard]] AdjacencyIndex lookup(const std::uint8_t* address) const {
    // Acquire pairs with the release that hangs a group in: its contents before its number.
    Entry entry = root_[first_slot(address)].load(std::memory_order_acquire);
    for (const std::uint8_t* next = address + kRootBytes; (entry & kIsGroup) != 0; ++next) {
      entry = groups_[entry & kNumber][*next].load(std::memory_order_acquire);
    }
    return AdjacencyIndex{entry & kNumber};
  }
  /// Groups in use, and those that await a grace period.
  [[nodiscard]] std::uint32_t groups() const {
    return made_ - static_cast<std::uint32_t>(free_->size());
  }

 private:
  /// Either a group's number, or an adjacency with the length of the route that put it there, so
  /// that a shorter one does not overwrite a longer one's. Zero: Adjacencies::kDrop, of no route.
  using Entry = std::uint32_t;
  using Slot = std::atomic<Entry>;
  using Group = std::array<Slot, 256>;
  static constexpr Entry kIsGroup = Entry{1} << 31U;
  static constexpr unsigned kLengthShift = 23;
  static constexpr Entry kNumber = (Entry{1} << kLengthShift) - 1;
  static constexpr unsigned kRootBytes = 2;
  static constexpr unsigned kRootBits = 8 * kRootBytes;
  static constexpr std::size_t kRootSlots = std::size_t{1} << kRootBits;

  static std::size_t first_slot(const std::uint8_t* address) {
    return std::size_t{address[0]} << 8U | address[1];
  }
  static Entry entry_of(AdjacencyIndex adjacency, unsigned length) {
    return static_cast<Entry>(raw(adjacency)) | static_cast<Entry>(length) << kLengthShift;
  }
  static unsigned length_of(Entry entry) { return entry >> kLengthShift; }

  [[nodiscard]] Slot& slot(const std::uint8_t* address, Entry group, unsigned level) const;
  [[nodiscard]] std::uint32_t groups_missing(const wire::Prefix& network) const;
  [[nodiscard]] Entry make_group(Entry inherited);
  void give_back(Entry group);
  /// `entry` into every slot of `count`, and below, that a route of `from_length` to `to_length`
  /// bits has written.
  void spread(Slot* first, std::size_t count, unsigned from_length, unsigned to_length,
              Entry entry);
  void write(const wire::Prefix& network, unsigned from_length, Entry entry);
  void prune(const wire::Prefix& network);
  [[nodiscard]] Entry cover_of(const wire::Prefix& network) const;

  Reclaimer& reclaimer_;
  MappedArray<Slot> root_;
  MappedArray<Group> groups_;
  std::uint32_t made_ = 0;  ///< groups that were ever in use
  /// Shared with what is retired, which may outlive us in the reclaimer.
  std::shared_ptr<std::vector<std::uint32_t>> free_ =
      std::make_shared<std::vector<std::uint32_t>>();
  std::map<wire::Prefix, AdjacencyIndex> routes_;
  std::array<std::uint32_t, 129> of_length_{};  ///< routes
};

}  // namespace culvert::dataplane
