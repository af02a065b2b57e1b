#include "dataplane/tables/route_trie.hpp"

#include <algorithm>

namespace culvert::dataplane {
namespace {

/// Of 1 KiB each; address space until they are used. Six for each of 8192 routes of 64 bits, and
/// eight for each of 12 288 neighbours in few networks.
constexpr std::uint32_t kMostGroups = 144 * 1024;

/// 0: the root's two bytes; from there a byte each.
unsigned level_of(unsigned length) { return length <= 16 ? 0 : (length - 9) / 8; }
/// Bits that lead to a slot of this level.
unsigned bits_of(unsigned level) { return 16 + 8 * level; }

}  // namespace

bool RouteTrie::create() {
  root_.map_and_touch(kRootSlots);
  return groups_.reserve(kMostGroups);
}

RouteTrie::Slot& RouteTrie::slot(const std::uint8_t* address, Entry group, unsigned level) const {
  if (level == 0) return root_[first_slot(address)];
  return groups_[group & kNumber][address[level + 1]];
}

std::uint32_t RouteTrie::groups_missing(const wire::Prefix& network) const {
  const std::uint8_t* const address = network.address.bytes.data();
  const unsigned last = level_of(network.length);
  Entry entry = 0;
  for (unsigned level = 0; level < last; ++level) {
    entry = slot(address, entry, level).load(std::memory_order_relaxed);
    if ((entry & kIsGroup) == 0) return last - level;
  }
  return 0;
}

RouteTrie::Entry RouteTrie::make_group(Entry inherited) {
  std::uint32_t number = made_;
  if (free_->empty()) {
    ++made_;
  } else {
    number = free_->back();
    free_->pop_back();
  }
  for (Slot& slot : groups_[number]) slot.store(inherited, std::memory_order_relaxed);
  return kIsGroup | number;
}

void RouteTrie::give_back(Entry group) {
  reclaimer_.retire([free = free_, number = group & kNumber] { free->push_back(number); });
}

void RouteTrie::spread(Slot* first, std::size_t count, unsigned from_length, unsigned to_length,
                       Entry entry) {
  for (Slot* slot = first; slot != first + count; ++slot) {
    const Entry old = slot->load(std::memory_order_relaxed);
    if ((old & kIsGroup) != 0) {
      Group& group = groups_[old & kNumber];
      spread(group.data(), group.size(), from_length, to_length, entry);
    } else if (length_of(old) >= from_length && length_of(old) <= to_length) {
      slot->store(entry, std::memory_order_release);
    }
  }
}

/// Whatever below `network` comes from routes of `from_length` bits to its own is now `entry`.
void RouteTrie::write(const wire::Prefix& network, unsigned from_length, Entry entry) {
  const std::uint8_t* const address = network.address.bytes.data();
  const unsigned last = level_of(network.length);
  Entry group = 0;
  for (unsigned level = 0; level < last; ++level) {
    Slot& next = slot(address, group, level);
    group = next.load(std::memory_order_relaxed);
    if ((group & kIsGroup) != 0) continue;
    group = make_group(group);
    next.store(group, std::memory_order_release);
  }
  const std::size_t count = std::size_t{1} << (bits_of(last) - network.length);
  spread(&slot(address, group, last), count, from_length, network.length, entry);
}

bool RouteTrie::add(const wire::Prefix& network, AdjacencyIndex adjacency) {
  // Asked first, for half a route must not stay behind.
  if (groups_missing(network) > kMostGroups - groups()) return false;
  write(network, 0, entry_of(adjacency, network.length));
  if (routes_.insert_or_assign(network, adjacency).second) ++of_length_[network.length];
  return true;
}

void RouteTrie::remove(const wire::Prefix& network) {
  if (routes_.erase(network) == 0) return;
  --of_length_[network.length];
  write(network, network.length, cover_of(network));
  prune(network);
}

/// What the longest of the shorter routes that contain it says.
RouteTrie::Entry RouteTrie::cover_of(const wire::Prefix& network) const {
  for (unsigned length = network.length; length-- > 1;) {
    if (of_length_[length] == 0) continue;
    wire::Prefix shorter{network.address, static_cast<std::uint8_t>(length)};
    shorter.address = shorter.first();
    const auto found = routes_.find(shorter);
    if (found != routes_.end()) return entry_of(found->second, length);
  }
  return 0;
}

/// Takes out the groups above `network` that say no more than one slot would.
void RouteTrie::prune(const wire::Prefix& network) {
  const std::uint8_t* const address = network.address.bytes.data();
  std::array<Slot*, 15> path{};  // by level; a slot leads to the group of the next
  const unsigned last = level_of(network.length);
  Entry entry = 0;
  for (unsigned level = 0; level < last; ++level) {
    path[level] = &slot(address, entry, level);
    entry = path[level]->load(std::memory_order_relaxed);
  }
  for (unsigned level = last; level-- > 0;) {
    const Entry above = path[level]->load(std::memory_order_relaxed);
    const Group& group = groups_[above & kNumber];
    const Entry common = group[0].load(std::memory_order_relaxed);
    const bool inherits = (common & kIsGroup) == 0 && length_of(common) <= bits_of(level) &&
                          std::ranges::all_of(group, [common](const Slot& slot) {
                            return slot.load(std::memory_order_relaxed) == common;
                          });
    if (!inherits) return;
    path[level]->store(common, std::memory_order_release);
    give_back(above);
  }
}

}  // namespace culvert::dataplane
