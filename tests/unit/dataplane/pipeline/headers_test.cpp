// What a whole worker does to headers: the fields that go out and come in, padding that hides, and
// what a NAT needs.
#include <set>

#include <catch2/catch.hpp>

#include "dataplane/tables/outer_header.hpp"
#include "dataplane/worker/header_fields.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/checksum.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

std::uint8_t class_of(const Packet& whole) { return traffic_class_at(&whole[14]); }

}  // namespace

TEST_CASE("headers: an SA's DSCP, DF and TTL stand in its outer header") {
  config::HeaderOptions headers;
  headers.copy_dscp = config::CopyDscp::none;
  headers.dscp = 46;
  headers.df = config::DontFragment::set;
  headers.hop_limit = 7;
  Pair pair(headers);
  const Packet outer = pair.sealed({.traffic_class = 0x29, .fragment = 0});
  CHECK(class_of(outer) == (46 << 2 | 1));
  CHECK((wire::load_u16(&outer[14 + 6]) & 0x4000) != 0);
  CHECK(outer[14 + 8] == 7);
  const Result opened = pair.right.receive(kWan, outer);
  REQUIRE(opened.lan.size() == 1);
  CHECK(class_of(opened.lan[0]) == 0x29);
}

TEST_CASE("headers: df: clear cuts no transport packet whose own DF is set (RFC 791 §3.2)") {
  config::HeaderOptions headers;
  headers.df = config::DontFragment::clear;
  SaOptions options;
  options.mode = channel::SaMode::transport;
  options.local_selectors = {"198.51.100.1/32"};
  options.remote_selectors = {"198.51.100.2/32"};
  Pair pair(headers, options);
  const auto sent = [&](std::uint16_t fragment) {
    const PacketOptions packet{.source = "198.51.100.1",
                               .destination = "198.51.100.2",
                               .protocol = 99,
                               .fragment = fragment,
                               .payload = Packet(1480, 1)};
    return pair.left.inject(ip_packet(packet), {InjectKind::outbound_local, kWan, false});
  };
  const Result refused = sent(0x4000);
  CHECK(refused.wan.empty());
  REQUIRE(refused.punts.size() == 1);
  CHECK(refused.punts[0].what.reason == PuntReason::packet_too_big);
  CHECK(sent(0).wan.size() == 2);
}

TEST_CASE("headers: identifications follow an SA's numbers, each SA from where it begins") {
  const std::uint32_t start = GENERATE(7U, 0x1234U, 0xabcdfff0U);
  const bool udp = GENERATE(false, true);
  config::HeaderOptions headers;
  // The short way from the second burst on, and the way of headers by configuration.
  if (GENERATE(false, true)) headers.df = config::DontFragment::clear;
  SaOptions options;
  options.udp = udp;
  Gateway left;
  left.protect("10.1.0.0/24", "10.2.0.0/16",
               left.install(outbound_sa(options), {.headers = headers, .iv_start = start}));
  std::uint16_t number = 0;
  for (int burst = 0; burst < 3; ++burst) {
    const Packet sent = frame(ip_packet({.fragment = 0}));
    for (const Packet& outer : left.receive(kLan, std::vector<Packet>(3, sent)).wan) {
      CHECK(wire::load_u16(&outer[14 + 4]) == (++number ^ identification_start(start)));
      CHECK(wire::parse_ipv4(ip_of(outer)).has_value());
    }
  }
  CHECK(number == 9);
}

TEST_CASE("headers: of manual SAs under one key, too, each begins with another identification") {
  const std::uint32_t first = GENERATE(0U, 0xdeadbeefU);
  std::set<std::uint16_t> starts;
  for (std::uint32_t place = 0; place < 1000; ++place) {
    starts.insert(identification_start(first + (place << 16U)));
  }
  CHECK(starts.size() == 1000);
}

TEST_CASE("headers: two SAs to one peer begin with identifications of their own") {
  // By chance: of so many at most a few begin alike.
  Gateway left;
  std::set<std::uint16_t> first;
  for (std::uint32_t spi = 0x1000; spi < 0x1010; ++spi) {
    const SlotIndex slot = left.install(outbound_sa({}, spi));
    if (spi == 0x1000) {
      left.protect("10.1.0.0/24", "10.2.0.0/16", slot);
    } else {
      REQUIRE(left.tables().spd->rebind(channel::PolicyId{1}, slot));
    }
    const Result sent = left.receive(kLan, frame(ip_packet({.fragment = 0})));
    first.insert(wire::load_u16(&sent.wan.at(0)[14 + 4]));
  }
  CHECK(first.size() > 8);
}

