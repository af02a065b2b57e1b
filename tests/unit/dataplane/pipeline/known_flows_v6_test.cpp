// The short way of flows with IPv6 inside, outside or both: what leaves must not tell it from the
// long one, and what is not the common case must not go it.
#include <algorithm>
#include <array>

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/sender.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

struct Families {
  bool inner_v6, outer_v6;
};
constexpr Families kV6InV6{true, true}, kV6InV4{true, false}, kV4InV6{false, true};

SaOptions options_of(Families families) {
  return with_families(families.outer_v6, families.inner_v6);
}

/// UDP from the client to the far side.
Packet packet_of_client(bool v6, std::size_t payload) {
  return ip_packet(from_client(v6, payload));
}

Packet begin_of(const Packet& packet, std::size_t bytes) {
  return {packet.begin(), packet.begin() + static_cast<std::ptrdiff_t>(bytes)};
}

}  // namespace

TEST_CASE("known IPv6 flow: its packets leave as the first one did, and arrive as it did") {
  const Families families = GENERATE(kV6InV6, kV6InV4, kV4InV6);
  const std::size_t payload = GENERATE(0U, 1U, 2U, 3U, 64U, 1370U);
  const auto traffic_class = GENERATE(values<std::uint8_t>({0x00, 0xb9, 0x02, 0xff}));
  const auto fragment = GENERATE(values<std::uint16_t>({0x4000, 0x0000}));
  SaOptions options = options_of(families);
  options.esn = GENERATE(false, true);
  options.udp = GENERATE(false, true);
  if (options.udp && families.outer_v6) return;
  if (families.inner_v6 && fragment == 0) return;  // it has no such field
  Sender left(options);
  Gateway right(mirrored());
  right.install(inbound_sa(options));
  right.policy(PolicyAction::bypass, options.remote_selectors[0], options.local_selectors[0]);
  PacketOptions packet = from_client(families.inner_v6, payload);
  packet.traffic_class = traffic_class;
  packet.fragment = fragment;
  Packet sent = ip_packet(packet);
  if (families.inner_v6) {
    sent[1] |= 0x0a;  // a flow label, which stays inside
    sent[2] = 0x12;
    sent[3] = 0x34;
  }
  REQUIRE_FALSE(knows(left.gateway, sent));

  const Packet first = left.seal(sent);
  REQUIRE(knows(left.gateway, sent));
  CHECK_FALSE(left.went_the_short_way());
  const Packet second = left.seal(sent);
  CHECK(left.went_the_short_way());
  const Packet long_way = ip_of(first), short_way = ip_of(second);
  REQUIRE(short_way.size() == long_way.size());
  CHECK(wire::parse_ip(short_way).has_value());  // its checksum among others
  const std::size_t esp = (families.outer_v6 ? 40U : 20U) + (options.udp ? 8U : 0U);
  Packet expected = long_way;
  expected[esp + 7] = 2;  // sequence number
  if (!families.outer_v6) {
    expected[10] = short_way[10];  // checksum
    expected[11] = short_way[11];
  }
  CHECK(begin_of(short_way, esp + 8) == begin_of(expected, esp + 8));
  CHECK(begin_of(first, 14) == begin_of(second, 14));

  const Result first_arrived = right.receive(kWan, first);
  const Result second_arrived = right.receive(kWan, second);
  REQUIRE(first_arrived.lan.size() == 1);
  REQUIRE(second_arrived.lan.size() == 1);
  CHECK(first_arrived.lan[0] == second_arrived.lan[0]);
  CHECK(knows(right, sent, PacketOrigin::tunnel));
  CHECK(left.gateway.tables().spd->entries()[0].packets == 2);
}

TEST_CASE("known IPv6 flow: what a policy lets pass leaves as the first one did") {
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "2001:db8:1::/64", "2001:db8:2::/64");
  Packet sent = packet_of_client(true, GENERATE(0U, 3U, 1452U));
  sent[1] = 0x95;  // class of traffic, flow label
  sent[3] = 0x77;
  std::vector<Packet> left;
  for (int time = 0; time < 3; ++time) {
    const Result result = gateway.receive(kLan, std::vector<Packet>(2, frame(sent)));
    left.insert(left.end(), result.wan.begin(), result.wan.end());
    CHECK(knows(gateway, sent));
  }
  REQUIRE(left.size() == 6);
  Packet expected = sent;
  --expected[7];  // hop limit
  for (const Packet& one : left) {
    CHECK(one == frame(expected));
  }
  CHECK(gateway.tables().spd->entries()[0].packets == 6);
  const Result over = gateway.receive(kLan, frame(packet_of_client(true, 1453)));
  REQUIRE(over.punts.size() == 1);
  CHECK(over.punts[0].what.reason == PuntReason::packet_too_big);
}

