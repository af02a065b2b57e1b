// How many packets queues, rings between threads and the main thread hold: who sizes these and who
// sizes the packet pool go by the same numbers.
#pragma once

#include <cstdint>

namespace culvert::dataplane::ports {

/// Descriptors of a queue: 1024 packets are some 70 µs of 10 Gbit/s at 64 bytes, longer than a
/// worker's iteration with a full burst of ESP.
inline constexpr std::uint16_t kDescriptors = 1024;

// Of each worker. A ring holds one fewer than it has places.
/// To the main thread: a worker's bursts while that is busy for a millisecond; what does not fit is
/// dropped by the worker, counted.
inline constexpr std::uint32_t kPuntPackets = 1024;
/// ARP and neighbour discovery: a network's hosts asking after it was down.
inline constexpr std::uint32_t kLinkPackets = 256;
/// IKE, half of it configured peers': a rekey storm of all of them.
inline constexpr std::uint32_t kPeerPackets = 512;
/// First messages of IKE SAs: more than a few milliseconds' worth is a flood.
inline constexpr std::uint32_t kNewcomerPackets = 512;
/// From the main thread.
inline constexpr std::uint32_t kInjectPackets = 1024;
/// From other workers.
inline constexpr std::uint32_t kHandoffPackets = 2048;
inline constexpr std::uint32_t kRingPackets = kPuntPackets + kLinkPackets + kPeerPackets +
                                              kNewcomerPackets + kInjectPackets + kHandoffPackets;

// Of the main thread.
/// That wait for neighbours; and one more of each neighbour that is asked for.
inline constexpr std::uint32_t kHeldForNeighbors = 1024;
inline constexpr std::uint32_t kUnresolvedNeighbors = 512;
/// That wait for SAs.
inline constexpr std::uint32_t kHeldForSas = 2048;
/// Taken out of a ring at once.
inline constexpr std::uint32_t kDrainedAtOnce = 256;

}  // namespace culvert::dataplane::ports
