#include <catch2/catch.hpp>

#include "dataplane/control/path_mtu.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "tests/unit/dataplane/too_big_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

using test::address;
using Octets = std::vector<std::uint8_t>;
using namespace std::chrono_literals;

/// An IPv6 extension header; what it names as next is filled in.
struct Extension {
  std::uint8_t type = 0;
  Octets bytes;
};
const Extension kHopByHop{0, {0, 0, 1, 4, 0, 0, 0, 0}};
const Extension kDestinationOptions{60, {0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}};
const Extension kRouting{43,
                         {0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}};
/// Of a packet that is cut: the place in octets, and whether more come.
Extension piece(std::uint16_t offset, bool more) {
  Octets bytes(8);
  wire::store_u16(&bytes[2], static_cast<std::uint16_t>(offset | (more ? 1U : 0U)));
  return {44, bytes};
}

struct Message {
  bool is_v4 = true;
  bool in_udp = false;
  std::uint32_t spi = 0x1001, sequence = 77, mtu = 1300;
  std::uint16_t packet_bytes = 1480;
  std::vector<Extension> chain = {};  ///< IPv6
  std::uint16_t fragment = 0x4000;    ///< IPv4 flags and offset
};

wire::IpAddress local(bool is_v4) { return address(is_v4 ? "192.0.2.1" : "2001:db8::1"); }
wire::IpAddress remote(bool is_v4) { return address(is_v4 ? "192.0.2.2" : "2001:db8::2"); }
wire::IpAddress router(bool is_v4) { return address(is_v4 ? "198.51.100.9" : "2001:db8:9::9"); }

/// As the router quotes it, no more than what names the SA.
Octets quoted_of(const Message& what) {
  const bool v4 = what.is_v4;
  const std::uint8_t upper = what.in_udp ? 17 : 50;
  Octets quoted = test::ip_header(what.chain.empty() ? upper : what.chain.front().type,
                                  what.packet_bytes, local(v4), remote(v4));
  if (v4) wire::store_u16(&quoted[wire::ipv4::kFragment], what.fragment);
  for (std::size_t i = 0; i < what.chain.size(); ++i) {
    Octets extension = what.chain[i].bytes;
    extension[0] = i + 1 < what.chain.size() ? what.chain[i + 1].type : upper;
    quoted.insert(quoted.end(), extension.begin(), extension.end());
  }
  if (what.in_udp) quoted.resize(quoted.size() + 8, 0x11);
  Octets esp(8);
  wire::store_u32(&esp[0], what.spi);
  wire::store_u32(&esp[4], what.sequence);
  quoted.insert(quoted.end(), esp.begin(), esp.end());
  return quoted;
}

Octets message_of(const Message& what) {
  return test::too_big_about(quoted_of(what), what.mtu, router(what.is_v4), local(what.is_v4));
}

TooBigMessage read(const Message& what) { return read_too_big(message_of(what)).value(); }

QuotedSa live_sa(bool is_v4 = true, std::uint64_t sequence = 100, std::uint16_t path_mtu = 0xffff) {
  return {channel::SaId{5}, local(is_v4), {remote(is_v4), 0}, sequence, path_mtu};
}

constexpr Instant kLearned = 1000s;
const wire::Endpoint kDestination{remote(true), 0};

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

TEST_CASE("path MTU: eight quoted bytes (RFC 792) name the SA of ESP, and none of ESP in UDP") {
  constexpr std::size_t kQuoted = wire::ipv4::kHeaderBytes + 8;
  const auto read_first = [&](const Message& what) {
    const Octets quoted = quoted_of(what);
    return read_too_big(test::too_big_about(wire::Bytes(quoted).first(kQuoted), what.mtu,
                                            router(true), local(true)));
  };
  const auto plain = read_first({});
  REQUIRE(plain);
  CHECK(plain->spi == 0x1001);
  CHECK_FALSE(read_first({.in_udp = true}));
}

