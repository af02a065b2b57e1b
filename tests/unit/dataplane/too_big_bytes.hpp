// What a router says of a packet that it could not pass on, with right checksums: ICMP
// "fragmentation needed", ICMPv6 "packet too big" and others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "wire/checksum.hpp"
#include "wire/icmp.hpp"
#include "wire/ip.hpp"

namespace culvert::test {

/// An IP header of a packet of `total` bytes.
inline std::vector<std::uint8_t> ip_header(std::uint8_t protocol, std::size_t total,
                                           const wire::IpAddress& from, const wire::IpAddress& to) {
  const bool is_v4 = from.is_v4();
  std::vector<std::uint8_t> header(is_v4 ? wire::ipv4::kHeaderBytes : wire::ipv6::kHeaderBytes);
  if (is_v4) {
    header[0] = 0x45;
    wire::store_u16(&header[wire::ipv4::kTotalLength], static_cast<std::uint16_t>(total));
    header[wire::ipv4::kProtocol] = protocol;
    std::copy_n(from.bytes.begin(), 4, &header[wire::ipv4::kSource]);
    std::copy_n(to.bytes.begin(), 4, &header[wire::ipv4::kDestination]);
    wire::write_ipv4_checksum(header.data(), header.size());
  } else {
    header[0] = 0x60;
    wire::store_u16(&header[wire::ipv6::kPayloadLength],
                    static_cast<std::uint16_t>(total - header.size()));
    header[wire::ipv6::kNextHeader] = protocol;
    std::copy_n(from.bytes.begin(), 16, &header[wire::ipv6::kSource]);
    std::copy_n(to.bytes.begin(), 16, &header[wire::ipv6::kDestination]);
  }
  return header;
}

/// `router` says this to `to` of the packet which begins with `quoted`.
inline std::vector<std::uint8_t> icmp_about(wire::Bytes quoted, std::uint8_t type,
                                            std::uint8_t code, std::uint32_t rest,
                                            const wire::IpAddress& router,
                                            const wire::IpAddress& to) {
  const bool is_v4 = to.is_v4();
  std::vector<std::uint8_t> icmp(wire::icmp::kHeaderBytes);
  icmp[0] = type;
  icmp[1] = code;
  wire::store_u32(&icmp[4], rest);
  icmp.insert(icmp.end(), quoted.begin(), quoted.end());
  const std::uint8_t protocol = is_v4 ? wire::protocol::kIcmp : wire::protocol::kIcmpv6;
  wire::ChecksumSum sum;
  sum.add(icmp);
  if (!is_v4) {
    sum.add_pseudo_header(router, to, protocol, static_cast<std::uint32_t>(icmp.size()));
  }
  wire::store_u16(&icmp[2], sum.finish());
  const std::size_t header = is_v4 ? wire::ipv4::kHeaderBytes : wire::ipv6::kHeaderBytes;
  auto packet = ip_header(protocol, header + icmp.size(), router, to);
  packet.insert(packet.end(), icmp.begin(), icmp.end());
  return packet;
}

/// That it is larger than `mtu`.
inline std::vector<std::uint8_t> too_big_about(wire::Bytes quoted, std::uint32_t mtu,
                                               const wire::IpAddress& router,
                                               const wire::IpAddress& to) {
  if (!to.is_v4()) return icmp_about(quoted, wire::icmpv6::kPacketTooBig, 0, mtu, router, to);
  return icmp_about(quoted, wire::icmp::kUnreachable, wire::icmp::kFragmentationNeeded,
                    mtu & 0xffffU, router, to);
}

}  // namespace culvert::test
