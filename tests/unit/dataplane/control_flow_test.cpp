#include <catch2/catch.hpp>

#include "dataplane/control/flow_of.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

using test::address;
using test::from_hex;

// scapy: IP(src="10.1.0.5", dst="10.2.0.9")/UDP(sport=1000, dport=2000)/b"hello"
constexpr std::string_view kUdp4 =
    "45000021000700000111a5b50a0100050a02000903e807d0000d9c3968656c6c6f";

}  // namespace

TEST_CASE("flow: addresses, protocol and ports of a packet") {
  const auto flow = flow_of(from_hex(kUdp4));
  REQUIRE(flow);
  CHECK(flow->source == address("10.1.0.5"));
  CHECK(flow->destination == address("10.2.0.9"));
  CHECK(flow->protocol == 17);
  CHECK(flow->source_port == 1000);
  CHECK(flow->destination_port == 2000);
  CHECK(flow->ports_known);
}

TEST_CASE("flow: a later fragment and a cut header have no ports") {
  auto fragment = from_hex(kUdp4);
  fragment[7] = 8;
  CHECK_FALSE(flow_of(fragment)->ports_known);
  const auto whole = from_hex(kUdp4);
  CHECK_FALSE(flow_of(wire::Bytes(whole).first(23))->ports_known);
}

TEST_CASE("flow: every prefix is survived, those without an IP header are nothing") {
  const auto whole = from_hex(kUdp4);
  for (std::size_t length = 0; length < 20; ++length) {
    CHECK_FALSE(flow_of(wire::Bytes(whole).first(length)));
    CHECK_FALSE(esp_header_of(wire::Bytes(whole).first(length)));
  }
}

TEST_CASE("flow: the SPI of plain ESP, and of ESP in UDP with its ports (RFC 3948)") {
  auto esp = from_hex("4500001c0000000040320000c0000201c0000202c000010100000001");
  const auto plain = esp_header_of(esp);
  REQUIRE(plain);
  CHECK(plain->spi == 0xc0000101U);
  CHECK(plain->from.port == 0);

  auto encapsulated = from_hex(kUdp4);
  encapsulated[28] = 0xc0;
  const auto udp = esp_header_of(encapsulated);
  REQUIRE(udp);
  CHECK(udp->from.port == 1000);
  CHECK(udp->spi == 0xc0656c6cU);
  CHECK_FALSE(esp_header_of(wire::Bytes(encapsulated).first(31)));
}

}  // namespace culvert::dataplane::control