TEST_CASE("known IPv6 flow: a packet with its last hop is for the main thread (RFC 4443 §3.3)") {
  Sender left(options_of(kV6InV6));
  PacketOptions last = from_client(true, 32);
  left.seal(ip_packet(last));
  last.ttl = 1;
  const Result after = left.gateway.receive(kLan, frame(ip_packet(last)));
  CHECK(after.wan.empty());
  REQUIRE(after.punts.size() == 1);
  CHECK(after.punts[0].what.reason == PuntReason::ttl_exceeded);
}

TEST_CASE("known IPv6 flow: the largest packet that fits passes, one byte more is told of") {
  const Families families = GENERATE(kV6InV6, kV6InV4);
  Sender left(options_of(families));
  left.seal(packet_of_client(true, 0));
  // 1500 on the link: outer header, ESP, IV and ICV around text of whole words, whose last two are
  // the trailer's.
  const std::size_t largest = (families.outer_v6 ? 1428U : 1448U) - 2;
  CHECK(ip_of(left.seal(packet_of_client(true, largest - 48))).size() == 1500);
  CHECK(left.went_the_short_way());
  const Result over = left.gateway.receive(kLan, frame(packet_of_client(true, largest - 47)));
  CHECK(over.wan.empty());
  REQUIRE(over.punts.size() == 1);
  CHECK(over.punts[0].what.reason == PuntReason::packet_too_big);
  CHECK(over.punts[0].what.mtu == largest);
}

TEST_CASE("known IPv6 flow: extension headers, fragments and ICMP go the long way") {
  Sender left(options_of(kV6InV6));
  const Packet plain = packet_of_client(true, 32);
  left.seal(plain);
  const Packet options{0, 0, 1, 4, 0, 0, 0, 0};  // PadN
  for (const Packet& odd :
       {behind_extension(plain, 0, options), behind_extension(plain, 60, options),
        behind_extension(plain, 44, Packet(8)),
        behind_extension(plain, 44, {0, 0, 0, 1, 7, 7, 7, 7}),
        echo_request("2001:db8:1::9", "2001:db8:2::7")}) {
    for (int time = 0; time < 2; ++time) {
      CHECK(ip_of(left.seal(odd)).size() > odd.size());
      CHECK_FALSE(left.went_the_short_way());
      CHECK_FALSE(knows(left.gateway, odd));
    }
  }
  left.seal(plain);
  CHECK(left.went_the_short_way());
}

TEST_CASE("known IPv6 flow: a SYN of it goes the long way, where its segment size is lowered") {
  Sender left(options_of(kV6InV6));
  PacketOptions options = from_client(true, 0);
  options.protocol = 6;
  options.payload = udp(5000, 4000, Packet(12, 0));
  options.payload[12] = 0x50;
  options.payload[13] = 0x10;
  left.seal(ip_packet(options));
  left.seal(ip_packet(options));
  CHECK(left.went_the_short_way());
  options.payload[13] = 0x02;
  left.seal(ip_packet(options));
  CHECK_FALSE(left.went_the_short_way());
}

TEST_CASE(
    "known IPv6 flow: an SA in UDP over IPv6, or with options of its own, keeps the long way") {
  SaOptions options = options_of(kV6InV6);
  SaSettings settings;
  SECTION("UDP, whose checksum covers the ciphertext (RFC 8200 §8.1)") { options.udp = true; }
  SECTION("flow label") { settings.headers.copy_flow_label = true; }
  SECTION("DSCP") { settings.headers.copy_dscp = config::CopyDscp::none; }
  SECTION("ECN") { settings.headers.copy_ecn = false; }
  SECTION("padding") { settings.headers.tfc_padding = 300; }
  Sender left(options, settings);
  for (int time = 0; time < 2; ++time) {
    left.seal(packet_of_client(true, 32));
    CHECK_FALSE(left.went_the_short_way());
  }
  CHECK_FALSE(knows(left.gateway, packet_of_client(true, 32)));
}

TEST_CASE("known IPv6 flow: a rekey reaches its next packet, and nothing leaves in clear") {
  Sender left(options_of(kV6InV6));
  const Packet sent = packet_of_client(true, 32);
  const auto spi = [&] { return wire::load_u32(ip_of(left.seal(sent)).data() + 40); };
  REQUIRE(spi() == 0x1000);
  const SlotIndex slot = left.gateway.install(outbound_sa(options_of(kV6InV6), 0x2000));
  REQUIRE(left.gateway.tables().spd->rebind(channel::PolicyId{1}, slot));
  CHECK_FALSE(knows(left.gateway, sent));
  CHECK(spi() == 0x2000);
  CHECK(spi() == 0x2000);
  CHECK(left.went_the_short_way());
  left.gateway.tables().spd->unbind(slot);
  const Result after = left.gateway.receive(kLan, frame(sent));
  CHECK(after.wan.empty());
  REQUIRE(after.punts.size() == 1);
  CHECK(after.punts[0].what.reason == PuntReason::acquire);
}

