// ICMP and ICMPv6: the types a gateway looks at (RFC 792, RFC 4443, RFC 4861).
#pragma once

#include <cstddef>
#include <cstdint>

namespace culvert::wire::icmp {

inline constexpr std::size_t kHeaderBytes = 8;
inline constexpr std::uint8_t kEchoReply = 0, kUnreachable = 3, kEchoRequest = 8;
inline constexpr std::uint8_t kFragmentationNeeded = 4;  ///< code of kUnreachable
inline constexpr std::uint8_t kTimeExceeded = 11, kParameterProblem = 12;

/// Quotes a packet and tells its sender what became of it. Not source quench, which nobody is to
/// heed any more (RFC 6633), nor a redirect, which is for hosts on the router's own link.
[[nodiscard]] constexpr bool is_error(std::uint8_t type) {
  return type == kUnreachable || type == kTimeExceeded || type == kParameterProblem;
}

}  // namespace culvert::wire::icmp

namespace culvert::wire::icmpv6 {

inline constexpr std::uint8_t kUnreachable = 1, kPacketTooBig = 2, kParameterProblem = 4;
inline constexpr std::uint8_t kEchoRequest = 128, kEchoReply = 129;
inline constexpr std::uint8_t kRouterSolicitation = 133, kRedirect = 137;

/// As in `icmp`: unreachable, too big, time exceeded, parameter problem (RFC 4443 §3).
[[nodiscard]] constexpr bool is_error(std::uint8_t type) {
  return type >= kUnreachable && type <= kParameterProblem;
}
[[nodiscard]] constexpr bool is_neighbor_discovery(std::uint8_t type) {
  return type >= kRouterSolicitation && type <= kRedirect;
}

}  // namespace culvert::wire::icmpv6
