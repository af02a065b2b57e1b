// Outer headers of packets that go the short way (known_outbound.cpp), one struct for each shape:
// so many bytes in front of ESP, and how they are written for a packet of either family. What
// `Family` is stands in known_flows.hpp. Pure.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "dataplane/tables/sa.hpp"
#include "dataplane/worker/known_flows.hpp"
#include "wire/ip.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {

/// What the packets of a run share.
struct Around {
  Around(const OutboundSa& of, const OuterHeader& header)
      : sa(of),
        outer(header),
        iv_start(of.iv(0)),
        // Without version and length of the header, which come with the class of traffic.
        ipv4_sum(outer.ipv4_sum + (0xffffU - 0x45U)) {}

  const OutboundSa& sa;
  const OuterHeader& outer;
  std::uint64_t iv_start;
  std::uint32_t ipv4_sum;
};

/// Of the packet inside, as the first bytes of an outer IPv4 header lie in memory: version, length
/// of the header, and the class of traffic; DF of its flags. IPv6 inside cannot be fragmented on
/// the way, so the outer packet may not either (RFC 4301 §8.1).
template <typename Family>
[[nodiscard]] std::uint16_t begin_of_ipv4(const std::uint8_t* inner) {
  if constexpr (std::is_same_v<Family, Ipv4>) return wire::load_raw<std::uint16_t>(inner);
  return static_cast<std::uint16_t>(0x45U | (wire::load_u16(inner) << 4U & 0xff00U));
}
template <typename Family>
[[nodiscard]] std::uint32_t dont_fragment_of(const std::uint8_t* inner) {
  constexpr std::uint32_t kDontFragment = wire::Be16{wire::ipv4::kDontFragment}.raw();
  if constexpr (std::is_same_v<Family, Ipv6>) return kDontFragment;
  return wire::load_raw<std::uint16_t>(inner + wire::ipv4::kFragment) & kDontFragment;
}
/// The same of an outer IPv6 header: version, class of traffic, and no flow label.
template <typename Family>
[[nodiscard]] std::uint32_t begin_of_ipv6(const std::uint8_t* inner) {
  if constexpr (std::is_same_v<Family, Ipv6>) {
    return wire::load_raw<std::uint32_t>(inner) & wire::Be32{0xfff00000U}.raw();
  }
  return wire::Be32{0x60000000U | std::uint32_t{inner[1]} << 20U}.raw();
}

/// Identification and flags: `ready`, the outer header that a packet has a copy of, says where the
/// SA's identifications begin. RFC 6864 §4.1 leaves it open where nobody may
/// fragment the packet, as with IPv6 inside.
template <typename Family>
[[nodiscard]] std::uint32_t second_word(const std::uint8_t* ready, const std::uint8_t* inner,
                                        std::uint64_t sequence) {
  const std::uint32_t flags = dont_fragment_of<Family>(inner) << 16U;
  if constexpr (std::is_same_v<Family, Ipv6>) return flags;
  const std::uint32_t number = wire::Be32{static_cast<std::uint32_t>(sequence)}.raw();
  const auto start = wire::load_raw<std::uint32_t>(ready + wire::ipv4::kIdentification);
  return (number >> 16U ^ start) | flags;
}

