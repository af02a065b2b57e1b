// IPv6 neighbour solicitation and advertisement (RFC 4861 §4.3, §4.4), as whole IPv6 packets.
#pragma once

#include <cstdint>
#include <optional>

#include "wire/arp.hpp"
#include "wire/cursor.hpp"
#include "wire/ip_address.hpp"

namespace culvert::wire {

/// IPv6 header, ICMPv6 message and one link-layer address option.
inline constexpr std::size_t kNeighborMessageBytes = 40 + 24 + 8;

struct NeighborMessage {
  enum class Type : std::uint8_t { solicitation = 135, advertisement = 136 };
  Type type = Type::solicitation;
  IpAddress source;  ///< of the IPv6 header; unspecified: duplicate address detection
  IpAddress destination;
  IpAddress target;
  std::optional<MacAddress> link_layer;  ///< source (solicitation) or target option
  bool router = false;                   ///< advertisement flags
  bool solicited = false;
  bool override = false;

  friend bool operator==(const NeighborMessage&, const NeighborMessage&) = default;
};

/// A whole IPv6 packet, its Ethernet padding allowed. All checks of RFC 4861 §7.1.1 and §7.1.2:
/// hop limit 255, checksum, code, lengths, target, and the combinations that are forbidden; and no
/// neighbour's link-layer address is a group's.
Parsed<NeighborMessage> parse_neighbor_message(Bytes packet);
/// Appends the packet, checksum included; with `link_layer` its option.
void build_neighbor_message(Writer& writer, const NeighborMessage& message);

/// ff02::1:ffXX:XXXX (RFC 4291 §2.7.1). Precondition: an IPv6 address.
IpAddress solicited_node_multicast(const IpAddress& address);
/// 33:33 and the last four bytes (RFC 2464 §7). Precondition: an IPv6 multicast address.
MacAddress multicast_mac(const IpAddress& group);
/// ff02::1.
IpAddress all_nodes_multicast();
[[nodiscard]] inline bool is_multicast(const IpAddress& address) {
  return address.is_v4() ? (address.bytes[0] & 0xf0U) == 0xe0U : address.bytes[0] == 0xffU;
}
/// fe80::/10.
[[nodiscard]] inline bool is_link_local(const IpAddress& address) {
  return !address.is_v4() && address.bytes[0] == 0xfeU && (address.bytes[1] & 0xc0U) == 0x80U;
}

}  // namespace culvert::wire