TEST_CASE(
    "path MTU: the first piece of what was sealed and then cut names its SA, later ones none") {
  for (const bool in_udp : {false, true}) {
    CAPTURE(in_udp);
    const TooBigMessage v6 = read({.is_v4 = false, .in_udp = in_udp, .chain = {piece(0, true)}});
    CHECK(v6.spi == 0x1001);
    CHECK(v6.sequence == 77);
    CHECK(v6.packet_bytes == 1480);
    CHECK(v6.remote == remote(false));
    const TooBigMessage v4 = read({.in_udp = in_udp, .fragment = 0x2000});
    CHECK(v4.spi == 0x1001);
    CHECK(v4.packet_bytes == 1480);
    for (const bool more : {false, true}) {
      const Message later6{.is_v4 = false, .in_udp = in_udp, .chain = {piece(1432, more)}};
      CHECK_FALSE(read_too_big(message_of(later6)));
      const auto fragment = static_cast<std::uint16_t>((more ? 0x2000 : 0) | 179);
      CHECK_FALSE(read_too_big(message_of({.in_udp = in_udp, .fragment = fragment})));
    }
  }
}

TEST_CASE("path MTU: IPv6's extension headers stand in front of ESP in transport mode") {
  const std::vector<std::vector<Extension>> chains{
      {kHopByHop},
      {kRouting},
      {kDestinationOptions},
      {kHopByHop, kDestinationOptions, kRouting, kDestinationOptions},
      {kHopByHop, kRouting, piece(0, true), kDestinationOptions},
  };
  for (const auto& chain : chains) {
    CAPTURE(chain.size(), int{chain.front().type});
    for (const bool in_udp : {false, true}) {
      const Message what{.is_v4 = false, .in_udp = in_udp, .chain = chain};
      const TooBigMessage message = read(what);
      CHECK(message.spi == 0x1001);
      CHECK(message.sequence == 77);
      CHECK(message.local == local(false));
      CHECK(message.remote == remote(false));
      // However little a router quotes, nothing behind it is read.
      const Octets quoted = quoted_of(what);
      for (std::size_t length = 0; length < quoted.size(); ++length) {
        CHECK_FALSE(read_too_big(test::too_big_about(wire::Bytes(quoted).first(length), 1300,
                                                     router(false), local(false))));
      }
    }
  }
  // Behind the packet's own end there is none of it.
  const Message beyond{.is_v4 = false, .packet_bytes = 40 + 15, .chain = {kHopByHop}};
  CHECK_FALSE(read_too_big(message_of(beyond)));
  // A header that says it is longer than all there is.
  Extension longer = kDestinationOptions;
  longer.bytes[1] = 255;
  CHECK_FALSE(read_too_big(message_of({.is_v4 = false, .chain = {longer}})));
  // More headers than any honest packet has.
  CHECK_FALSE(read_too_big(
      message_of({.is_v4 = false, .chain = std::vector<Extension>(9, kDestinationOptions)})));
  // AH's is none of them: what is behind it is not ours.
  CHECK_FALSE(read_too_big(message_of({.is_v4 = false, .chain = {{51, kHopByHop.bytes}}})));
}

