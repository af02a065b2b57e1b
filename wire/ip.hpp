// IP headers of both families as a gateway needs them: where the upper layer begins, what it is,
// and that the lengths are possible (RFC 791, RFC 8200). Parsing yields a value that cannot point
// outside of the packet.
#pragma once

#include <array>
#include <cstdint>
#include <expected>

#include "wire/ip_address.hpp"
#include "wire/traffic_selector.hpp"
#include "wire/unaligned.hpp"

namespace culvert::wire {

enum class IpError : std::uint8_t {
  truncated,
  header_invalid,
  checksum_wrong,
  extension_unsupported,
  first_fragment_short,
};

struct IpHeader {
  std::uint16_t total_bytes = 0;      ///< header and payload; ≤ what was given
  std::uint16_t payload_offset = 0;   ///< of the upper-layer header; ≤ total_bytes
  std::uint16_t protocol_offset = 0;  ///< of the byte that names `protocol`
  std::uint8_t protocol = 0;          ///< upper layer, behind IPv6 extension headers
  bool is_fragment : 1 = false;
  bool has_upper_header : 1 = true;  ///< false for fragments that are not the first
  bool has_routing : 1 = false;      ///< a Routing header
  bool is_routed_on : 1 = false;     ///< one that names more hops to come (Segments Left is not 0)

