// What a gateway reads in a packet and changes in it (RFC 791, 8200, 792, 4443).
#pragma once

#include <algorithm>
#include <optional>
#include <utility>

#include "dataplane/tables/spd.hpp"
#include "tests/model/packet.hpp"

namespace culvert::model {

struct IpView {
  wire::IpAddress source, destination;
  std::uint8_t protocol = 0;
  std::uint8_t hops = 0;
  std::size_t header_bytes = 0;  ///< in front of the upper layer
  std::size_t total_bytes = 0;
  bool later_fragment = false;
};

/// RFC 8200 §4: hop-by-hop options, routing, destination options. A gateway follows so many.
inline bool has_options_behind(std::uint8_t type) { return type == 0 || type == 43 || type == 60; }
inline constexpr unsigned kMostExtensions = 8;

/// Sound packets only; of IPv6 with a fragment header behind no other and in front of none, which
/// are all that the test makes.
inline std::optional<IpView> view_ip(const ByteString& ip) {
  IpView view;
  if (ip.size() >= 20 && ip[0] >> 4U == 4) {
    view.header_bytes = (ip[0] & 0x0fU) * std::size_t{4};
    view.total_bytes = get16(ip, 2);
    if (view.header_bytes < 20 || view.total_bytes < view.header_bytes ||
        view.total_bytes > ip.size()) {
      return std::nullopt;
    }
    view.later_fragment = (get16(ip, 6) & 0x1fffU) != 0;
    view.hops = ip[8];
    view.protocol = ip[9];
    view.source = wire::IpAddress::v4(get32(ip, 12));
    view.destination = wire::IpAddress::v4(get32(ip, 16));
    return view;
  }
  if (ip.size() < 40 || ip[0] >> 4U != 6) return std::nullopt;
  view.header_bytes = 40;
  view.total_bytes = 40 + get16(ip, 4);
  if (view.total_bytes > ip.size()) return std::nullopt;
  view.protocol = ip[6];
  for (unsigned count = 0; has_options_behind(view.protocol); ++count) {
    const std::size_t at = view.header_bytes;
    if (count == kMostExtensions || at + 8 > view.total_bytes) return std::nullopt;
    view.protocol = ip[at];
    view.header_bytes += 8 * (std::size_t{ip[at + 1]} + 1);
    if (view.header_bytes > view.total_bytes) return std::nullopt;
  }
  if (view.header_bytes == 40 && view.protocol == 44 && view.total_bytes >= 48) {
    view.protocol = ip[40];
    view.header_bytes = 48;
    view.later_fragment = (get16(ip, 42) & 0xfff8U) != 0;
  }
  view.hops = ip[7];
  view.source = wire::IpAddress::v6(wire::Bytes(ip.data() + 8, 16));
  view.destination = wire::IpAddress::v6(wire::Bytes(ip.data() + 24, 16));
  return view;
}

/// RFC 8200 §4.5, RFC 7112 §5: of an IPv6 packet's first fragment, which has all headers through
/// the upper layer's or is none.
inline bool lacks_upper_header(const ByteString& ip, const IpView& view) {
  const bool is_first =
      ip[0] >> 4U == 6 && ip[6] == 44 && !view.later_fragment && (get16(ip, 42) & 1U) != 0;
  if (!is_first) return false;
  std::size_t least = 1;
  if (view.protocol == 6) least = 20;                         // RFC 9293 §3.1
  if (view.protocol == 17 || view.protocol == 50) least = 8;  // RFC 768, RFC 4303 §2
  if (view.protocol == 58) least = 4;                         // RFC 4443 §2.1
  return view.total_bytes - view.header_bytes < least;
}

/// RFC 4301 §4.4.1.1: ports of TCP and UDP, type and code of ICMP on both sides; OPAQUE where a
/// fragment or a packet's end hides them.
inline dataplane::FlowKey flow_of(const ByteString& ip, const IpView& view) {
  dataplane::FlowKey key;
  key.source = view.source;
  key.destination = view.destination;
  key.protocol = view.protocol;
  key.ports_known = !view.later_fragment;
  const bool has_ports = view.protocol == 6 || view.protocol == 17;
  const bool is_icmp = view.protocol == 1 || view.protocol == 58;
  if (view.later_fragment || (!has_ports && !is_icmp)) return key;
  if (view.total_bytes - view.header_bytes < 4) {
    key.ports_known = false;
    return key;
  }
  key.source_port = static_cast<std::uint16_t>(get16(ip, view.header_bytes));
  key.destination_port =
      static_cast<std::uint16_t>(get16(ip, view.header_bytes + (is_icmp ? 0 : 2)));
  return key;
}

/// RFC 791: the header's checksum over what it says now.
inline ByteString with_checksum(ByteString ip) {
  if (ip[0] >> 4U == 6) return ip;
  ip[10] = ip[11] = 0;
  const unsigned sum = internet_checksum(slice(ip, 0, (ip[0] & 0x0fU) * std::size_t{4}));
  ip[10] = static_cast<std::uint8_t>(sum >> 8U);
  ip[11] = static_cast<std::uint8_t>(sum);
  return ip;
}

/// RFC 3168 §5. Congestion is marked on what is capable.
inline constexpr unsigned kNotCapable = 0, kCapable1 = 1, kCapable0 = 2, kCongestion = 3;
/// TOS, or traffic class: DSCP and ECN field.
inline unsigned traffic_class_of(const ByteString& ip) {
  return ip[0] >> 4U == 4 ? ip[1] : get16(ip, 0) >> 4U & 0xffU;
}
inline ByteString with_traffic_class(ByteString ip, unsigned traffic_class) {
  if (ip[0] >> 4U == 4) {
    ip[1] = static_cast<std::uint8_t>(traffic_class);
  } else {
    set16(ip, 0, (get16(ip, 0) & 0xf00fU) | traffic_class << 4U);
  }
  return with_checksum(std::move(ip));
}
inline unsigned ecn_of(const ByteString& ip) { return traffic_class_of(ip) & 3U; }
inline ByteString with_ecn(ByteString ip, unsigned ecn) {
  const unsigned traffic_class = (traffic_class_of(ip) & 0xfcU) | ecn;
  return with_traffic_class(std::move(ip), traffic_class);
}
/// RFC 6040 §4.2, figure 4: of a packet that leaves a tunnel. nullopt: it is dropped.
inline std::optional<unsigned> ecn_inside(unsigned inner, unsigned outer) {
  if (inner == kNotCapable) return outer == kCongestion ? std::nullopt : std::optional(inner);
  if (outer == kCongestion) return outer;
  return inner == kCapable0 && outer == kCapable1 ? outer : inner;
}

/// RFC 1812 §5.3.1: one hop less, and the header's checksum anew.
inline ByteString one_hop_on(ByteString ip) {
  if (ip[0] >> 4U == 6) {
    --ip[7];
    return ip;
  }
  --ip[8];
  return with_checksum(std::move(ip));
}

/// RFC 4303 §3.1.1: `around` is the packet that had ESP in it; its header says what was inside.
inline ByteString without_esp(const ByteString& around, std::uint8_t next_header,
                              const ByteString& payload) {
  const bool v4 = around[0] >> 4U == 4;
  const std::size_t header_bytes = view_ip(around).value().header_bytes;
  ByteString ip = slice(around, 0, header_bytes);
  put(ip, payload);
  const std::size_t length = v4 ? ip.size() : ip.size() - 40;
  const std::size_t length_at = v4 ? 2 : 4;
  ip[length_at] = static_cast<std::uint8_t>(length >> 8U);
  ip[length_at + 1] = static_cast<std::uint8_t>(length);
  ip[v4 ? 9 : header_bytes == 40 ? 6 : 40] = next_header;
  return with_checksum(std::move(ip));
}

/// RFC 768, RFC 9293 §3.1, RFC 8200 §8.1: over addresses, length and protocol, and what follows the
/// header.
inline unsigned upper_checksum(const ByteString& ip, const IpView& view) {
  const ByteString upper = slice(ip, view.header_bytes, view.total_bytes - view.header_bytes);
  ByteString summed = view.source.is_v4() ? slice(ip, 12, 8) : slice(ip, 8, 32);
  put32(summed, upper.size());
  put32(summed, view.protocol);
  put(summed, upper);
  return internet_checksum(summed);
}

/// RFC 792, RFC 4443 §2.3: over the message, in IPv6 over addresses, length and protocol, too.
inline unsigned icmp_checksum(const ByteString& ip, const IpView& view) {
  if (view.protocol == 58) return upper_checksum(ip, view);
  return internet_checksum(slice(ip, view.header_bytes, view.total_bytes - view.header_bytes));
}

/// RFC 791 §3.1: loose or strict, a source route among an IPv4 packet's options.
inline bool has_source_route(const ByteString& ip) {
  if (ip[0] >> 4U != 4) return false;
  const ByteString options = slice(ip, 20, (ip[0] & 0x0fU) * std::size_t{4} - 20);
  for (std::size_t at = 0; at < options.size() && options[at] != 0;) {
    if (options[at] == 131 || options[at] == 137) return true;
    at += options[at] == 1 ? 1 : options[at + 1];
  }
  return false;
}

/// RFC 792, RFC 4443 §4.2: what an echo request is answered with, from the address it was for. In
/// IPv4 with a header that is the answer's own but for the type of service: no options, may be cut;
/// an identification is its source's to choose.
inline ByteString echo_reply(ByteString ip, const IpView& view) {
  constexpr std::uint8_t kFirstHops = 64;
  const bool v4 = view.protocol == 1;
  if (v4) {
    const ByteString message = slice(ip, view.header_bytes, view.total_bytes - view.header_bytes);
    ip.resize(20);
    ip[0] = 0x45;
    put(ip, message);
    set16(ip, 2, static_cast<unsigned>(ip.size()));
    std::fill_n(ip.begin() + 4, 4, std::uint8_t{0});
  }
  const std::ptrdiff_t source = v4 ? 12 : 8, bytes = v4 ? 4 : 16;
  std::swap_ranges(ip.begin() + source, ip.begin() + source + bytes, ip.begin() + source + bytes);
  ip[v4 ? 8 : 7] = kFirstHops;
  const std::size_t icmp = v4 ? 20 : view.header_bytes;
  ip[icmp] = v4 ? 0 : 129;
  ip[icmp + 2] = ip[icmp + 3] = 0;
  const unsigned sum = icmp_checksum(ip, view_ip(ip).value());
  ip[icmp + 2] = static_cast<std::uint8_t>(sum >> 8U);
  ip[icmp + 3] = static_cast<std::uint8_t>(sum);
  return with_checksum(std::move(ip));
}

}  // namespace culvert::model
