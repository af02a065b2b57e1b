#include <algorithm>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/worker/transport_checksum.hpp"
#include "wire/checksum.hpp"

namespace culvert::dataplane {
namespace {

using Packet = std::vector<std::uint8_t>;

void set_udp_length(Packet& packet, std::size_t length) {
  const std::size_t header_bytes = (packet[0] >> 4U) == 4 ? 20 : 40;
  wire::store_u16(packet.data() + header_bytes + 4, static_cast<std::uint16_t>(length));
}

Packet packet_of(bool is_v4, std::uint8_t protocol, std::size_t payload) {
  Packet packet(is_v4 ? 20 : 40);
  if (is_v4) {
    packet[0] = 0x45;
    packet[9] = protocol;
    wire::store_u16(packet.data() + 2, static_cast<std::uint16_t>(20 + payload));
    wire::store_u32(packet.data() + 12, 0xc6336401);
    wire::store_u32(packet.data() + 16, 0xc6336402);
    wire::write_ipv4_checksum(packet.data(), 20);
  } else {
    packet[0] = 0x60;
    packet[6] = protocol;
    packet[8] = packet[24] = 0x20;
    packet[39] = 7;
    wire::store_u16(packet.data() + 4, static_cast<std::uint16_t>(payload));
  }
  for (std::size_t i = 0; i < payload; ++i) packet.push_back(static_cast<std::uint8_t>(i * 7 + 1));
  if (protocol == 17 && payload >= 8) set_udp_length(packet, payload);
  return packet;
}

/// Zero when the checksum in the segment is right, as its receiver computes it. `behind`: bytes
/// that are none of the segment's.
std::uint16_t receivers_sum(const Packet& packet, std::uint8_t protocol, std::size_t behind = 0) {
  const bool is_v4 = (packet[0] >> 4U) == 4;
  const wire::Bytes all(packet);
  wire::ChecksumSum sum;
  sum.add(is_v4 ? all.subspan(12, 8) : all.subspan(8, 32));
  const std::size_t header_bytes = is_v4 ? 20 : 40;
  const wire::Bytes segment = all.subspan(header_bytes, all.size() - header_bytes - behind);
  sum.add_u16(protocol);
  sum.add_u16(static_cast<std::uint16_t>(segment.size()));
  sum.add(segment);
  return sum.finish();
}

}  // namespace

TEST_CASE("transport checksum: TCP and UDP are right again over the addresses they have now") {
  for (const bool is_v4 : {true, false}) {
    for (const std::uint8_t protocol : {std::uint8_t{6}, std::uint8_t{17}}) {
      for (const std::size_t payload : {std::size_t{20}, std::size_t{21}, std::size_t{64}}) {
        Packet packet = packet_of(is_v4, protocol, payload);
        renew_transport_checksum(packet, *wire::parse_ip(packet));
        CHECK(receivers_sum(packet, protocol) == 0);
      }
    }
  }
}

TEST_CASE(
    "transport checksum: what is behind UDP's Length is none of it (RFC 768, RFC 4303 §2.7)") {
  for (const bool is_v4 : {true, false}) {
    for (const std::size_t behind : {std::size_t{1}, std::size_t{22}, std::size_t{56}}) {
      Packet packet = packet_of(is_v4, 17, 64);
      set_udp_length(packet, 64 - behind);
      const Packet before = packet;
      renew_transport_checksum(packet, *wire::parse_ip(packet));
      CHECK(receivers_sum(packet, 17, behind) == 0);
      const auto padding = static_cast<std::ptrdiff_t>(behind);
      CHECK(std::equal(packet.end() - padding, packet.end(), before.end() - padding));
    }
  }
}

TEST_CASE("transport checksum: UDP whose Length cannot be is left alone") {
  for (const bool is_v4 : {true, false}) {
    for (const std::size_t length : {0, 7, 65, 65535}) {
      Packet packet = packet_of(is_v4, 17, 64);
      set_udp_length(packet, length);
      const Packet before = packet;
      renew_transport_checksum(packet, *wire::parse_ip(packet));
      CHECK(packet == before);
    }
  }
}

TEST_CASE("transport checksum: UDP without one over IPv4 stays without (RFC 3948 §3.1.2)") {
  Packet packet = packet_of(true, 17, 30);
  wire::store_u16(packet.data() + 26, 0);
  const Packet before = packet;
  renew_transport_checksum(packet, *wire::parse_ip(packet));
  CHECK(packet == before);
}

TEST_CASE("transport checksum: fragments, other protocols and cut segments are left alone") {
  Packet fragment = packet_of(true, 17, 30);
  wire::store_u16(fragment.data() + 6, 0x2000);
  wire::write_ipv4_checksum(fragment.data(), 20);
  for (Packet packet : {fragment, packet_of(true, 1, 30), packet_of(false, 58, 30),
                        packet_of(true, 17, 7), packet_of(true, 6, 19)}) {
    const Packet before = packet;
    renew_transport_checksum(packet, *wire::parse_ip(packet));
    CHECK(packet == before);
  }
}

}  // namespace culvert::dataplane