TEST_CASE("headers: pieces of what two SAs sealed are told apart, however alike both begin") {
  config::HeaderOptions headers;
  headers.fragmentation = config::FragmentationOrder::after;
  Gateway left;
  std::set<std::uint16_t> names;
  for (const std::uint32_t spi : {0x1000U, 0x1001U}) {
    const SlotIndex slot = left.install(outbound_sa({}, spi), {.headers = headers, .iv_start = 7});
    if (spi == 0x1000) {
      left.protect("10.1.0.0/24", "10.2.0.0/16", slot);
    } else {
      REQUIRE(left.tables().spd->rebind(channel::PolicyId{1}, slot));
    }
    const PacketOptions packet{.fragment = 0, .payload = Packet(1480, 1)};
    const Result sent = left.receive(kLan, frame(ip_packet(packet)));
    REQUIRE(sent.wan.size() == 2);
    CHECK(wire::load_u16(&sent.wan[0][14 + 4]) == wire::load_u16(&sent.wan[1][14 + 4]));
    names.insert(wire::load_u16(&sent.wan[0][14 + 4]));
  }
  CHECK(names.size() == 2);
}

TEST_CASE("headers: without options, the outer header is what it always was") {
  Pair pair;
  const Packet outer = pair.sealed({.traffic_class = 0xba, .fragment = 0x4000});
  CHECK(class_of(outer) == 0xba);
  CHECK(wire::load_u16(&outer[14 + 6]) == 0x4000);
  CHECK(outer[14 + 8] == 64);
}

TEST_CASE("headers: the outer DSCP comes in when asked for, congestion always (RFC 6040)") {
  config::HeaderOptions headers;
  headers.copy_dscp = config::CopyDscp::both;
  Pair pair(headers);
  Packet outer = pair.sealed({.traffic_class = 0xba});
  outer[15] = 0x2b;  // another class on the way, and congestion
  fix_checksum(outer);
  const Result opened = pair.right.receive(kWan, outer);
  REQUIRE(opened.lan.size() == 1);
  CHECK(class_of(opened.lan[0]) == 0x2b);
  CHECK(wire::parse_ip(ip_of(opened.lan[0])));
}

TEST_CASE("headers: combinations of ECN that no honest path makes are counted (RFC 6040 §4.2)") {
  Pair pair;
  const auto through = [&](std::uint8_t inner, std::uint8_t outer_field) {
    Packet outer = pair.sealed({.traffic_class = inner});
    outer[15] = static_cast<std::uint8_t>((outer[15] & ~3) | outer_field);
    fix_checksum(outer);
    return pair.right.receive(kWan, outer);
  };
  const auto alarms = [&](EcnAlarm alarm) {
    return pair.traffic().ecn_alarms[static_cast<std::size_t>(alarm)];
  };
  CHECK(through(0, 2).lan.size() == 1);
  CHECK(through(0, 1).lan.size() == 1);
  CHECK(through(0, 3).dropped(DropReason::congestion_marked) == 1);
  CHECK(through(1, 2).lan.size() == 1);
  CHECK(through(3, 1).lan.size() == 1);
  CHECK(through(2, 3).lan.size() == 1);  // plain congestion: no alarm
  for (const EcnAlarm alarm :
       {EcnAlarm::not_ect_in_ect0, EcnAlarm::not_ect_in_ect1, EcnAlarm::not_ect_in_ce,
        EcnAlarm::ect1_in_ect0, EcnAlarm::ce_in_ect1}) {
    CHECK(alarms(alarm) == 1);
  }
}

TEST_CASE(
    "headers: traffic flow padding makes packets of one size, and comes off (RFC 4303 §2.7)") {
  config::HeaderOptions headers;
  SECTION("to a size") { headers.tfc_padding = 1000; }
  SECTION("to what the path carries") { headers.tfc_padding = config::HeaderOptions::kPadToPath; }
  Pair pair(headers);
  std::size_t size = 0;
  for (const std::size_t payload : {std::size_t{8}, std::size_t{100}, std::size_t{901}}) {
    const Packet sent = ip_packet({.protocol = 99, .payload = Packet(payload, 0x11)});
    const Result sealed = pair.left.receive(kLan, frame(sent));
    REQUIRE(sealed.wan.size() == 1);
    if (size == 0) size = sealed.wan[0].size();
    CHECK(sealed.wan[0].size() == size);
    CHECK(sealed.wan[0].size() <= 1514);
    const Result opened = pair.right.receive(kWan, sealed.wan[0]);
    REQUIRE(opened.lan.size() == 1);
    CHECK(ip_of(opened.lan[0]).size() == sent.size());
    CHECK(Packet(opened.lan[0].begin() + 34, opened.lan[0].end()) == Packet(payload, 0x11));
  }
}