/// The outer IPv4 header (RFC 4301 §5.1.2.1: DSCP and DF of the inner packet; RFC 6040 §4.1: ECN
/// too).
template <typename Family>
void put_outer_ipv4(std::uint8_t* ip, const Around& around, std::uint32_t packet_bytes,
                    const std::uint8_t* inner, std::uint64_t sequence) {
  const std::uint8_t* const ready = around.outer.bytes.data();
  // Version, length of the header and traffic class, as inside; total length.
  const std::uint32_t first = wire::Be32{packet_bytes}.raw() | begin_of_ipv4<Family>(inner);
  const std::uint32_t second = second_word<Family>(ready, inner, sequence);
  // Folded to 32 bits, and to 16 in the upper half, which is where the checksum stands.
  std::uint64_t sum = std::uint64_t{first} + second + around.ipv4_sum;
  sum = (sum & 0xffffffffU) + (sum >> 32U);
  const auto both_halves = static_cast<std::uint32_t>(sum);
  const std::uint32_t checksum = ~(both_halves + std::rotl(both_halves, 16)) & 0xffff0000U;
  wire::store_raw(ip, first);
  wire::store_raw(ip + 4, second);
  wire::store_raw(ip + 8, wire::load_raw<std::uint64_t>(ready + 8) | checksum);
  wire::store_raw(ip + 16, wire::load_raw<std::uint32_t>(ready + 16));
}
static_assert(wire::ipv4::kChecksum == 10);

/// UDP around ESP; the checksum is 0 (RFC 3948 §2.1).
inline void put_udp(std::uint8_t* udp, const OuterHeader& outer, std::uint32_t udp_bytes) {
  wire::store_raw(udp,
                  wire::load_raw<std::uint32_t>(outer.bytes.data() + wire::ipv4::kHeaderBytes));
  wire::store_raw(udp + 4, std::uint32_t{wire::Be16{static_cast<std::uint16_t>(udp_bytes)}.raw()});
}

/// ESP in IPv4.
struct InIpv4 {
  static constexpr std::uint32_t kBytes = wire::ipv4::kHeaderBytes;
  static bool is_shape_of(const OuterHeader& outer) {
    return outer.ip_bytes == wire::ipv4::kHeaderBytes && outer.udp_bytes == 0;
  }
  template <typename Family>
  static void put(std::uint8_t* ip, const Around& around, std::uint32_t packet_bytes,
                  const std::uint8_t* inner, std::uint64_t sequence) {
    put_outer_ipv4<Family>(ip, around, packet_bytes, inner, sequence);
  }
};
/// ESP in UDP in IPv4.
struct InUdp {
  static constexpr std::uint32_t kBytes = wire::ipv4::kHeaderBytes + wire::udp::kHeaderBytes;
  static bool is_shape_of(const OuterHeader& outer) {
    return outer.ip_bytes == wire::ipv4::kHeaderBytes && outer.udp_bytes != 0;
  }
  template <typename Family>
  static void put(std::uint8_t* ip, const Around& around, std::uint32_t packet_bytes,
                  const std::uint8_t* inner, std::uint64_t sequence) {
    put_outer_ipv4<Family>(ip, around, packet_bytes, inner, sequence);
    constexpr std::uint32_t kUdpAt = wire::ipv4::kHeaderBytes;
    put_udp(ip + kUdpAt, around.outer, packet_bytes - kUdpAt);
  }
};
/// ESP in IPv6 (RFC 4301 §5.1.2.2: the class of traffic of the packet inside, RFC 6040 §4.1: ECN
/// too).
struct InIpv6 {
  static constexpr std::uint32_t kBytes = wire::ipv6::kHeaderBytes;
  static bool is_shape_of(const OuterHeader& outer) {
    return outer.ip_bytes == wire::ipv6::kHeaderBytes && outer.udp_bytes == 0;
  }
  template <typename Family>
  static void put(std::uint8_t* ip, const Around& around, std::uint32_t packet_bytes,
                  const std::uint8_t* inner, std::uint64_t) {
    const std::uint8_t* const ready = around.outer.bytes.data();
    const std::uint64_t length =
        wire::Be16{static_cast<std::uint16_t>(packet_bytes - kBytes)}.raw();
    // Next header and hop limit are ready, and so is the version.
    wire::store_raw(
        ip, wire::load_raw<std::uint64_t>(ready) | length << 32U | begin_of_ipv6<Family>(inner));
    std::memcpy(ip + wire::ipv6::kSource, ready + wire::ipv6::kSource, 32);
  }
};

}  // namespace culvert::dataplane
