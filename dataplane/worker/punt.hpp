// What a worker hands to the main thread, and what the main thread gives a worker to send. A punted
// packet is the main thread's: it sends it on, delivers it, or counts it as dropped.
#pragma once

#include <cstdint>

#include "config/child_id.hpp"
#include "dataplane/tables/ids.hpp"
#include "wire/ip_address.hpp"

struct rte_mbuf;

namespace culvert::dataplane {

enum class PuntReason : std::uint8_t {
  arp,                 ///< Ethernet frame
  neighbor_discovery,  ///< Ethernet frame with an ICMPv6 message of types 133..137
  ike,                 ///< Ethernet frame, UDP 500 to one of our addresses
  ike_nat_traversal,   ///< Ethernet frame, UDP 4500 with the non-ESP marker
  ike_newcomer,        ///< either of these, of no IKE SA in IkeSpis
  resolve_neighbor,    ///< IP packet, ready to go but for the MAC of `next_hop` on `link`
  acquire,             ///< IP packet that met a trap: `child_id`
  ttl_exceeded,        ///< IP packet, TTL or hop limit 1
  packet_too_big,      ///< IP packet; `mtu` is what would have fitted
  no_route,            ///< IP packet
  port_unreachable,    ///< IP packet to one of our addresses, UDP port closed
  reassembly_timeout,  ///< IP packet to one of our addresses, the first fragment of one not whole
  policy_discarded,  ///< IP packet refused by policy: ICMP administratively prohibited may be sent
  path_too_big,      ///< IP packet to us: an ICMP error that may be about an SA of ours
  path_unreachable,  ///< IP packet to us: the same, of destination unreachable
  unknown_spi,       ///< Ethernet frame: a hint
};

/// Stands in the mbuf's private area; kPuntPrivateBytes are reserved there by the pool.
/// The mbuf's data begins where PuntReason says; `ip_offset` is where the IP header begins in it.
struct PuntedPacket {
  PuntReason reason{};
  PortId received_on{};
  bool from_tunnel = false;  ///< was decrypted by us, or answers what was
  bool originated = false;   ///< made by us (a reply): not a packet received in clear
  std::uint16_t ip_offset = 0;
  std::uint16_t mtu = 0;  ///< packet_too_big
  /// resolve_neighbor; unspecified: the packet's own destination. No index of an adjacency, which
  /// may be another's when the main thread comes to it.
  wire::IpAddress next_hop{};
  PortId link{};               ///< resolve_neighbor
  std::uint64_t policies = 0;  ///< resolve_neighbor: generation of those that let it go there
  config::ChildId child_id{};  ///< acquire
};
inline constexpr std::uint16_t kPuntPrivateBytes = 64;
static_assert(sizeof(PuntedPacket) <= kPuntPrivateBytes);

[[nodiscard]] PuntedPacket& punted(rte_mbuf* packet);

/// An SA's remote endpoint was seen elsewhere, by an authenticated packet; polled by the main
/// thread.
struct PeerMovedHint {
  std::uint64_t sa = 0;  ///< channel::SaId
  std::uint8_t address[16] = {};
  std::uint16_t port = 0;
  bool is_v6 = false;
};

enum class InjectKind : std::uint8_t {
  transmit,  ///< a complete Ethernet frame for `port`
  /// An IP packet of ours: policy, then route. No policy match: leaves in clear, if it does not
  /// answer what was decrypted.
  outbound_local,
  outbound_transit,  ///< a held packet of somebody's: policy and route again, as when it came in
  dummy,             ///< an IP packet without contents: `outbound` seals it as a dummy
};
struct InjectedPacket {
  InjectKind kind{};
  PortId port{};                 ///< transmit: where to; outbound_transit: where it came in
  bool from_tunnel = false;      ///< outbound_transit: decrypted; outbound_local: answers what was
  SlotIndex outbound = kNoSlot;  ///< dummy
  std::uint64_t sa = 0;          ///< dummy: channel::SaId, for the slot may be another's by then
};
static_assert(sizeof(InjectedPacket) <= kPuntPrivateBytes);
[[nodiscard]] InjectedPacket& injected(rte_mbuf* packet);

}  // namespace culvert::dataplane
