#include <algorithm>
#include <array>
#include <string_view>

#include <catch2/catch.hpp>

#include "dataplane/control/ike_datagram.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

using test::address;
using test::from_hex;

constexpr std::string_view kMessage = "IKE message!";
// scapy: IP(src="192.0.2.1", dst="192.0.2.2", id=5)/UDP(sport=4500, dport=4500)/marker/message
constexpr std::string_view kNat4 =
    "4500002c000500004011f6b8c0000201c000020211941194001822c500000000494b45206d65737361676521";
// scapy: IPv6(src="2001:db8::1", dst="2001:db8::2")/UDP(sport=500, dport=500)/message
constexpr std::string_view kPlain6 =
    "600000000014114020010db800000000000000000000000120010db800000000000000000000000201f401f4"
    "00146a9c494b45206d65737361676521";
// scapy: IP(src="192.0.2.1", dst="192.0.2.2", id=6)/UDP(sport=4500, dport=4500)/b"\xff"
constexpr std::string_view kKeepalive4 =
    "4500001d000600004011f6c6c0000201c000020211941194000959afff";

// scapy: the same behind IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]), and behind
// IPv6ExtHdrFragment(id=7) with neither offset nor M; hop-by-hop, routing, fragment, options.
constexpr std::string_view kOptions6 =
    "60000000001c3c4020010db800000000000000000000000120010db800000000000000000000000211000104000000"
    "00"
    "01f401f400146a9c494b45206d65737361676521";
constexpr std::string_view kAtomic6 =
    "60000000001c2c4020010db800000000000000000000000120010db800000000000000000000000211000000000000"
    "07"
    "01f401f400146a9c494b45206d65737361676521";
constexpr std::string_view kAll6 =
    "600000000034004020010db800000000000000000000000120010db80000000000000000000000022b000104000000"
    "00"
    "2c000400000000003c000000000000071100010400000000"
    "01f401f400146a9c494b45206d65737361676521";

channel::Datagram datagram(std::string_view from, std::string_view to, std::uint16_t port) {
  channel::Datagram result;
  result.local = {address(from), port};
  result.remote = {address(to), port};
  result.length = static_cast<std::uint32_t>(kMessage.size());
  std::ranges::copy(kMessage, result.bytes.begin());
  return result;
}

std::vector<std::uint8_t> built(const channel::Datagram& message, std::uint16_t identification) {
  std::array<std::uint8_t, 256> buffer{};
  wire::Writer writer(buffer);
  build_ike_packet(writer, message, identification);
  REQUIRE_FALSE(writer.overflowed());
  CHECK(writer.size() == ike_packet_bytes(message));
  return {writer.written().begin(), writer.written().end()};
}

}  // namespace

TEST_CASE("ike datagrams: built as scapy does, with the marker on port 4500 (RFC 3948 §2.2)") {
  CHECK(built(datagram("192.0.2.1", "192.0.2.2", 4500), 5) == from_hex(kNat4));
  CHECK(built(datagram("2001:db8::1", "2001:db8::2", 500), 0) == from_hex(kPlain6));
}

TEST_CASE("ike datagrams: the NAT keepalive is one byte without marker (RFC 3948 §2.3)") {
  auto keepalive = datagram("192.0.2.1", "192.0.2.2", 4500);
  keepalive.keepalive = true;
  CHECK(built(keepalive, 6) == from_hex(kKeepalive4));
}

TEST_CASE("ike datagrams: a received packet loses its headers and marker") {
  for (const std::string_view text : {kNat4, kPlain6}) {
    auto packet = from_hex(text);
    packet.resize(packet.size() + 7, 0x55);  // Ethernet padding
    const auto message = parse_ike_packet(packet);
    REQUIRE(message);
    CHECK(message->length == kMessage.size());
    CHECK(std::ranges::equal(kMessage, wire::Bytes(message->bytes).first(kMessage.size())));
    CHECK(message->local.address == address(text == kNat4 ? "192.0.2.2" : "2001:db8::2"));
    CHECK(message->remote.port == (text == kNat4 ? 4500 : 500));
  }
}

