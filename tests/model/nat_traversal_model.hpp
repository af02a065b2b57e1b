// What may be ESP for a gateway, by itself or in UDP, and what else comes on its port (RFC 3948
// §2).
#pragma once

#include <cstdint>
#include <optional>
#include <set>

#include "tests/model/fragment_model.hpp"
#include "tests/model/ip_model.hpp"
#include "tests/model/sealing_model.hpp"

namespace culvert::model {

/// RFC 768: "Length is the length in octets of this user datagram including this header and the
/// data." nullopt: it cannot be.
inline std::optional<ByteString> udp_data(const ByteString& datagram) {
  if (datagram.size() < 8) return std::nullopt;
  const std::size_t length = get16(datagram, 4);
  if (length < 8 || length > datagram.size()) return std::nullopt;
  return slice(datagram, 8, length - 8);
}

struct Encrypted {
  ByteString esp;                       ///< from the SPI on, if that is what it is
  std::optional<unsigned> source_port;  ///< in UDP
};

/// nullopt: it is another protocol, for another port, or a fragment.
inline std::optional<Encrypted> encrypted_in(const ByteString& ip) {
  if (is_fragment(ip)) return std::nullopt;
  const IpView view = view_ip(ip).value();
  const std::size_t bytes = view.total_bytes - view.header_bytes;
  const bool may_be_in_udp =
      view.protocol == 17 && bytes >= 8 && get16(ip, view.header_bytes + 2) == kNatTraversalPort;
  if (view.protocol != 50 && !may_be_in_udp) return std::nullopt;
  const ByteString payload = slice(ip, view.header_bytes, bytes);
  if (view.protocol == 50) return Encrypted{payload, std::nullopt};
  return Encrypted{udp_data(payload).value_or(ByteString{}), get16(payload, 0)};
}

/// §2.3: "a single octet … 0xFF"
inline bool is_keepalive(const ByteString& data) { return data == ByteString{0xff}; }
/// §2.2: "4 zero-valued bytes" in front of IKE, where ESP has its SPI.
inline bool has_marker(const ByteString& data) { return data.size() >= 4 && get32(data, 0) == 0; }

/// RFC 7296 §3.1: the initiator's SPI, the responder's; in the flags, whether the sender is the
/// initiator: then the recipient is known by the responder's.
inline bool names_ike_sa(const ByteString& message, const std::set<std::uint64_t>& known) {
  if (message.size() < 20) return false;
  const std::size_t ours = (message[19] & 0x08U) != 0 ? 8 : 0;
  return known.contains(std::uint64_t{get32(message, ours)} << 32U | get32(message, ours + 4));
}

/// RFC 3948 §3.1.2: what transport mode brings through a NAT has a checksum over addresses that
/// were changed. One that UDP goes without stays away (RFC 768), and what cannot be UDP has none.
inline ByteString with_upper_checksum(ByteString ip) {
  IpView view = view_ip(ip).value();
  const bool is_udp = view.protocol == 17;
  const std::size_t bytes = view.total_bytes - view.header_bytes, least = is_udp ? 8 : 20;
  const std::size_t at = view.header_bytes + (is_udp ? 6 : 16);
  if ((!is_udp && view.protocol != 6) || bytes < least) return ip;
  if (is_udp && get16(ip, at) == 0) return ip;
  if (is_udp) {
    const auto data = udp_data(slice(ip, view.header_bytes, bytes));
    if (!data) return ip;
    view.total_bytes = view.header_bytes + 8 + data->size();  // RFC 4303 §2.7: padding is behind
  }
  set16(ip, at, 0);
  const unsigned sum = upper_checksum(ip, view);
  set16(ip, at, is_udp && sum == 0 ? 0xffffU : sum);
  return ip;
}

}  // namespace culvert::model