TEST_CASE("path MTU: a message cut anywhere, or changed anywhere in ICMP, is not believed") {
  for (const bool is_v4 : {true, false}) {
    const Octets whole = message_of({.is_v4 = is_v4});
    for (std::size_t length = 0; length < whole.size(); ++length) {
      CHECK_FALSE(read_too_big(wire::Bytes(whole).first(length)));
    }
    for (std::size_t at = is_v4 ? 20 : 40; at < whole.size(); ++at) {
      Octets changed = whole;
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
  CHECK(mtus.learn(read({}), live_sa(), kLearned).value().mtu == 1300);
  CHECK(mtus.of(kDestination, kLearned + 9min) == 1300);
  mtus.joined(kDestination, channel::SaId{6});
  mtus.joined(kDestination, channel::SaId{7});
  mtus.left(kDestination, channel::SaId{7});
  CHECK(mtus.expire(kLearned + 9min).empty());
  const auto over = mtus.expire(kLearned + PathMtus::kLifetime);
  CHECK(over == std::vector{channel::SaId{5}, channel::SaId{6}});
  CHECK_FALSE(mtus.of(kDestination, kLearned + 11min));
}

TEST_CASE("path MTU: of two peers behind one NAT's address neither says anything of the other's") {
  PathMtus mtus;
  const wire::Endpoint first{remote(true), 1001}, second{remote(true), 1002};
  QuotedSa sa = live_sa();
  sa.remote = first;
  REQUIRE(mtus.learn(read({.in_udp = true}), sa, kLearned).value().mtu == 1300);
  CHECK(mtus.of(first, kLearned) == 1300);
  CHECK_FALSE(mtus.of(second, kLearned));
  CHECK_FALSE(mtus.of(kDestination, kLearned));
}

TEST_CASE("path MTU: over IPv4 never below what every host takes whole (RFC 791 §3.1)") {
  PathMtus mtus;
  CHECK(mtus.learn(read({.mtu = 1279}), live_sa(), kLearned).value().mtu == 1279);
  CHECK(mtus.learn(read({.mtu = 68}), live_sa(), kLearned).value().mtu == 576);
}

TEST_CASE("path MTU: over IPv6 less than the minimum link MTU is discarded (RFC 8201 §4)") {
  PathMtus mtus;
  for (const std::uint32_t mtu : {0U, 300U, 1279U}) {
    const Message message{.is_v4 = false, .mtu = mtu};
    CHECK(mtus.learn(read(message), live_sa(false), kLearned).error() ==
          TooBigRefusal::below_minimum);
  }
  CHECK(mtus.peers() == 0);
  CHECK(mtus.learn(read({.is_v4 = false, .mtu = 1280}), live_sa(false), kLearned).value().mtu ==
        1280);
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

TEST_CASE("path MTU: nor does one through a second SA to the peer (RFC 8201 §4)") {
  PathMtus mtus;
  QuotedSa second = live_sa();
  second.sa = channel::SaId{6};
  CHECK(mtus.learn(read({.mtu = 1300}), live_sa(), kLearned).value().mtu == 1300);
  CHECK(mtus.learn(read({.mtu = 1400}), second, kLearned + 5min).value().mtu == 1300);
  CHECK(mtus.of(kDestination, kLearned + 5min) == 1300);
  // Nothing larger is tried right after a message either.
  CHECK(mtus.expire(kLearned + 10min).empty());
  CHECK(mtus.of(kDestination, kLearned + 14min) == 1300);
  CHECK(mtus.expire(kLearned + 15min) == std::vector{channel::SaId{5}, channel::SaId{6}});
  CHECK(mtus.learn(read({.mtu = 1400}), second, kLearned + 16min).value().mtu == 1400);
}

TEST_CASE("path MTU: what is over at once for many SAs is told in bounded parts") {
  PathMtus mtus;
  REQUIRE(mtus.learn(read({}), live_sa(), kLearned));
  for (std::uint64_t sa = 6; sa < 6 + PathMtus::kExpiredAtOnce; ++sa) {
    mtus.joined(kDestination, channel::SaId{sa});
  }
  const Instant end = kLearned + PathMtus::kLifetime;
  CHECK(mtus.expire(end).size() == PathMtus::kExpiredAtOnce);
  CHECK_FALSE(mtus.of(kDestination, end));
  SECTION("until all are") {
    CHECK(mtus.expire(end) == std::vector{channel::SaId{5 + PathMtus::kExpiredAtOnce}});
    CHECK(mtus.expire(end).empty());
    CHECK(mtus.peers() == 0);
  }
  SECTION("a message meanwhile does not find what is over (RFC 8201 §4)") {
    CHECK(mtus.learn(read({.mtu = 1400}), live_sa(), end).value().mtu == 1400);
  }
}

TEST_CASE(
    "path MTU: the number of peers remembered is bounded; SAs of those that give way are told") {
  PathMtus mtus;
  for (std::uint32_t i = 0; i < PathMtus::kPeers + 100; ++i) {
    TooBigMessage message = read({});
    QuotedSa sa = live_sa();
    sa.sa = channel::SaId{i + 1};
    message.remote = wire::IpAddress::v4(0x0a000000U + i);
    sa.remote = {message.remote, 0};
    const auto learnt = mtus.learn(message, sa, kLearned + std::chrono::seconds(i));
    REQUIRE(learnt);
    if (i < PathMtus::kPeers) {
      REQUIRE(learnt->over.empty());
    } else {
      // The one whose time is over first.
      CHECK(learnt->over == std::vector{channel::SaId{i + 1 - PathMtus::kPeers}});
    }
  }
  CHECK(mtus.peers() == PathMtus::kPeers);
}

}  // namespace culvert::dataplane::control
