#include <algorithm>
#include <array>

#include <catch2/catch.hpp>

#include "tests/unit/dataplane/control_bytes.hpp"
#include "wire/arp.hpp"

namespace culvert::test {
namespace {

// scapy: ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="192.0.2.1", pdst="192.0.2.2")
constexpr std::string_view kRequest = "0001080006040001020000000001c0000201000000000000c0000202";

}  // namespace

TEST_CASE("arp: a request as scapy builds it is understood, and built alike (RFC 826)") {
  const auto bytes = from_hex(kRequest);
  const auto message = wire::parse_arp(bytes);
  REQUIRE(message);
  CHECK(message->operation == wire::ArpMessage::Operation::request);
  CHECK(message->sender_mac == wire::MacAddress{2, 0, 0, 0, 0, 1});
  CHECK(message->sender == address("192.0.2.1"));
  CHECK(message->target == address("192.0.2.2"));

  std::array<std::uint8_t, wire::kArpBytes> buffer{};
  wire::Writer writer(buffer);
  wire::build_arp(writer, *message);
  CHECK_FALSE(writer.overflowed());
  CHECK(std::vector<std::uint8_t>(buffer.begin(), buffer.end()) == bytes);
}

TEST_CASE("arp: every prefix of a message is truncated, and Ethernet padding is ignored") {
  auto bytes = from_hex(kRequest);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const auto message = wire::parse_arp(wire::Bytes(bytes).first(length));
    REQUIRE_FALSE(message);
    CHECK(message.error().problem == "truncated");
  }
  bytes.resize(46, 0xee);
  CHECK(wire::parse_arp(bytes));
}

TEST_CASE("arp: other hardware, protocols, lengths and operations are refused") {
  const auto [offset, field] = GENERATE(table<std::size_t, std::string_view>({
      {1, "ARP hardware type"},
      {2, "ARP protocol type"},
      {4, "ARP address lengths"},
      {5, "ARP address lengths"},
      {7, "ARP operation"},
  }));
  auto bytes = from_hex(kRequest);
  bytes[offset] = 0x7f;
  const auto message = wire::parse_arp(bytes);
  REQUIRE_FALSE(message);
  CHECK(message.error().field == field);
}

TEST_CASE("arp: who claims a broadcast or multicast MAC is not believed (RFC 1812 §3.3.2)") {
  const auto first_octets = GENERATE(values<std::vector<std::uint8_t>>(
      {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x01, 0x00, 0x5e}, {0x33, 0x33}, {0x03, 0xbf}}));
  const std::uint8_t operation = GENERATE(std::uint8_t{1}, std::uint8_t{2});
  auto bytes = from_hex(kRequest);
  bytes[7] = operation;
  std::ranges::copy(first_octets, bytes.begin() + 8);
  const auto message = wire::parse_arp(bytes);
  REQUIRE_FALSE(message);
  CHECK(message.error().field == "ARP sender hardware address");
}

}  // namespace culvert::test
