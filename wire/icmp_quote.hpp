// The packet that an ICMP or ICMPv6 error is about, as far as the error quotes it: its headers and
// as much behind them as the sender of the error saw fit (RFC 792, RFC 1812 §4.3.2.3, RFC 4443 §2.4
// c).
#pragma once

#include <algorithm>
#include <optional>

#include "wire/icmp.hpp"
#include "wire/ip.hpp"

namespace culvert::wire {

struct QuotedPacket {
  IpAddress source, destination;
  std::uint8_t protocol = 0;
  Ports ports;  ///< not known of a later fragment, and of what is quoted too shortly
};

/// Whether it is an error, or the first fragment of one. `header` is what `packet` was parsed to.
[[nodiscard]] inline bool begins_as_icmp_error(Bytes packet, const IpHeader& header) {
  const bool is_v4 = (packet[0] >> 4U) == 4;
  if (header.protocol != (is_v4 ? protocol::kIcmp : protocol::kIcmpv6)) [[likely]]
    return false;
  if (!header.has_upper_header || header.payload_bytes() < icmp::kHeaderBytes) return false;
  const std::uint8_t type = packet[header.payload_offset];
  return is_v4 ? icmp::is_error(type) : icmpv6::is_error(type);
}
/// Whether it is an error that may quote a packet: whole, for its quotation would stand in the
/// first fragment and its effect in all.
[[nodiscard]] inline bool is_icmp_error(Bytes packet, const IpHeader& header) {
  return begins_as_icmp_error(packet, header) && !header.is_fragment;
}

/// Where the upper layer of a quoted IPv4 packet begins. Its checksum is not asked: routers on its
/// way have counted a hop, some of them without renewing it.
[[nodiscard]] inline std::optional<IpHeader> parse_quoted_ipv4(Bytes quoted) {
  if (quoted.size() < ipv4::kHeaderBytes || (quoted[0] >> 4U) != 4) return std::nullopt;
  const std::size_t header_bytes = (quoted[0] & 0x0fU) * 4U;
  const std::size_t total = load_u16(quoted.data() + ipv4::kTotalLength);
  if (header_bytes < ipv4::kHeaderBytes || header_bytes > quoted.size() || header_bytes > total) {
    return std::nullopt;
  }
  const std::uint16_t fragment = load_u16(quoted.data() + ipv4::kFragment);
  IpHeader parsed;
  parsed.total_bytes = static_cast<std::uint16_t>(std::min(total, quoted.size()));
  parsed.payload_offset = static_cast<std::uint16_t>(header_bytes);
  parsed.protocol_offset = ipv4::kProtocol;
  parsed.protocol = quoted[ipv4::kProtocol];
  parsed.is_fragment = (fragment & (ipv4::kMoreFragments | ipv4::kOffsetMask)) != 0;
  parsed.has_upper_header = (fragment & ipv4::kOffsetMask) == 0;
  return parsed;
}

/// The same of IPv6. nullopt when the quotation ends among the extension headers: what is behind
/// them is not known.
[[nodiscard]] inline std::optional<IpHeader> parse_quoted_ipv6(Bytes quoted) {
  if (quoted.size() < ipv6::kHeaderBytes || (quoted[0] >> 4U) != 6) return std::nullopt;
  const std::size_t total = ipv6::kHeaderBytes + load_u16(quoted.data() + ipv6::kPayloadLength);
  const auto parsed =
      follow_extensions(quoted, std::min<std::size_t>({total, quoted.size(), UINT16_MAX}));
  return parsed ? std::optional(*parsed) : std::nullopt;
}

/// nullopt: it quotes no packet of its own family, or too little of it. Precondition:
/// `begins_as_icmp_error`.
[[nodiscard]] inline std::optional<QuotedPacket> read_quoted(Bytes packet, const IpHeader& header) {
  const Bytes quoted =
      packet.subspan(header.payload_offset, header.payload_bytes()).subspan(icmp::kHeaderBytes);
  const bool is_v4 = (packet[0] >> 4U) == 4;
  const auto inside = is_v4 ? parse_quoted_ipv4(quoted) : parse_quoted_ipv6(quoted);
  if (!inside) return std::nullopt;
  QuotedPacket result;
  if (is_v4) {
    result.source = IpAddress::v4(quoted.subspan(ipv4::kSource, 4));
    result.destination = IpAddress::v4(quoted.subspan(ipv4::kDestination, 4));
  } else {
    result.source = IpAddress::v6(quoted.subspan(ipv6::kSource, 16));
    result.destination = IpAddress::v6(quoted.subspan(ipv6::kDestination, 16));
  }
  result.protocol = inside->protocol;
  result.ports = read_ports(quoted, *inside);
  return result;
}

/// nullopt: it is no whole error, or `read_quoted` finds nothing.
[[nodiscard]] inline std::optional<QuotedPacket> quoted_packet(Bytes packet,
                                                               const IpHeader& header) {
  if (!is_icmp_error(packet, header)) return std::nullopt;
  return read_quoted(packet, header);
}

}  // namespace culvert::wire
