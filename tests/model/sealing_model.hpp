// What a sealed packet looks like outside: how long it is, its headers (RFC 4301 §5.1.2, RFC 6040
// §4), UDP in front of ESP (RFC 3948 §2.1), and its pieces (RFC 4301 §8).
#pragma once

#include <vector>

#include "tests/model/fragment_model.hpp"
#include "tests/model/ip_model.hpp"
#include "tests/model/sa_model.hpp"

namespace culvert::model {

inline constexpr std::size_t kLeastIpv6Mtu = 1280;  ///< RFC 8200 §5
inline constexpr unsigned kNatTraversalPort = 4500;

/// RFC 4303 §2: how long a packet of `total` bytes is with ESP: header, IV, padding and trailer up
/// to a whole block, ICV; UDP in front of it, and in tunnel mode an IP header.
inline std::size_t sealed_bytes(const OutboundModel& sa, std::size_t header_bytes,
                                std::size_t total) {
  const std::size_t outer_bytes = sa.transport ? header_bytes : sa.peer.is_v4() ? 20 : 40;
  const std::size_t payload_bytes = sa.transport ? total - header_bytes : total;
  std::size_t encrypted_bytes = payload_bytes + 2;
  while (encrypted_bytes % sizes_of(sa.keys).block != 0) ++encrypted_bytes;
  return outer_bytes + (sa.udp ? 8 : 0) + esp_around(sa.keys) + encrypted_bytes;
}
/// RFC 4301 §8.2.1: the largest packet that fits `mtu` with ESP, by trying each size.
inline std::size_t largest_inside(const OutboundModel& sa, std::size_t header_bytes,
                                  std::size_t mtu) {
  const std::size_t least = sa.transport ? header_bytes : 0;
  for (std::size_t total = mtu; total > least; --total) {
    if (sealed_bytes(sa, header_bytes, total) <= mtu) return total;
  }
  return 0;
}

/// Whether it is cut to fit once it is sealed. RFC 4301 §8.2.1: what may be cut gets through,
/// whatever is written into the outer header (§8.1). RFC 2473 §7.1: 1280 bytes of IPv6 pass every
/// tunnel.
inline bool is_cut_when_sealed(const OutboundModel& sa, bool may_cut_inside, const IpView& view) {
  if (!view.source.is_v4() && view.total_bytes <= kLeastIpv6Mtu) return true;
  if (may_cut_inside) return true;
  // RFC 4303 §3.1.1: transport mode has no header of its own.
  return !sa.transport && sa.headers.df == config::DontFragment::clear;
}

/// RFC 4303 §2.7: how long the packet becomes so that its size is hidden, as far as it fits.
inline std::size_t padded_bytes(const OutboundModel& sa, const IpView& view, std::size_t mtu) {
  if (sa.transport || sa.headers.tfc_padding <= view.total_bytes) return view.total_bytes;
  const std::size_t most = largest_inside(sa, view.header_bytes, mtu);
  return std::max(view.total_bytes, std::min<std::size_t>(sa.headers.tfc_padding, most));
}

/// The tunnel's header in front of `inner`; its lengths and checksums are 0 yet.
inline ByteString tunnel_header(const OutboundModel& sa, const ByteString& inner) {
  const unsigned inside = traffic_class_of(inner);
  // RFC 4301 §5.1.2.1 (5): the DSCP is copied, or mapped to one.
  const bool copies = sa.headers.copy_dscp == config::CopyDscp::out ||
                      sa.headers.copy_dscp == config::CopyDscp::both;
  const unsigned dscp = copies ? inside & 0xfcU : unsigned{sa.headers.dscp} << 2U;
  // RFC 6040 §4.1: normal mode copies the ECN field, compatibility mode clears it.
  const unsigned traffic_class = dscp | (sa.headers.copy_ecn ? inside & 3U : 0U);
  const bool v4_inside = inner[0] >> 4U == 4;
  const std::uint8_t protocol = sa.udp ? 17 : 50;
  ByteString header;
  if (sa.peer.is_v4()) {
    // RFC 4301 §8.1. Nobody on the way may cut IPv6.
    const bool df = sa.headers.df == config::DontFragment::copy
                        ? !v4_inside || (get16(inner, 6) & 0x4000U) != 0
                        : sa.headers.df == config::DontFragment::set;
    put16(header, 0x4500U | traffic_class);
    put32(header, 0);
    put16(header, df ? 0x4000U : 0U);
    put(header, {sa.headers.hop_limit, protocol, 0, 0});
  } else {
    // RFC 4301 §5.1.2.2 (6): "copied or configured"
    const bool copies_label = sa.headers.copy_flow_label && !v4_inside;
    const unsigned label = copies_label ? get32(inner, 0) & 0xfffffU : 0U;
    put32(header, 0x60000000U | traffic_class << 20U | label);
    put16(header, 0);
    put(header, {protocol, sa.headers.hop_limit});
  }
  for (const auto& address : {sa.here, sa.peer}) {
    header.insert(header.end(), address.view().begin(), address.view().end());
  }
  return header;
}

/// Transport mode (RFC 4303 §3.1.1): the packet's own header names ESP, or UDP, instead.
inline ByteString own_header(const OutboundModel& sa, const ByteString& ip,
                             std::size_t header_bytes) {
  ByteString header = slice(ip, 0, header_bytes);
  header[header[0] >> 4U == 4 ? 9 : 6] = sa.udp ? 17 : 50;
  return header;
}

/// A packet's headers as they are compared: without what its source may choose, an identification,
/// and what is looked at apart, a checksum. UDP's in front of ESP too, where it is there.
inline ByteString told_headers(const ByteString& ip, bool has_udp) {
  const std::size_t header_bytes = view_ip(ip).value().header_bytes;
  ByteString told = slice(ip, 0, header_bytes + (has_udp ? 8 : 0));
  const auto clear = [&](std::size_t at, std::size_t bytes) {
    std::fill_n(told.begin() + static_cast<std::ptrdiff_t>(at), bytes, std::uint8_t{0});
  };
  if (ip[0] >> 4U == 4) {
    clear(4, 2);
    clear(10, 2);
  } else if (header_bytes == 48) {
    clear(44, 4);
  }
  return told;
}

/// The same of a packet that is sealed, `bytes` long, or of each of its pieces. `inner`: an IP
/// packet, its hop counted.
inline std::vector<ByteString> sealed_headers(const OutboundModel& sa, const ByteString& inner,
                                              std::size_t bytes, std::size_t mtu) {
  const std::size_t inner_header_bytes = view_ip(inner).value().header_bytes;
  ByteString whole =
      sa.transport ? own_header(sa, inner, inner_header_bytes) : tunnel_header(sa, inner);
  const std::size_t header_bytes = whole.size();
  if (sa.udp) {
    put16(whole, kNatTraversalPort);
    put16(whole, kNatTraversalPort);
    put16(whole, static_cast<unsigned>(bytes - header_bytes));
    put16(whole, 0);
  }
  whole.resize(bytes);
  const bool v4 = whole[0] >> 4U == 4;
  set16(whole, v4 ? 2 : 4, static_cast<unsigned>(v4 ? bytes : bytes - 40));
  std::vector<ByteString> headers;
  for (const ByteString& piece : bytes > mtu ? cut(whole, mtu) : std::vector<ByteString>{whole}) {
    headers.push_back(told_headers(piece, sa.udp && headers.empty()));
  }
  return headers;
}

}  // namespace culvert::model
