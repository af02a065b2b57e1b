// ICMP and ICMPv6: the types a gateway looks at (RFC 792, RFC 4443, RFC 4861).
#pragma once

#include <cstdint>

namespace culvert::wire::icmp {

inline constexpr std::size_t kHeaderBytes = 8;
inline constexpr std::uint8_t kEchoReply = 0, kUnreachable = 3, kEchoRequest = 8;
inline constexpr std::uint8_t kFragmentationNeeded = 4;  ///< code of kUnreachable

}  // namespace culvert::wire::icmp

namespace culvert::wire::icmpv6 {

inline constexpr std::uint8_t kPacketTooBig = 2;
inline constexpr std::uint8_t kEchoRequest = 128, kEchoReply = 129;
inline constexpr std::uint8_t kRouterSolicitation = 133, kRedirect = 137;

[[nodiscard]] constexpr bool is_neighbor_discovery(std::uint8_t type) {
  return type >= kRouterSolicitation && type <= kRedirect;
}

}  // namespace culvert::wire::icmpv6