TEST_CASE(
    "headers: behind a NAT, a transport packet's checksum fits its addresses (RFC 3948 §3.1.2)") {
  SaOptions inside;
  inside.mode = channel::SaMode::transport;
  inside.udp = true;
  inside.local_selectors = {"198.51.100.1/32"};
  inside.remote_selectors = {"198.51.100.2/32"};
  Gateway left, right(mirrored());
  left.protect("198.51.100.1/32", "198.51.100.2/32", left.install(outbound_sa(inside)));
  // The receiver knows the sender by the NAT's address.
  SaOptions seen = inside;
  seen.outer_local = "198.51.100.77";
  seen.local_selectors = {"198.51.100.77/32"};
  right.install(inbound_sa(seen));

  Packet datagram = udp(1234, 4242, Packet(21, 0x33));
  wire::ChecksumSum sum;
  sum.add_pseudo_header(wire::IpAddress::parse("198.51.100.1").value(),
                        wire::IpAddress::parse("198.51.100.2").value(), 17,
                        static_cast<std::uint32_t>(datagram.size()));
  sum.add(datagram);
  wire::store_u16(&datagram[6], sum.finish());
  const Packet packet =
      ip_packet({.source = "198.51.100.1", .destination = "198.51.100.2", .payload = datagram});
  const Result sealed = left.inject(packet, {InjectKind::outbound_local, kWan, false});
  REQUIRE(sealed.wan.size() == 1);
  Packet translated = sealed.wan[0];
  translated[14 + 15] = 77;
  fix_checksum(translated);
  const Result opened = right.receive(kWan, translated);
  REQUIRE(opened.punts.size() == 1);  // nobody listens: the sender is told, with the packet
  CHECK(opened.punts[0].what.reason == PuntReason::port_unreachable);
  wire::ChecksumSum at_receiver;
  at_receiver.add_pseudo_header(wire::IpAddress::parse("198.51.100.77").value(),
                                wire::IpAddress::parse("198.51.100.2").value(), 17,
                                static_cast<std::uint32_t>(datagram.size()));
  at_receiver.add(wire::Bytes(opened.punts[0].bytes).subspan(20));
  CHECK(at_receiver.finish() == 0);
}

TEST_CASE("headers: how late packets come is kept, and what window they would have needed") {
  SaOptions options;
  options.window = 32;
  Pair pair({}, options);
  std::vector<Packet> sealed;
  for (int i = 0; i < 200; ++i) sealed.push_back(pair.sealed());
  CHECK(pair.right.receive(kWan, sealed[190]).lan.size() == 1);
  CHECK(pair.right.receive(kWan, sealed[189]).lan.size() == 1);  // 1 behind
  CHECK(pair.right.receive(kWan, sealed[170]).lan.size() == 1);  // 20
  CHECK(pair.right.receive(kWan, sealed[90]).lan.empty());       // 100: left of the window
  CHECK(pair.right.receive(kWan, sealed[170]).lan.empty());      // a duplicate is not late
  CHECK(pair.right.receive(kWan, sealed[191]).lan.size() == 1);
  const SaTraffic traffic = pair.traffic();
  CHECK(traffic.late.accepted[1] == 1);
  CHECK(traffic.late.accepted[5] == 1);
  CHECK(traffic.late.missed[7] == 1);
  std::uint64_t all = 0;
  for (const std::uint64_t count : traffic.late.accepted) all += count;
  for (const std::uint64_t count : traffic.late.missed) all += count;
  CHECK(all == 3);
}

TEST_CASE(
    "headers: an SA that begins near 2^32 goes over it with ESN, in both directions of time") {
  SaOptions options;
  options.esn = true;
  Gateway left, right(mirrored());
  const SaSettings settings{.headers = {}, .first_sequence = 0xfffffff0};
  left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa(options), settings));
  const auto in = inbound_sa(options);
  right.install(in, settings);
  std::vector<Packet> sealed;
  for (int i = 0; i < 40; ++i) {
    sealed.push_back(left.receive(kLan, frame(ip_packet({}))).wan.at(0));
  }
  // Every other one first, the rest behind: across the wrap both ways.
  std::size_t passed = 0;
  for (const std::size_t first : {std::size_t{1}, std::size_t{0}}) {
    for (std::size_t i = first; i < sealed.size(); i += 2) {
      passed += right.receive(kWan, sealed[i]).lan.size();
    }
  }
  CHECK(passed == 40);
  Sad& sad = *right.tables().sad;
  CHECK(sad.traffic(*sad.find(in.sa)).sequence == 0x100000017);
  CHECK(right.receive(kWan, sealed[0]).dropped(DropReason::replay_duplicate) == 1);
}

TEST_CASE("headers: what an SA that begins late has behind it counts as received") {
  Gateway left, right(mirrored());
  left.protect("10.1.0.0/24", "10.2.0.0/16",
               left.install(outbound_sa({}), {.headers = {}, .first_sequence = 990}));
  right.install(inbound_sa({}), {.headers = {}, .first_sequence = 1000});
  for (int sequence = 990; sequence < 1000; ++sequence) {
    const Result opened = right.receive(kWan, left.receive(kLan, frame(ip_packet({}))).wan.at(0));
    CHECK(opened.dropped(DropReason::replay_duplicate) == 1);
  }
  CHECK(right.receive(kWan, left.receive(kLan, frame(ip_packet({}))).wan.at(0)).lan.size() == 1);
}
