// Packets of a size, and TCP's announcement of one.
#pragma once

#include <catch2/catch.hpp>

#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/checksum.hpp"
#include "wire/ip.hpp"
#include "wire/tcp.hpp"

namespace culvert::test {

/// `fragment`: IPv4's flags and offset.
inline PacketOptions of_size(std::size_t bytes, bool is_v6, std::uint16_t fragment) {
  PacketOptions packet;
  packet.protocol = 99;
  packet.fragment = fragment;
  if (is_v6) {
    packet.source = "2001:db8:1::9";
    packet.destination = "2001:db8:2::7";
  }
  packet.payload = Packet(bytes - (is_v6 ? 40 : 20));
  for (std::size_t i = 0; i < packet.payload.size(); ++i) {
    packet.payload[i] = static_cast<std::uint8_t>(i * 11);
  }
  return packet;
}

/// What is behind the IP header of a frame.
inline Packet payload_of(const Packet& whole) {
  const Packet ip = ip_of(whole);
  const auto header = wire::parse_ip(ip).value();
  return {ip.begin() + header.payload_offset, ip.end()};
}

/// With a right checksum, from port 40000 to 443.
inline Packet syn(const std::string& source, const std::string& destination, std::uint16_t mss) {
  Packet segment(24);
  wire::store_u16(&segment[0], 40000);
  wire::store_u16(&segment[2], 443);
  segment[12] = 6 << 4;
  segment[13] = wire::tcp::kSyn;
  segment[20] = 2;
  segment[21] = 4;
  wire::store_u16(&segment[22], mss);
  wire::ChecksumSum sum;
  sum.add_pseudo_header(wire::IpAddress::parse(source).value(),
                        wire::IpAddress::parse(destination).value(), 6, 24);
  sum.add(segment);
  wire::store_u16(&segment[16], sum.finish());
  return ip_packet(
      {.source = source, .destination = destination, .protocol = 6, .payload = segment});
}
/// What the SYN in a frame announces; its checksum is right.
inline std::uint16_t mss_of(const Packet& whole) {
  const Packet ip = ip_of(whole);
  const Packet segment = payload_of(whole);
  const bool is_v4 = ip[0] >> 4 == 4;
  wire::ChecksumSum sum;
  sum.add(wire::Bytes(ip).subspan(is_v4 ? 12 : 8, is_v4 ? 8 : 32));
  sum.add_u16(6);
  sum.add_u16(static_cast<std::uint16_t>(segment.size()));
  sum.add(segment);
  CHECK(sum.finish() == 0);
  return wire::load_u16(&segment[22]);
}

}  // namespace culvert::test
