// ICMP and ICMPv6 errors about packets we cannot pass on (RFC 792, RFC 1812 §4.3, RFC 4443). Pure:
// the packet's bytes in, the error's bytes out.
#pragma once

#include <cstdint>
#include <expected>

#include "wire/cursor.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane::control {

enum class IcmpErrorKind : std::uint8_t {
  time_exceeded,       ///< TTL or hop limit came to zero
  packet_too_big,      ///< IPv4: fragmentation needed and DF set (RFC 1191)
  host_unreachable,    ///< the neighbour does not answer; IPv6: address unreachable
  no_route,            ///< IPv4: network unreachable
  port_unreachable,    ///< nobody listens on our port
  reassembly_timeout,  ///< of the fragments for us some did not come: about the first of them
};

/// Why no error may be sent about a packet.
enum class IcmpRefusal : std::uint8_t {
  malformed,       ///< its header does not hold together
  about_an_error,  ///< it is itself an ICMP error or redirect, or an ICMP message cut short
  later_fragment,  ///< of IPv4 only the first fragment is reported (RFC 1122 §3.2.2)
  not_one_host,    ///< source or destination is multicast, broadcast, unspecified or loopback
};

/// IPv4 errors fill at most 576 bytes (RFC 1812 §4.3.2.3), IPv6 errors 1280 (RFC 4443 §2.4 c).
inline constexpr std::size_t kMaxIcmpv4ErrorBytes = 576;
inline constexpr std::size_t kMaxIcmpv6ErrorBytes = 1280;

/// Appends a whole IP packet from `source` (ours) to the sender of `offending`, an IP packet from
/// its first header byte on. `mtu` is used by packet_too_big only. `identification`: of an IPv4
/// packet, not that of another one to the same host lately (RFC 6864 §4.3).
std::expected<void, IcmpRefusal> build_icmp_error(wire::Writer& writer, IcmpErrorKind kind,
                                                  std::uint32_t mtu, const wire::IpAddress& source,
                                                  std::uint16_t identification,
                                                  wire::Bytes offending);

}  // namespace culvert::dataplane::control
