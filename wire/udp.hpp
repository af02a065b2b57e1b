// UDP headers, and what tells IKE from ESP on port 4500 (RFC 768, RFC 3948 §2).
#pragma once

#include <cstdint>

#include "wire/unaligned.hpp"

namespace culvert::wire::udp {

inline constexpr std::size_t kHeaderBytes = 8;
inline constexpr std::size_t kMarkerBytes = 4;  ///< non-ESP marker (RFC 3948 §2.2)
inline constexpr std::uint16_t kIkePort = 500, kNatTraversalPort = 4500;

/// What a datagram on port 4500 carries.
enum class Encapsulated : std::uint8_t { esp, ike, keepalive, truncated };

/// `payload`: what follows the UDP header. "The Non-ESP Marker is 4 zero-valued bytes" (RFC 3948
/// §2.2); a keepalive is one byte 0xff (§2.3). Fewer than four other bytes are neither.
[[nodiscard]] inline Encapsulated classify_nat_traversal(Bytes payload) {
  if (payload.size() == 1 && payload[0] == 0xff) return Encapsulated::keepalive;
  if (payload.size() < 4) return Encapsulated::truncated;
  return load_raw<std::uint32_t>(payload.data()) == 0 ? Encapsulated::ike : Encapsulated::esp;
}

/// The length field of the UDP header at the start of `datagram` (at least kHeaderBytes long);
/// 0 when it is impossible.
[[nodiscard]] inline std::size_t length_of(Bytes datagram) {
  const std::size_t length = load_u16(datagram.data() + 4);
  return length >= kHeaderBytes && length <= datagram.size() ? length : 0;
}

}  // namespace culvert::wire::udp
