#include <array>

#include <catch2/catch.hpp>

#include "tests/unit/dataplane/control_bytes.hpp"
#include "wire/checksum.hpp"
#include "wire/neighbor_discovery.hpp"

namespace culvert::test {
namespace {

// scapy: IPv6(src="2001:db8::1", dst="ff02::1:ff00:2", hlim=255) / ICMPv6ND_NS(tgt="2001:db8::2")
//        / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01")
constexpr std::string_view kSolicitation =
    "6000000000203aff20010db8000000000000000000000001ff0200000000000000000001ff000002"
    "87001c270000000020010db80000000000000000000000020101020000000001";
// scapy: IPv6(src="2001:db8::2", dst="2001:db8::1", hlim=255) / ICMPv6ND_NA(R=1, S=1, O=1)
//        / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:02")
constexpr std::string_view kAdvertisement =
    "6000000000203aff20010db800000000000000000000000220010db8000000000000000000000001"
    "88000a71e000000020010db80000000000000000000000020201020000000002";

/// Makes the checksum right again after a field was changed.
std::vector<std::uint8_t> with_checksum(std::vector<std::uint8_t> packet) {
  packet[42] = packet[43] = 0;
  const wire::Bytes all(packet);
  wire::ChecksumSum sum;
  sum.add_pseudo_header(wire::IpAddress::v6(all.subspan(8, 16)),
                        wire::IpAddress::v6(all.subspan(24, 16)), 58,
                        static_cast<std::uint32_t>(packet.size() - 40));
  sum.add(all.subspan(40));
  const std::uint16_t value = sum.finish();
  packet[42] = static_cast<std::uint8_t>(value >> 8U);
  packet[43] = static_cast<std::uint8_t>(value & 0xffU);
  return packet;
}

std::vector<std::uint8_t> built(const wire::NeighborMessage& message) {
  std::array<std::uint8_t, wire::kNeighborMessageBytes> buffer{};
  wire::Writer writer(buffer);
  wire::build_neighbor_message(writer, message);
  REQUIRE_FALSE(writer.overflowed());
  return {writer.written().begin(), writer.written().end()};
}

}  // namespace

TEST_CASE("neighbour discovery: scapy's messages are understood, and built alike (RFC 4861 §4)") {
  for (const std::string_view text : {kSolicitation, kAdvertisement}) {
    const auto bytes = from_hex(text);
    const auto message = wire::parse_neighbor_message(bytes);
    REQUIRE(message);
    CHECK(message->target == address("2001:db8::2"));
    CHECK(message->link_layer);
    CHECK(built(*message) == bytes);
  }
  const auto advertisement = wire::parse_neighbor_message(from_hex(kAdvertisement));
  CHECK(advertisement->router);
  CHECK(advertisement->solicited);
  CHECK(advertisement->override);
}

TEST_CASE("neighbour discovery: every prefix of a packet is truncated") {
  const auto bytes = from_hex(kSolicitation);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const auto message = wire::parse_neighbor_message(wire::Bytes(bytes).first(length));
    REQUIRE_FALSE(message);
    CHECK(message.error().problem == "truncated");
  }
}

TEST_CASE("neighbour discovery: a router between us shows in the hop limit (RFC 4861 §7.1.1)") {
  auto bytes = from_hex(kSolicitation);
  bytes[7] = 254;
  const auto message = wire::parse_neighbor_message(bytes);
  REQUIRE_FALSE(message);
  CHECK(message.error().field == "IPv6 hop limit");
}

TEST_CASE("neighbour discovery: a wrong checksum is refused") {
  auto bytes = from_hex(kSolicitation);
  bytes[60] ^= 1U;
  const auto message = wire::parse_neighbor_message(bytes);
  REQUIRE_FALSE(message);
  CHECK(message.error().field == "ICMPv6 checksum");
}

TEST_CASE("neighbour discovery: an option of length zero does not loop (RFC 4861 §4.6)") {
  auto bytes = from_hex(kSolicitation);
  bytes[65] = 0;
  const auto message = wire::parse_neighbor_message(with_checksum(bytes));
  REQUIRE_FALSE(message);
  CHECK(message.error().field == "ND option length");
}

TEST_CASE("neighbour discovery: an option that runs over the packet is refused") {
  auto bytes = from_hex(kSolicitation);
  bytes[65] = 2;
  const auto message = wire::parse_neighbor_message(with_checksum(bytes));
  REQUIRE_FALSE(message);
  CHECK(message.error().field == "ND option");
}

TEST_CASE("neighbour discovery: forbidden combinations (RFC 4861 §7.1.1, §7.1.2)") {
  SECTION("a multicast target") {
    auto bytes = from_hex(kSolicitation);
    bytes[48] = 0xff;
    const auto message = wire::parse_neighbor_message(with_checksum(bytes));
    REQUIRE_FALSE(message);
    CHECK(message.error().field == "ND target");
  }
  SECTION("duplicate address detection with a source link-layer option") {
    auto bytes = from_hex(kSolicitation);
    std::fill_n(bytes.begin() + 8, 16, std::uint8_t{0});
    const auto message = wire::parse_neighbor_message(with_checksum(bytes));
    REQUIRE_FALSE(message);
    CHECK(message.error().field == "ND source link-layer option");
  }
  SECTION("a solicited advertisement to everybody") {
    auto bytes = from_hex(kAdvertisement);
    bytes[24] = 0xff;
    const auto message = wire::parse_neighbor_message(with_checksum(bytes));
    REQUIRE_FALSE(message);
    CHECK(message.error().field == "ND solicited flag");
  }
}

TEST_CASE("neighbour discovery: no neighbour has a broadcast or multicast MAC (RFC 1812 §3.3.2)") {
  const std::string_view text = GENERATE(kSolicitation, kAdvertisement);
  const std::uint8_t first_octet = GENERATE(as<std::uint8_t>{}, 0xff, 0x01, 0x33);
  auto bytes = from_hex(text);
  bytes[66] = first_octet;
  const auto message = wire::parse_neighbor_message(with_checksum(bytes));
  REQUIRE_FALSE(message);
  CHECK(message.error().field == "ND link-layer address");
}

TEST_CASE("neighbour discovery: solicited-node group and its MAC (RFC 4291 §2.7.1, RFC 2464 §7)") {
  const auto group = wire::solicited_node_multicast(address("2001:db8::12:3456"));
  CHECK(group == address("ff02::1:ff12:3456"));
  CHECK(wire::multicast_mac(group) == wire::MacAddress{0x33, 0x33, 0xff, 0x12, 0x34, 0x56});
}

}  // namespace culvert::test