TEST_CASE("ike datagrams: IPv6 extension headers stand in front of UDP (RFC 8200 §4.1)") {
  for (const std::string_view text : {kOptions6, kAtomic6, kAll6}) {
    auto packet = from_hex(text);
    packet.resize(packet.size() + 7, 0x55);  // Ethernet padding
    const auto message = parse_ike_packet(packet);
    REQUIRE(message);
    CHECK(message->length == kMessage.size());
    CHECK(std::ranges::equal(kMessage, wire::Bytes(message->bytes).first(kMessage.size())));
    CHECK(message->local == wire::Endpoint{address("2001:db8::2"), 500});
    CHECK(message->remote == wire::Endpoint{address("2001:db8::1"), 500});
  }
}

TEST_CASE("ike datagrams: no prefix of a packet is a message") {
  for (const std::string_view text : {kNat4, kPlain6, kOptions6, kAtomic6, kAll6}) {
    const auto packet = from_hex(text);
    for (std::size_t length = 0; length < packet.size(); ++length) {
      CHECK_FALSE(parse_ike_packet(wire::Bytes(packet).first(length)));
    }
  }
}

TEST_CASE("ike datagrams: what is not whole or not ours to read is refused") {
  auto packet = from_hex(kNat4);
  SECTION("a fragment") {
    packet[6] = 0x20;
    CHECK(parse_ike_packet(packet).error().field == "IPv4 fragment");
  }
  SECTION("ESP where the marker should be") {
    packet[28] = 0xc0;
    packet[26] = packet[27] = 0;  // no UDP checksum
    CHECK(parse_ike_packet(packet).error().field == "non-ESP marker");
  }
  SECTION("a flipped bit") {
    packet[40] ^= 0x10U;
    CHECK(parse_ike_packet(packet).error().field == "UDP checksum");
  }
  SECTION("a UDP length beyond the packet") {
    packet[24] = 0x7f;
    CHECK(parse_ike_packet(packet).error().field == "UDP length");
  }
  SECTION("an IPv6 fragment, the first or a later one") {
    auto piece = from_hex(kAtomic6);
    piece[43] = GENERATE(std::uint8_t{1}, std::uint8_t{8});
    CHECK(parse_ike_packet(piece).error().field == "IPv6 fragment");
  }
  SECTION("an extension header that ends behind the packet, or is cut off") {
    auto broken = from_hex(kOptions6);
    broken[41] = GENERATE(std::uint8_t{3}, std::uint8_t{255});
    CHECK(parse_ike_packet(broken).error().field == "IPv6 headers");
    broken[5] = 4;
    CHECK(parse_ike_packet(broken).error().field == "IPv6 headers");
  }
  SECTION("more extension headers than an honest packet has") {
    auto chain = from_hex(kPlain6);
    for (int count = 0; count < 9; ++count) {
      const std::array<std::uint8_t, 8> header{chain[6], 0, 1, 4, 0, 0, 0, 0};
      chain[6] = 60;
      chain.insert(chain.begin() + 40, header.begin(), header.end());
      chain[5] = static_cast<std::uint8_t>(chain.size() - 40);
      CHECK(parse_ike_packet(chain).has_value() == (count < 8));
    }
  }
  SECTION("another protocol behind extension headers") {
    auto other = from_hex(kOptions6);
    other[40] = 6;
    CHECK(parse_ike_packet(other).error().field == "IPv6 next header");
  }
  SECTION("IPv6 without a checksum (RFC 8200 §8.1)") {
    auto packet6 = from_hex(kPlain6);
    packet6[46] = packet6[47] = 0;
    CHECK(parse_ike_packet(packet6).error().field == "UDP checksum");
  }
}

}  // namespace culvert::dataplane::control