TEST_CASE("known IPv6 flow: a hard lifetime lets not one packet more through (RFC 4301 §4.4.2.1)") {
  SaOptions options = options_of(kV6InV6);
  const Packet sent = packet_of_client(true, 32);  // 80 bytes
  SECTION("bytes") { options.lifetime.hard_bytes = 80 * 10 + 79; }
  SECTION("packets") { options.lifetime.hard_packets = 10; }
  Sender left(options);
  std::size_t passed = left.gateway.receive(kLan, frame(sent)).wan.size();
  std::uint64_t refused = 0;
  for (int burst = 0; burst < 5; ++burst) {
    const Result result = left.gateway.receive(kLan, std::vector<Packet>(3, frame(sent)));
    passed += result.wan.size();
    refused += result.dropped(DropReason::sa_expired);
  }
  CHECK(passed == 10);
  CHECK(refused == 6);
}

TEST_CASE("known IPv6 flow: a burst of both families in both leaves each its own way, in order") {
  // By kind: SAs of both families inside and out, and what passes in clear.
  constexpr std::array<Families, 4> kKinds{
      {{false, false}, {false, true}, {true, false}, {true, true}}};
  Gateway left, right(mirrored());
  right.policy(PolicyAction::bypass, "10.2.0.0/16", "10.1.0.0/16");
  right.policy(PolicyAction::bypass, "2001:db8:2::/64", "2001:db8:1::/64");
  const auto kind_of = [](const Packet& one) {
    return std::size_t{one[12] == 0x08 ? one[14 + 15] - 40U : one[14 + 23] - 0x40U};
  };
  const auto source_of = [&](std::size_t kind) {
    const bool v6 = kind == kKinds.size() || kKinds[kind].inner_v6;
    return (v6 ? "2001:db8:1::4" : "10.1.0.4") + std::to_string(kind);
  };
  for (std::uint32_t kind = 0; kind < kKinds.size(); ++kind) {
    SaOptions options = options_of(kKinds[kind]);
    options.local_selectors = {source_of(kind) + (kKinds[kind].inner_v6 ? "/128" : "/32")};
    const std::uint32_t spi = 0x1000 * (kind + 1) + kind;
    left.protect(options.local_selectors[0], options.remote_selectors[0],
                 left.install(outbound_sa(options, spi)));
    right.install(inbound_sa(options, spi));
  }
  left.policy(PolicyAction::bypass, "2001:db8:1::44/128", "2001:db8:2::/64");
  const auto packet = [&](std::size_t kind, std::uint8_t number) {
    const bool v6 = kind == kKinds.size() || kKinds[kind].inner_v6;
    PacketOptions options = from_client(v6, 0);
    options.source = source_of(kind);
    options.payload = udp(5000, 4000, Packet(40 + kind, number));
    return frame(ip_packet(options));
  };
  std::vector<Packet> first, burst;
  std::array<std::vector<std::uint8_t>, kKinds.size() + 1> expected, found;
  for (std::size_t kind = 0; kind <= kKinds.size(); ++kind) first.push_back(packet(kind, 0));
  REQUIRE(left.receive(kLan, first).wan.size() == first.size());
  for (std::uint8_t number = 1; number <= 60; ++number) {
    const std::size_t kind = (number / 4U + number % 3U / 2U) % (kKinds.size() + 1);
    burst.push_back(packet(kind, number));
    expected[kind].push_back(number);
  }
  const Result sent = left.receive(kLan, burst);
  CHECK(left.worker().went_the_short_way);
  REQUIRE(sent.wan.size() == 60);
  std::vector<Packet> sealed;
  for (const Packet& one : sent.wan) {
    const bool is_clear = one[12] == 0x86 && one[14 + 6] == 17;
    if (is_clear) {
      found.back().push_back(one.back());
    } else {
      sealed.push_back(one);
    }
  }
  for (int time = 0; time < 2; ++time) {
    const Result opened = right.receive(kWan, sealed);
    if (time == 1) {
      CHECK(opened.dropped(DropReason::replay_duplicate) == sealed.size());
      continue;
    }
    CHECK(opened.drops.empty());
    for (const Packet& one : opened.lan) found.at(kind_of(one)).push_back(one.back());
  }
  CHECK(found == expected);
}
