#include <array>

#include <catch2/catch.hpp>

#include "dataplane/control/icmp_error.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "wire/checksum.hpp"
#include "wire/ip.hpp"
#include "wire/unaligned.hpp"

namespace culvert::dataplane::control {
namespace {

using test::address;
using test::from_hex;
using Built = std::expected<std::vector<std::uint8_t>, IcmpRefusal>;

// scapy: IP(src="10.1.0.5", dst="10.2.0.9", ttl=1, id=7)/UDP(sport=1000, dport=2000)/b"hello"
constexpr std::string_view kPacket4 =
    "45000021000700000111a5b50a0100050a02000903e807d0000d9c3968656c6c6f";
// scapy: IPv6(src="2001:db8:1::5", dst="2001:db8:2::9", hlim=1)/UDP(…)/b"hello"
constexpr std::string_view kPacket6 =
    "60000000000d110120010db800010000000000000000000520010db8000200000000000000000009"
    "03e807d0000d54c768656c6c6f";

Built error_about(IcmpErrorKind kind, wire::Bytes packet, std::uint32_t mtu = 0,
                  std::uint16_t identification = 0) {
  std::array<std::uint8_t, kMaxIcmpv6ErrorBytes> buffer{};
  wire::Writer writer(buffer);
  const bool v6 = !packet.empty() && packet[0] >> 4U == 6;
  const auto done = build_icmp_error(writer, kind, mtu, address(v6 ? "2001:db8:1::1" : "10.1.0.1"),
                                     identification, packet);
  if (!done) return std::unexpected(done.error());
  REQUIRE_FALSE(writer.overflowed());
  return std::vector<std::uint8_t>(writer.written().begin(), writer.written().end());
}

}  // namespace

TEST_CASE("icmp errors: time exceeded is scapy's, byte for byte (RFC 792)") {
  CHECK(error_about(IcmpErrorKind::time_exceeded, from_hex(kPacket4)) ==
        from_hex("45c0003d00000000400165f90a0100010a0100050b00092f0000000045000021000700000111a5b5"
                 "0a0100050a02000903e807d0000d9c3968656c6c6f"));
}

TEST_CASE("icmp errors: they have the identification that they are given (RFC 6864 §4.3)") {
  const auto error = error_about(IcmpErrorKind::time_exceeded, from_hex(kPacket4), 0, 0xabcd);
  REQUIRE(error);
  CHECK(wire::load_u16(error->data() + wire::ipv4::kIdentification) == 0xabcd);
  CHECK(wire::load_u16(error->data() + wire::ipv4::kFragment) == 0);  // may be cut
  wire::ChecksumSum sum;
  sum.add(wire::Bytes(*error).first(wire::ipv4::kHeaderBytes));
  CHECK(sum.finish() == 0);
}

TEST_CASE("icmp errors: fragment reassembly time exceeded is code 1 (RFC 792, RFC 4443 §3.3)") {
  const auto v4 = error_about(IcmpErrorKind::reassembly_timeout, from_hex(kPacket4));
  REQUIRE(v4);
  CHECK((*v4)[20] == 11);
  CHECK((*v4)[21] == 1);
  const auto v6 = error_about(IcmpErrorKind::reassembly_timeout, from_hex(kPacket6));
  REQUIRE(v6);
  CHECK((*v6)[40] == 3);
  CHECK((*v6)[41] == 1);
}

TEST_CASE("icmp errors: fragmentation needed names the next hop's MTU (RFC 1191 §4)") {
  CHECK(error_about(IcmpErrorKind::packet_too_big, from_hex(kPacket4), 1438) ==
        from_hex("45c0003d00000000400165f90a0100010a01000503040b8d0000059e45000021000700000111a5b5"
                 "0a0100050a02000903e807d0000d9c3968656c6c6f"));
}

TEST_CASE("icmp errors: packet too big is scapy's, byte for byte (RFC 4443 §3.2)") {
  CHECK(error_about(IcmpErrorKind::packet_too_big, from_hex(kPacket6), 1400) ==
        from_hex("60000000003d3a4020010db800010000000000000000000120010db8000100000000000000000005"
                 "02002ba60000057860000000000d110120010db800010000000000000000000520010db800020000"
                 "000000000000000903e807d0000d54c768656c6c6f"));
}

TEST_CASE("icmp errors: never about an ICMP error (RFC 1122 §3.2.2, RFC 4443 §2.4 e)") {
  for (const IcmpErrorKind kind : {IcmpErrorKind::time_exceeded, IcmpErrorKind::packet_too_big}) {
    const auto about4 = error_about(kind, *error_about(kind, from_hex(kPacket4), 1400), 1400);
    REQUIRE_FALSE(about4);
    CHECK(about4.error() == IcmpRefusal::about_an_error);
    const auto about6 = error_about(kind, *error_about(kind, from_hex(kPacket6), 1400), 1400);
    REQUIRE_FALSE(about6);
    CHECK(about6.error() == IcmpRefusal::about_an_error);
  }
}

TEST_CASE("icmp errors: an echo request is reported, an echo behind options too") {
  auto echo = from_hex(kPacket4);
  echo[9] = 1;
  echo[20] = 8;
  CHECK(error_about(IcmpErrorKind::time_exceeded, echo));
}

TEST_CASE("icmp errors: of IPv4 only the first fragment is reported (RFC 1122 §3.2.2)") {
  auto fragment = from_hex(kPacket4);
  fragment[7] = 5;
  CHECK(error_about(IcmpErrorKind::time_exceeded, fragment).error() == IcmpRefusal::later_fragment);
  fragment[7] = 0;
  fragment[6] = 0x20;  // more fragments, offset 0
  CHECK(error_about(IcmpErrorKind::time_exceeded, fragment));
}

TEST_CASE("icmp errors: of IPv6 each fragment is reported (RFC 4443 §2.4 e, §3.2, §3.3)") {
  const std::uint8_t of = GENERATE(std::uint8_t{17}, std::uint8_t{58});
  const IcmpErrorKind kind = GENERATE(IcmpErrorKind::packet_too_big, IcmpErrorKind::time_exceeded);
  auto fragment = from_hex(kPacket6);
  fragment[6] = 44;
  fragment[40] = of;
  fragment[41] = 0;
  fragment[42] = 0;
  fragment[43] = 8;
  const auto error = error_about(kind, fragment, 1400);
  REQUIRE(error);
  CHECK(std::equal(fragment.begin(), fragment.end(), error->begin() + 48, error->end()));
}

TEST_CASE("icmp errors: about an IPv6 fragment that begins an ICMPv6 error, none") {
  auto fragment = from_hex(kPacket6);
  fragment[6] = 44;
  fragment[40] = 58;
  fragment[41] = fragment[42] = 0;
  fragment[43] = 1;  // more follow
  fragment[48] = 3;
  const auto error = error_about(IcmpErrorKind::time_exceeded, fragment);
  REQUIRE_FALSE(error);
  CHECK(error.error() == IcmpRefusal::about_an_error);
}

TEST_CASE("icmp errors: never to or about multicast, broadcast, loopback or nobody") {
  const auto [offset, byte] = GENERATE(table<std::size_t, int>({
      {12, 0},    // source "this network"
      {12, 127},  // loopback
      {12, 224},  // multicast
      {12, 255},
      {16, 224},
      {16, 255},
  }));
  auto packet = from_hex(kPacket4);
  packet[offset] = static_cast<std::uint8_t>(byte);
  const auto error = error_about(IcmpErrorKind::time_exceeded, packet);
  REQUIRE_FALSE(error);
  CHECK(error.error() == IcmpRefusal::not_one_host);
}

TEST_CASE("icmp errors: a long packet is quoted up to 576 and 1280 bytes") {
  auto packet4 = from_hex(kPacket4);
  packet4.resize(1500, 0xaa);
  CHECK(error_about(IcmpErrorKind::time_exceeded, packet4)->size() == kMaxIcmpv4ErrorBytes);
  auto packet6 = from_hex(kPacket6);
  packet6.resize(1501, 0xaa);
  CHECK(error_about(IcmpErrorKind::time_exceeded, packet6)->size() == kMaxIcmpv6ErrorBytes);
}

TEST_CASE("icmp errors: no prefix of a header makes an error or a crash") {
  for (const std::string_view text : {kPacket4, kPacket6}) {
    const auto packet = from_hex(text);
    const std::size_t header = text == kPacket4 ? 20 : 40;
    for (std::size_t length = 0; length < header; ++length) {
      const auto error =
          error_about(IcmpErrorKind::time_exceeded, wire::Bytes(packet).first(length));
      REQUIRE_FALSE(error);
      CHECK(error.error() == IcmpRefusal::malformed);
    }
  }
}

}  // namespace culvert::dataplane::control
