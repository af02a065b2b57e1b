// Packet memory: one pool for all ports and workers, sized by what can be in flight at once, and a
// small one for packets that come in fragments and are larger than any frame.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>

#include "config/config.hpp"

struct rte_mempool;

namespace culvert::dataplane::ports {

/// Packets that may be somewhere at the same time: descriptors of every queue, a worker's bursts,
/// caches, fragments and pieces, rings between threads, and what waits for a neighbour or an SA.
std::uint32_t packets_in_flight(std::uint32_t ports, std::uint32_t workers);
/// Of all interfaces, in bytes of IP packet.
std::uint16_t largest_mtu(const config::Dataplane& dataplane);
/// Bytes of one buffer for frames of this MTU, room for ESP's trailer and the headroom included.
std::uint16_t buffer_bytes(std::uint16_t largest_mtu);
/// The largest MTU whose frames such buffers hold.
std::uint16_t largest_in_buffers(std::uint16_t buffer_bytes);

/// Of a large buffer, headroom included: DPDK counts a buffer's bytes in 16 bits, so a whole packet
/// of 65 535 bytes with its Ethernet header fits none.
inline constexpr std::uint16_t kLargeBufferBytes = UINT16_MAX - 63;
/// 4 MiB. A worker puts a packet together when its last fragment has come, and has cut or opened it
/// in the same iteration, and what leaves then leaves in a usual buffer; those that wait are IKE's,
/// until the main thread has copied them, and never all (punt.cpp). 64 are a burst's, of which each
/// fragment is somebody's last.
inline constexpr std::uint32_t kLargeBuffers = 64;

struct FreePool {
  void operator()(rte_mempool* pool) const;
};
using PacketPool = std::unique_ptr<rte_mempool, FreePool>;

/// `private_bytes`: what a packet carries between threads, beside its data. On `numa_node` where it
/// has the memory, anywhere else.
std::expected<PacketPool, std::string> make_packet_pool(const config::Dataplane& dataplane,
                                                        std::uint32_t workers,
                                                        std::uint16_t private_bytes,
                                                        std::optional<std::uint32_t> numa_node);
/// Of kLargeBuffers, placed likewise. nullptr, logged: no device could send from one.
std::expected<PacketPool, std::string> make_large_pool(const config::Dataplane& dataplane,
                                                       std::uint16_t private_bytes,
                                                       std::optional<std::uint32_t> numa_node);

}  // namespace culvert::dataplane::ports
