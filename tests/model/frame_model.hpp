// What is wrong with a frame or with the headers of the packet in it, in the order in which a
// gateway comes to it (RFC 1122 §3.2.1, RFC 8200 §3, §4).
#pragma once

#include <algorithm>
#include <optional>

#include "dataplane/tables/drop_reason.hpp"
#include "tests/model/ip_model.hpp"
#include "tests/model/packet.hpp"

namespace culvert::model {

inline constexpr std::size_t kEthernetBytes = 14;
inline constexpr unsigned kIpv4Type = 0x0800, kIpv6Type = 0x86dd, kArpType = 0x0806;

/// IEEE 802-2014 §8.2.2: the first bit on the wire says that the address is a group's.
inline bool is_for_group(const ByteString& frame) { return (frame[0] & 1U) != 0; }
inline bool is_for(const ByteString& frame, const ByteString& mac) {
  return std::equal(mac.begin(), mac.end(), frame.begin());
}

/// RFC 1122 §3.2.1.1, §3.2.1.2: nullopt: there is nothing wrong.
inline std::optional<dataplane::DropReason> wrong_with_ipv4(const ByteString& ip) {
  using dataplane::DropReason;
  if (ip.size() < 20) return DropReason::truncated_packet;
  const std::size_t header_bytes = (ip[0] & 0x0fU) * std::size_t{4};
  if (ip[0] >> 4U != 4 || header_bytes < 20) return DropReason::ipv4_header_invalid;
  if (get16(ip, 2) < header_bytes) return DropReason::ipv4_header_invalid;
  if (get16(ip, 2) > ip.size()) return DropReason::truncated_packet;
  if (internet_checksum(slice(ip, 0, header_bytes)) != 0) return DropReason::ipv4_checksum_wrong;
  return std::nullopt;
}

inline std::optional<dataplane::DropReason> wrong_with_ipv6(const ByteString& ip) {
  using dataplane::DropReason;
  if (ip.size() < 40) return DropReason::truncated_packet;
  if (ip[0] >> 4U != 6) return DropReason::ipv6_header_invalid;
  const std::size_t total = 40 + get16(ip, 4);
  if (total > ip.size()) return DropReason::truncated_packet;
  const auto view = view_ip(ip);
  // One that is not all there, or more than are followed; 44: a fragment header that is not.
  if (!view || view->protocol == 44) return DropReason::ipv6_extension_unsupported;
  if (lacks_upper_header(ip, *view)) return DropReason::fragment_invalid;
  return std::nullopt;
}

/// Without what Ethernet puts behind a short one.
inline ByteString unpadded(const ByteString& ip) {
  return slice(ip, 0, ip[0] >> 4U == 4 ? get16(ip, 2) : 40 + get16(ip, 4));
}

}  // namespace culvert::model
