// Packets that came about within a burst, beside it: fragments of what did not fit, packets put
// together from fragments; and dummies, which nobody's policy concerns. They go on in bursts of
// their own, before anything else is received. Worker-local.
#pragma once

#include <algorithm>
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

/// What is sealed first: whatever is sealed later has a higher number of its SA.
class PendingPackets {
 public:
  /// Some twenty fragments for each packet of a burst.
  static constexpr std::uint32_t kCapacity = 1024;
  static constexpr std::uint32_t kMost = 2 * kCapacity;  ///< what is sealed, and what is not

  /// Whatever their step is.
  [[nodiscard]] bool has_room(std::uint32_t count) const {
    return std::max(sealed_.count, others_.count) + count <= kCapacity;
  }
  /// Precondition: `has_room(1)`.
  void push(const PendingPacket& packet) {
    Ring& ring = packet.step == NextStep::send ? sealed_ : others_;
    assert(ring.count < kCapacity);
    ring.items[(ring.first + ring.count++) % kCapacity] = packet;
  }
  /// Precondition: not empty.
  PendingPacket pop() {
    Ring& ring = sealed_.count != 0 ? sealed_ : others_;
    assert(ring.count != 0);
    const PendingPacket packet = ring.items[ring.first];
    ring.first = (ring.first + 1) % kCapacity;
    --ring.count;
    return packet;
  }
  /// Of what is popped next. Precondition: not empty.
  [[nodiscard]] NextStep front_step() const {
    return sealed_.count != 0 ? NextStep::send : others_.items[others_.first].step;
  }
  [[nodiscard]] std::uint32_t count() const { return sealed_.count + others_.count; }

 private:
  struct Ring {
    std::array<PendingPacket, kCapacity> items;
    std::uint32_t first = 0, count = 0;
  };
  Ring sealed_, others_;
};

}  // namespace culvert::dataplane