  [[nodiscard]] std::size_t payload_bytes() const {
    return static_cast<std::size_t>(total_bytes - payload_offset);
  }
};

static_assert(sizeof(IpHeader) == 8);  // one register on its way through the stages

/// The version of the packet at `ip`, one octet of it at least.
[[nodiscard]] inline bool is_v4(const std::uint8_t* ip) { return (ip[0] >> 4U) == 4; }

/// Of packets that we make (RFC 1700; RFC 8200 leaves it to us).
inline constexpr std::uint8_t kOurHopLimit = 64;

/// Shapes of the fixed headers.
namespace ipv4 {
inline constexpr std::size_t kHeaderBytes = 20;
inline constexpr std::size_t kTotalLength = 2, kIdentification = 4, kFragment = 6, kTtl = 8,
                             kProtocol = 9, kChecksum = 10, kSource = 12, kDestination = 16;
inline constexpr std::uint16_t kDontFragment = 0x4000, kMoreFragments = 0x2000,
                               kOffsetMask = 0x1fff;
}  // namespace ipv4
namespace ipv6 {
inline constexpr std::size_t kHeaderBytes = 40, kFragmentHeaderBytes = 8;
inline constexpr std::size_t kPayloadLength = 4, kNextHeader = 6, kHopLimit = 7, kSource = 8,
                             kDestination = 24;
inline constexpr std::uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44,
                              kDestinationOptions = 60;
inline constexpr unsigned kMaxExtensionHeaders = 8;  ///< more than any honest packet has
/// Whether the upper layer is behind such a header, or behind others yet (RFC 8200 §4).
[[nodiscard]] constexpr bool is_extension(std::uint8_t type) {
  constexpr std::uint64_t kAll = std::uint64_t{1} << kHopByHop | std::uint64_t{1} << kRouting |
                                 std::uint64_t{1} << kFragment |
                                 std::uint64_t{1} << kDestinationOptions;
  return type < 64 && (kAll >> type & 1U) != 0;
}
}  // namespace ipv6

/// The sum of an IPv4 header's 16-bit words in memory order, folded to 16 bits. 0xffff means that
/// the checksum in it is right (RFC 1071).
[[nodiscard]] inline std::uint16_t ipv4_header_sum(const std::uint8_t* header,
                                                   std::size_t header_bytes) {
  std::uint64_t sum = load_raw<std::uint32_t>(header);
  for (std::size_t at = 4; at < ipv4::kHeaderBytes; at += 4) {
    sum += load_raw<std::uint32_t>(header + at);
  }
  for (std::size_t at = ipv4::kHeaderBytes; at < header_bytes; at += 4) [[unlikely]] {
    sum += load_raw<std::uint32_t>(header + at);
  }
  sum = (sum & 0xffffffffU) + (sum >> 32U);
  sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<std::uint16_t>((sum & 0xffffU) + (sum >> 16U));
}

/// Whether a sum of 16-bit words, or of wider ones, for 2^16 is 1 here, is zero in ones'
/// complement: a multiple of 0xffff. That of an odd number is told by one multiplication, by the
/// number's inverse modulo 2^64.
[[nodiscard]] constexpr bool is_zero_in_ones_complement(std::uint64_t sum) {
  constexpr std::uint64_t kMost = ~std::uint64_t{0} / 0xffffU;
  constexpr std::uint64_t kInverse = 0 - kMost;  // for 0xffff * kMost is -1
  static_assert(kInverse * 0xffffU == 1);
  return sum * kInverse <= kMost;
}

/// Whether the checksum of a header without options is right (RFC 791 §3.1). Precondition: the
/// header is not all zeros.
[[nodiscard]] inline bool plain_ipv4_checksum_is_right(const std::uint8_t* header) {
  static_assert(ipv4::kHeaderBytes == 20);
  std::uint64_t sum = load_raw<std::uint32_t>(header + 16);
  sum += load_raw<std::uint32_t>(header + 12);
  sum += load_raw<std::uint32_t>(header + 8);
  // What is carried out of the uppermost bit counts as 1.
  const std::uint64_t first = load_raw<std::uint64_t>(header);
  sum += first;
  sum += sum < first ? 1U : 0U;
  return is_zero_in_ones_complement(sum);
}

/// Writes the checksum of the header at `header`.
inline void write_ipv4_checksum(std::uint8_t* header, std::size_t header_bytes) {
  store_raw<std::uint16_t>(header + ipv4::kChecksum, 0);
  const auto sum = static_cast<std::uint16_t>(~ipv4_header_sum(header, header_bytes));
  store_raw(header + ipv4::kChecksum, sum);
}

/// One less, with the checksum kept right (RFC 1624). Precondition: TTL > 0.
inline void decrement_ttl(std::uint8_t* ipv4_header) {
  --ipv4_header[ipv4::kTtl];
  std::uint32_t sum = load_u16(ipv4_header + ipv4::kChecksum) + 0x0100U;
  sum += sum >= 0xffffU ? 1U : 0U;
  store_u16(ipv4_header + ipv4::kChecksum, static_cast<std::uint16_t>(sum));
}

/// `packet` begins at the IP version and may be longer than the IP packet (Ethernet's padding).
[[nodiscard]] inline std::expected<IpHeader, IpError> parse_ipv4(Bytes packet) {
  if (packet.size() < ipv4::kHeaderBytes) return std::unexpected(IpError::truncated);
  const std::uint8_t* const header = packet.data();
  const std::size_t header_bytes = (header[0] & 0x0fU) * 4U;
  if ((header[0] >> 4U) != 4 || header_bytes < ipv4::kHeaderBytes) {
    return std::unexpected(IpError::header_invalid);
  }
  const std::uint16_t total = load_u16(header + ipv4::kTotalLength);
  if (total < header_bytes) return std::unexpected(IpError::header_invalid);
  if (total > packet.size()) return std::unexpected(IpError::truncated);
  if (ipv4_header_sum(header, header_bytes) != 0xffff) {
    return std::unexpected(IpError::checksum_wrong);
  }
  const std::uint16_t fragment = load_u16(header + ipv4::kFragment);
  IpHeader parsed;
  parsed.total_bytes = total;
  parsed.payload_offset = static_cast<std::uint16_t>(header_bytes);
  parsed.protocol_offset = ipv4::kProtocol;
  parsed.protocol = header[ipv4::kProtocol];
  parsed.is_fragment = (fragment & (ipv4::kMoreFragments | ipv4::kOffsetMask)) != 0;
  parsed.has_upper_header = (fragment & ipv4::kOffsetMask) == 0;
  return parsed;
}

/// Follows hop-by-hop, routing, destination and fragment headers to the upper layer, in the first
/// `total` bytes of an IPv6 packet. Precondition: they are there, no fewer than its own header and
/// no more than 65535.
[[nodiscard]] inline std::expected<IpHeader, IpError> follow_extensions(Bytes packet,
                                                                        std::size_t total) {
  IpHeader parsed;
  parsed.total_bytes = static_cast<std::uint16_t>(total);
  parsed.protocol_offset = ipv6::kNextHeader;
  parsed.protocol = packet[ipv6::kNextHeader];
  std::size_t at = ipv6::kHeaderBytes;
  for (unsigned count = 0;; ++count) {
    const std::uint8_t type = parsed.protocol;
    if (!ipv6::is_extension(type) || !parsed.has_upper_header) break;
    const bool is_options = type != ipv6::kFragment;
    if (count == ipv6::kMaxExtensionHeaders || at + 8 > total) {
      return std::unexpected(IpError::extension_unsupported);
    }
    const std::uint8_t* const extension = packet.data() + at;
    std::size_t extension_bytes = 8;
    if (is_options) {
      extension_bytes = (extension[1] + 1U) * 8U;
      if (type == ipv6::kRouting) {
        parsed.has_routing = true;
        if (extension[3] != 0) parsed.is_routed_on = true;
      }
    } else {
      const std::uint16_t fragment = load_u16(extension + 2);
      // Offset and M; neither: RFC 6946 atomic, which makes no whole of a piece that has it inside.
      if ((fragment & 0xfff9U) != 0) parsed.is_fragment = true;
      parsed.has_upper_header = (fragment & 0xfff8U) == 0;
    }
    if (at + extension_bytes > total) return std::unexpected(IpError::extension_unsupported);
    parsed.protocol_offset = static_cast<std::uint16_t>(at);
    parsed.protocol = extension[0];
    at += extension_bytes;
  }
  parsed.payload_offset = static_cast<std::uint16_t>(at);
  return parsed;
}

/// How much of an upper layer's header a first fragment has at least.
[[nodiscard]] constexpr std::size_t least_upper_bytes(std::uint8_t upper) {
  switch (upper) {
    case protocol::kTcp:
      return 20;
    case protocol::kUdp:
    case protocol::kEsp:
      return 8;
    case protocol::kIcmpv6:
      return 4;
    case protocol::kSctp:
      return 12;
    case protocol::kIpv4:
      return ipv4::kHeaderBytes;
    case protocol::kIpv6:
      return ipv6::kHeaderBytes;
    case protocol::kNoNextHeader:
      return 0;
    default:  // a number, not an enum
      return 1;
  }
}

/// `packet` as in `parse_ipv4`. The upper layer is behind all extension headers. "If the first
/// fragment does not include all headers through an Upper-Layer header, then that fragment should
/// be discarded" (RFC 8200 §4.5; RFC 7112 §5): policy would not see what it is.
[[nodiscard]] inline std::expected<IpHeader, IpError> parse_ipv6(Bytes packet) {
  if (packet.size() < ipv6::kHeaderBytes) return std::unexpected(IpError::truncated);
  if ((packet[0] >> 4U) != 6) return std::unexpected(IpError::header_invalid);
  const std::size_t total = ipv6::kHeaderBytes + load_u16(packet.data() + ipv6::kPayloadLength);
  if (total > packet.size()) return std::unexpected(IpError::truncated);
  if (total > UINT16_MAX) return std::unexpected(IpError::header_invalid);
  const auto parsed = follow_extensions(packet, total);
  if (parsed && parsed->is_fragment && parsed->has_upper_header &&
      parsed->payload_bytes() < least_upper_bytes(parsed->protocol)) [[unlikely]] {
    return std::unexpected(IpError::first_fragment_short);
  }
  return parsed;
}

/// By the version in the first byte.
[[nodiscard]] inline std::expected<IpHeader, IpError> parse_ip(Bytes packet) {
  if (packet.empty()) return std::unexpected(IpError::truncated);
  const unsigned version = packet[0] >> 4U;
  if (version == 4) return parse_ipv4(packet);
  if (version == 6) return parse_ipv6(packet);
  return std::unexpected(IpError::header_invalid);
}

/// What of a protocol's header stands for its ports.
enum class PortsAt : std::uint8_t { none, ports, icmp };
inline constexpr auto kPortsOfProtocol = [] {
  constexpr std::uint8_t kDccp = 33, kUdpLite = 136;
  std::array<PortsAt, 256> table{};
  for (const std::uint8_t number :
       {protocol::kTcp, protocol::kUdp, protocol::kSctp, kDccp, kUdpLite}) {
    table[number] = PortsAt::ports;
  }
  table[protocol::kIcmp] = table[protocol::kIcmpv6] = PortsAt::icmp;
  return table;
}();

/// The upper layer's ports in host order, the selectors of RFC 4301 §4.4.1.1. ICMP: type << 8 |
/// code in both. Protocols without: zeros.

struct Ports {
  std::uint16_t source = 0, destination = 0;
  bool known = true;  ///< false: a later fragment, or the packet ends before them
};
[[nodiscard]] inline Ports read_ports(Bytes packet, const IpHeader& header) {
  const PortsAt at = kPortsOfProtocol[header.protocol];
  if (!header.has_upper_header) return {0, 0, false};
  if (at == PortsAt::none) return {};
  if (header.payload_bytes() < 4) return {0, 0, false};
  const std::uint8_t* const upper = packet.data() + header.payload_offset;
  if (at == PortsAt::icmp) return {load_u16(upper), load_u16(upper), true};
  return {load_u16(upper), load_u16(upper + 2), true};
}

}  // namespace culvert::wire
