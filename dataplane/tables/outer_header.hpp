// The outer header of an outbound SA, built once when it is installed or its endpoints change.
#pragma once

#include "channel/messages.hpp"
#include "dataplane/tables/sa.hpp"

namespace culvert::dataplane {

/// Where the identifications of an SA begin. Its IVs are its own under the key, and those of SAs
/// with one key begin 2^48 apart: so multiplied these begin apart, too (Knuth's constant).
[[nodiscard]] constexpr std::uint16_t identification_start(std::uint32_t iv_start) {
  return static_cast<std::uint16_t>((iv_start * 0x9e3779b1U) >> 16U);
}
/// RFC 4301 §5.1.2: what of the outer header does not depend on the packet. Ports as negotiated;
/// the UDP checksum is zero (RFC 3948 §2.1, RFC 6935 for IPv6). Without the salt, which is part of
/// the key. IPv4: a packet's identification is its number's lower half, changed by (exclusive or)
/// `identification_start`, which stands in its place here. It has SAs of one peer begin apart;
/// nothing keeps them so, and 16 bits go round (RFC 6864 §4.3, RFC 4963): pieces of two packets
/// that are put together have no right ICV.
[[nodiscard]] OuterHeader build_outer_header(const channel::InstallSa& spec, std::uint8_t hop_limit,
                                             std::uint16_t identification_start);

}  // namespace culvert::dataplane
