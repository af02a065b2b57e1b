// From a packet to an ESP packet that is ready to be sealed (RFC 4303 §3.3, RFC 4301 §5.1.2).
// Pure: bytes and SA state, no DPDK.
#pragma once

#include <cstdint>
#include <expected>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/sa.hpp"
#include "wire/esp.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane {

/// Padding, trailer and ICV of any suite, at most.
inline constexpr std::size_t kMostBehindPacket = 64;

/// What an SA adds around a packet.
struct EspShape {
  crypto::esp::Form form{};
  std::uint16_t in_front = 0;       ///< outer IP, UDP, ESP header and IV
  std::uint16_t payload_bytes = 0;  ///< what is encrypted, without the trailer
  std::uint16_t padding = 0;
  std::uint16_t packet_bytes = 0;  ///< the whole result, outer IP header included

  [[nodiscard]] std::uint16_t behind() const {
    return static_cast<std::uint16_t>(padding + wire::esp::kTrailerBytes + form.icv_bytes);
  }
};
[[nodiscard]] inline EspShape shape_of(const OutboundSa& sa, const OuterHeader& outer,
                                       const wire::IpHeader& header) {
  // Tunnel: all of the packet is payload. Transport: what follows its IP headers.
  const std::size_t payload = sa.is_tunnel ? header.total_bytes : header.payload_bytes();
  const crypto::esp::Form form = crypto::esp::form_of(outer.transform);
  const std::size_t padding = wire::esp::padding_for(payload, form.alignment);
  const std::size_t in_front =
      outer.ip_bytes + outer.udp_bytes + wire::esp::kHeaderBytes + form.iv_bytes;
  const std::size_t total =
      header.total_bytes + in_front + padding + wire::esp::kTrailerBytes + form.icv_bytes;
  return {form, static_cast<std::uint16_t>(in_front), static_cast<std::uint16_t>(payload),
          static_cast<std::uint16_t>(padding), static_cast<std::uint16_t>(total)};
}

/// Of an outer IPv4 header that may be fragmented (build_outer_header).
[[nodiscard]] inline std::uint16_t identification_of(const OuterHeader& outer,
                                                     std::uint64_t sequence) {
  const std::uint16_t start = wire::load_u16(outer.bytes.data() + wire::ipv4::kIdentification);
  return static_cast<std::uint16_t>(start ^ sequence);
}

/// The largest packet that, protected, fits `mtu`: what ICMP tells the sender (RFC 4301 §8.2).
[[nodiscard]] std::uint16_t mtu_inside(const OutboundSa& sa, const OuterHeader& outer,
                                       const wire::IpHeader& header, std::uint16_t mtu);

/// The result: where the outer packet begins and where ESP does.
struct Encapsulated {
  std::uint8_t* ip = nullptr;
  std::uint8_t* esp = nullptr;
};

/// Builds everything but ciphertext and ICV around the packet at `ip`. The caller has checked that
/// `shape.in_front` bytes before and `shape.behind()` behind it are the packet's own.
[[nodiscard]] Encapsulated encapsulate(const OutboundSa& sa, const OuterHeader& outer,
                                       const EspShape& shape, std::uint8_t* ip,
                                       const wire::IpHeader& header, std::uint64_t sequence);

/// UDP over IPv6 wants a checksum (RFC 8200 §8.1), which covers the ciphertext. `udp` may be behind
/// extension headers.
void finish_ipv6_udp(std::uint8_t* ip, std::uint8_t* udp, std::size_t udp_bytes);

}  // namespace culvert::dataplane
