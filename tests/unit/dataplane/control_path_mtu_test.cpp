#include <catch2/catch.hpp>

#include "dataplane/control/path_mtu.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "wire/checksum.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane::control {
namespace {

using test::address;
using Packet = std::vector<std::uint8_t>;
using namespace std::chrono_literals;

struct Message {
  bool is_v4 = true;
  bool in_udp = false;
  std::uint32_t spi = 0x1001, sequence = 77, mtu = 1300;
  std::uint16_t packet_bytes = 1480;
};

Packet ip_header(bool is_v4, std::uint8_t protocol, std::size_t total, const wire::IpAddress& from,
                 const wire::IpAddress& to) {
  Packet header(is_v4 ? 20 : 40);
  header[0] = is_v4 ? 0x45 : 0x60;
  if (is_v4) {
    wire::store_u16(&header[2], static_cast<std::uint16_t>(total));
    header[9] = protocol;
    std::copy_n(from.bytes.begin(), 4, &header[12]);
    std::copy_n(to.bytes.begin(), 4, &header[16]);
    wire::write_ipv4_checksum(header.data(), 20);
  } else {
    wire::store_u16(&header[4], static_cast<std::uint16_t>(total - 40));
    header[6] = protocol;
    std::copy_n(from.bytes.begin(), 16, &header[8]);
    std::copy_n(to.bytes.begin(), 16, &header[24]);
  }
  return header;
}

wire::IpAddress local(bool is_v4) { return address(is_v4 ? "192.0.2.1" : "2001:db8::1"); }
wire::IpAddress remote(bool is_v4) { return address(is_v4 ? "192.0.2.2" : "2001:db8::2"); }
wire::IpAddress router(bool is_v4) { return address(is_v4 ? "198.51.100.9" : "2001:db8:9::9"); }

Packet message_of(const Message& what) {
  const bool v4 = what.is_v4;
  Packet icmp(8);
  icmp[0] = v4 ? 3 : 2;
  icmp[1] = v4 ? 4 : 0;
  if (v4) {
    wire::store_u16(&icmp[6], static_cast<std::uint16_t>(what.mtu));
  } else {
    wire::store_u32(&icmp[4], what.mtu);
  }
  const Packet quoted =
      ip_header(v4, what.in_udp ? 17 : 50, what.packet_bytes, local(v4), remote(v4));
  icmp.insert(icmp.end(), quoted.begin(), quoted.end());
  if (what.in_udp) icmp.resize(icmp.size() + 8, 0x11);
  Packet esp(8);
  wire::store_u32(&esp[0], what.spi);
  wire::store_u32(&esp[4], what.sequence);
  icmp.insert(icmp.end(), esp.begin(), esp.end());
  wire::ChecksumSum sum;
  sum.add(icmp);
  if (!v4) {
    sum.add_pseudo_header(router(v4), local(v4), 58, static_cast<std::uint32_t>(icmp.size()));
  }
  wire::store_u16(&icmp[2], sum.finish());
  Packet packet = ip_header(v4, v4 ? 1 : 58, (v4 ? 20U : 40U) + icmp.size(), router(v4), local(v4));
  packet.insert(packet.end(), icmp.begin(), icmp.end());
  return packet;
}

TooBigMessage read(const Message& what) { return read_too_big(message_of(what)).value(); }

QuotedSa live_sa(bool is_v4 = true, std::uint64_t sequence = 100, std::uint16_t path_mtu = 0xffff) {
  return {channel::SaId{5}, local(is_v4), remote(is_v4), sequence, path_mtu};
}

constexpr Instant kLearned = 1000s;

}  // namespace

TEST_CASE("path MTU: a router's message is read, in both families, plain and in UDP") {
  for (const bool is_v4 : {true, false}) {
    for (const bool in_udp : {false, true}) {
      const TooBigMessage message = read({.is_v4 = is_v4, .in_udp = in_udp});
      CHECK(message.spi == 0x1001);
      CHECK(message.sequence == 77);
      CHECK(message.mtu == 1300);
      CHECK(message.packet_bytes == 1480);
      CHECK(message.local == local(is_v4));
      CHECK(message.remote == remote(is_v4));
    }
  }
}

