// Packets that came about within a burst, beside it: fragments of what did not fit, packets put
// together from fragments; and dummies, which nobody's policy concerns. They go on in bursts of
// their own, in the same iteration. Worker-local.
#pragma once

#include <array>
#include <cassert>
#include <cstdint>

#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/spd.hpp"

struct rte_mbuf;

namespace culvert::dataplane {

/// Where a packet goes on.
enum class NextStep : std::uint8_t {
  classify,  ///< a whole Ethernet frame
  decide,    ///< IP, put together: policy
  protect,   ///< IP: `outbound` seals it
  dummy,     ///< IP: `outbound` seals it as a dummy
  send,      ///< IP, sealed: to `next_hop`
  route,     ///< IP, as it is
};

/// The mbuf's data begins at the IP header, but for `classify`. `outbound` and `next_hop` are what
/// they were when the packet was put here until the worker is quiescent, and no longer: no packet
/// is here then.
struct PendingPacket {
  rte_mbuf* packet = nullptr;
  NextStep step = NextStep::route;
  PacketOrigin origin = PacketOrigin::clear;
  PortId received_on{};
  SlotIndex outbound = kNoSlot;
  AdjacencyIndex next_hop{};
};

class PendingPackets {
 public:
  /// Some twenty fragments for each packet of a burst.
  static constexpr std::uint32_t kCapacity = 1024;

  [[nodiscard]] bool has_room(std::uint32_t count) const { return count_ + count <= kCapacity; }
  /// Precondition: `has_room(1)`.
  void push(const PendingPacket& packet) {
    assert(count_ < kCapacity);
    items_[(first_ + count_++) % kCapacity] = packet;
  }
  /// Precondition: not empty.
  PendingPacket pop() {
    assert(count_ != 0);
    const PendingPacket packet = items_[first_];
    first_ = (first_ + 1) % kCapacity;
    --count_;
    return packet;
  }
  /// Precondition: not empty.
  [[nodiscard]] NextStep front_step() const { return items_[first_].step; }
  [[nodiscard]] std::uint32_t count() const { return count_; }

 private:
  std::array<PendingPacket, kCapacity> items_;
  std::uint32_t first_ = 0, count_ = 0;
};

}  // namespace culvert::dataplane
