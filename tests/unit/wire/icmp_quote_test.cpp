#include "wire/icmp_quote.hpp"

#include <array>

#include <catch2/catch.hpp>

#include "tests/model/packet.hpp"

namespace culvert::wire {
namespace {

using model::ByteString;

/// A packet of one side to the other, for an error to quote.
ByteString quoted4(std::uint16_t fragment = 0, const ByteString& options = {}) {
  return model::ip({.source = "10.1.0.5",
                    .destination = "10.2.0.9",
                    .protocol = protocol::kUdp,
                    .fragment = fragment,
                    .options = options},
                   model::udp(1000, 53, model::counting(20)));
}
ByteString quoted6() {
  return model::ip(
      {.source = "2001:db8:1::5", .destination = "2001:db8:2::9", .protocol = protocol::kUdp},
      model::udp(1000, 53, model::counting(20)));
}
/// From a router on the way.
ByteString error4(std::uint8_t type, const ByteString& quoted, std::uint16_t fragment = 0) {
  ByteString rest(4, 0);
  model::put(rest, quoted);
  return model::ip({.source = "192.0.2.1",
                    .destination = "10.1.0.5",
                    .protocol = protocol::kIcmp,
                    .fragment = fragment},
                   model::icmp(type, 0, rest));
}
ByteString error6(std::uint8_t type, const ByteString& quoted) {
  ByteString rest(4, 0);
  model::put(rest, quoted);
  return model::ip(
      {.source = "2001:db8::1", .destination = "2001:db8:1::5", .protocol = protocol::kIcmpv6},
      model::icmp(type, 0, rest, "2001:db8::1", "2001:db8:1::5"));
}
std::optional<QuotedPacket> read(const ByteString& packet) {
  return quoted_packet(packet, parse_ip(packet).value());
}

}  // namespace

TEST_CASE("icmp quote: addresses, protocol and ports of the packet that an error is about") {
  const auto v4 = read(error4(icmp::kTimeExceeded, quoted4()));
  REQUIRE(v4);
  CHECK(v4->source == IpAddress::parse("10.1.0.5"));
  CHECK(v4->destination == IpAddress::parse("10.2.0.9"));
  CHECK(v4->protocol == protocol::kUdp);
  CHECK(v4->ports.known);
  CHECK(v4->ports.source == 1000);
  CHECK(v4->ports.destination == 53);
  const auto v6 = read(error6(icmpv6::kPacketTooBig, quoted6()));
  REQUIRE(v6);
  CHECK(v6->source == IpAddress::parse("2001:db8:1::5"));
  CHECK(v6->destination == IpAddress::parse("2001:db8:2::9"));
  CHECK(v6->ports.destination == 53);
  CHECK(read(error4(icmp::kUnreachable, quoted4(0, {7, 4, 4, 0})))->ports.source == 1000);
}

TEST_CASE("icmp quote: of errors only, and such as are whole (RFC 792, RFC 4443 §2.1)") {
  for (unsigned type = 0; type < 256; ++type) {
    const auto octet = static_cast<std::uint8_t>(type);
    CHECK(read(error4(octet, quoted4())).has_value() ==
          (type == icmp::kUnreachable || type == icmp::kTimeExceeded ||
           type == icmp::kParameterProblem));
    CHECK(read(error6(octet, quoted6())).has_value() == (type >= 1 && type <= 4));
  }
  CHECK_FALSE(read(error4(icmp::kUnreachable, quoted4(), ipv4::kMoreFragments)));
  CHECK_FALSE(read(quoted4()));
  // ICMPv6 in IPv4, and an error that quotes the other family.
  CHECK_FALSE(read(
      model::ip({.source = "192.0.2.1", .destination = "10.1.0.5", .protocol = protocol::kIcmpv6},
                model::icmp(1, 0, ByteString(60, 0)))));
  CHECK_FALSE(read(error4(icmp::kUnreachable, quoted6())));
  CHECK_FALSE(read(error6(icmpv6::kUnreachable, quoted4())));
}

TEST_CASE("icmp quote: every prefix of what is quoted: none, without ports, with them") {
  for (const bool is_v4 : {true, false}) {
    const ByteString whole = is_v4 ? quoted4() : quoted6();
    const std::size_t header = is_v4 ? 20 : 40;
    for (std::size_t bytes = 0; bytes <= whole.size(); ++bytes) {
      const ByteString prefix = model::slice(whole, 0, bytes);
      const auto quoted =
          read(is_v4 ? error4(icmp::kUnreachable, prefix) : error6(icmpv6::kUnreachable, prefix));
      INFO(bytes);
      REQUIRE(quoted.has_value() == (bytes >= header));
      if (quoted) CHECK(quoted->ports.known == (bytes >= header + 4));
    }
  }
}

TEST_CASE("icmp quote: a later fragment shows no ports, the first one does") {
  CHECK_FALSE(read(error4(icmp::kUnreachable, quoted4(185)))->ports.known);
  CHECK(read(error4(icmp::kUnreachable, quoted4(ipv4::kMoreFragments)))->ports.known);
}

TEST_CASE("icmp quote: what IPv6 extension headers hide when they are cut is not guessed") {
  // Destination options, then a fragment header of a first fragment, then UDP.
  ByteString chain{44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 7};
  model::put(chain, model::udp(1000, 53, model::counting(8)));
  const ByteString whole = model::ip({.source = "2001:db8:1::5",
                                      .destination = "2001:db8:2::9",
                                      .protocol = ipv6::kDestinationOptions},
                                     chain);
  for (std::size_t bytes = 40; bytes <= whole.size(); ++bytes) {
    const auto quoted = read(error6(icmpv6::kUnreachable, model::slice(whole, 0, bytes)));
    INFO(bytes);
    REQUIRE(quoted.has_value() == (bytes >= 56));
    if (!quoted) continue;
    CHECK(quoted->protocol == protocol::kUdp);
    CHECK(quoted->ports.known == (bytes >= 60));
  }
}

TEST_CASE("icmp quote: a header that cannot be is none; its checksum is nobody's business") {
  ByteString broken = quoted4();
  broken[10] ^= 1;
  CHECK(read(error4(icmp::kUnreachable, broken)));
  for (const std::uint8_t first :
       std::array<std::uint8_t, 3>{0x44, 0x4f, 0x65}) {  // 4f: options beyond its length
    ByteString packet = quoted4();
    packet[0] = first;
    CHECK_FALSE(read(error4(icmp::kUnreachable, packet)));
  }
  ByteString shorter = quoted4();
  shorter[2] = 0;
  shorter[3] = 19;
  CHECK_FALSE(read(error4(icmp::kUnreachable, shorter)));
}

}  // namespace culvert::wire