TEST_CASE("path MTU: a message cut anywhere, or changed anywhere in ICMP, is not believed") {
  for (const bool is_v4 : {true, false}) {
    const Packet whole = message_of({.is_v4 = is_v4});
    for (std::size_t length = 0; length < whole.size(); ++length) {
      CHECK_FALSE(read_too_big(wire::Bytes(whole).first(length)));
    }
    for (std::size_t at = is_v4 ? 20 : 40; at < whole.size(); ++at) {
      Packet changed = whole;
      changed[at] ^= 0x10;
      CHECK_FALSE(read_too_big(changed));
    }
  }
}

TEST_CASE("path MTU: a router from before RFC 1191 says zero: the next common size is tried") {
  CHECK(read({.mtu = 0, .packet_bytes = 1500}).mtu == 1492);
  CHECK(read({.mtu = 0, .packet_bytes = 1492}).mtu == 1006);
}

TEST_CASE("path MTU: it is learnt for ten minutes, and later SAs to the peer begin with it") {
  PathMtus mtus;
  CHECK(mtus.learn(read({}), live_sa(), kLearned).value() == 1300);
  CHECK(mtus.of(remote(true), kLearned + 9min) == 1300);
  mtus.joined(remote(true), channel::SaId{6});
  CHECK(mtus.expire(kLearned + 9min).empty());
  const auto over = mtus.expire(kLearned + PathMtus::kLifetime);
  CHECK(over == std::vector{channel::SaId{5}, channel::SaId{6}});
  CHECK_FALSE(mtus.of(remote(true), kLearned + 11min));
}

TEST_CASE("path MTU: over IPv4 never below what every host takes whole (RFC 791 §3.1)") {
  PathMtus mtus;
  CHECK(mtus.learn(read({.mtu = 68}), live_sa(), kLearned).value() == 576);
  CHECK(mtus.learn(read({.mtu = 1279}), live_sa(), kLearned).value() == 1279);
}

TEST_CASE("path MTU: over IPv6 less than the minimum link MTU is discarded (RFC 8201 §4)") {
  PathMtus mtus;
  for (const std::uint32_t mtu : {0U, 300U, 1279U}) {
    const Message message{.is_v4 = false, .mtu = mtu};
    CHECK(mtus.learn(read(message), live_sa(false), kLearned).error() ==
          TooBigRefusal::below_minimum);
  }
  CHECK(mtus.peers() == 0);
  CHECK(mtus.learn(read({.is_v4 = false, .mtu = 1280}), live_sa(false), kLearned).value() == 1280);
}

TEST_CASE("path MTU: who quotes no packet that we sent lately is not believed (RFC 4301 §8.2.1)") {
  PathMtus mtus;
  const auto refused = [&](const Message& message, const QuotedSa& sa) {
    return mtus.learn(read(message), sa, kLearned).error();
  };
  CHECK(refused({.sequence = 101}, live_sa()) == TooBigRefusal::sequence_not_recent);
  CHECK(refused({.sequence = 0}, live_sa()) == TooBigRefusal::sequence_not_recent);
  CHECK(refused({.sequence = 77}, live_sa(true, 77 + 65536)) == TooBigRefusal::sequence_not_recent);
  CHECK(mtus.learn(read({.sequence = 77}), live_sa(true, 77 + 65535), kLearned));
  QuotedSa other = live_sa();
  other.local = address("192.0.2.3");
  CHECK(refused({}, other) == TooBigRefusal::addresses_differ);
  // Across the wrap of ESN's low half the age is the same.
  CHECK(mtus.learn(read({.sequence = 0xfffffff0, .mtu = 1200}), live_sa(true, 0x100000005),
                   kLearned));
}

TEST_CASE("path MTU: a message never makes it larger, nor speaks of packets that fit") {
  PathMtus mtus;
  CHECK(mtus.learn(read({.mtu = 1400}), live_sa(true, 100, 1300), kLearned).error() ==
        TooBigRefusal::not_smaller);
  CHECK(mtus.learn(read({.mtu = 1300, .packet_bytes = 1300}), live_sa(), kLearned).error() ==
        TooBigRefusal::not_smaller);
}

TEST_CASE("path MTU: the number of peers remembered is bounded") {
  PathMtus mtus;
  for (std::uint32_t i = 0; i < PathMtus::kPeers + 100; ++i) {
    TooBigMessage message = read({});
    QuotedSa sa = live_sa();
    sa.remote = message.remote = wire::IpAddress::v4(0x0a000000U + i);
    CHECK(mtus.learn(message, sa, kLearned + std::chrono::seconds(i / 1000)));
  }
  CHECK(mtus.peers() == PathMtus::kPeers);
}

}  // namespace culvert::dataplane::control
