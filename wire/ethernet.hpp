// Ethernet II frames (IEEE 802.3 §3.2).
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "wire/unaligned.hpp"

namespace culvert::wire::ethernet {

inline constexpr std::size_t kHeaderBytes = 14;
inline constexpr std::uint16_t kIpv4 = 0x0800, kArp = 0x0806, kIpv6 = 0x86dd;
inline constexpr std::size_t kAddressesBytes = 12;  ///< destination and source, in front of tags

/// Precondition for all: `frame` holds at least kHeaderBytes.
[[nodiscard]] inline std::uint16_t type_of(Bytes frame) { return load_u16(frame.data() + 12); }
/// Broadcast and multicast have the lowest bit of the first byte set.
[[nodiscard]] inline bool is_for_a_group(Bytes frame) { return (frame[0] & 1U) != 0; }
[[nodiscard]] inline bool is_for(Bytes frame, const std::array<std::uint8_t, 6>& station) {
  return std::memcmp(frame.data(), station.data(), station.size()) == 0;
}

}  // namespace culvert::wire::ethernet
