// A flow's first packet goes the long way (policy, SAD, FIB), those behind it the short one. What
// leaves must not tell which, and a change of the tables must reach the next packet.
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

Packet client_packet(std::size_t payload, std::uint8_t traffic_class = 0,
                     std::uint16_t fragment = 0x4000) {
  return ip_packet({.traffic_class = traffic_class,
                    .fragment = fragment,
                    .payload = udp(5000, 4000, Packet(payload, 0x42))});
}

std::uint32_t spi_of(const Packet& outer) { return wire::load_u32(outer.data() + 20); }

}  // namespace

TEST_CASE("known flow: its packets leave as the first one did, and arrive as it did") {
  const std::size_t payload = GENERATE(0U, 1U, 2U, 3U, 4U, 64U, 500U, 1400U);
  const auto traffic_class = GENERATE(values<std::uint8_t>({0x00, 0xb8, 0x01, 0x02, 0x03}));
  const auto fragment = GENERATE(values<std::uint16_t>({0x4000, 0x0000}));
  SaOptions options;
  options.udp = GENERATE(false, true);
  options.esn = GENERATE(false, true);
  if (payload == 1400 && options.udp) return;  // beyond the link's 1500 bytes
  Sender left(options);
  Gateway right(mirrored());
  right.install(inbound_sa(options));
  right.policy(PolicyAction::bypass, "10.2.0.0/16", "10.1.0.0/16");
  const Packet sent = client_packet(payload, traffic_class, fragment);
  REQUIRE_FALSE(knows(left.gateway, sent));

  const Result first = left.gateway.receive(kLan, frame(sent));
  REQUIRE(first.wan.size() == 1);
  REQUIRE(knows(left.gateway, sent));
  const Result second = left.gateway.receive(kLan, frame(sent));
  REQUIRE(second.wan.size() == 1);

  const Packet long_way = ip_of(first.wan[0]), short_way = ip_of(second.wan[0]);
  REQUIRE(short_way.size() == long_way.size());
  CHECK(wire::parse_ipv4(short_way).has_value());  // its checksum among others
  Packet expected = long_way;
  expected[5] ^= 1 ^ 2;          // the identification follows the sequence number
  expected[10] = short_way[10];  // checksum
  expected[11] = short_way[11];
  const std::size_t esp = options.udp ? 28 : 20;
  expected[esp + 7] = 2;  // sequence number
  CHECK(Packet(short_way.begin(), short_way.begin() + static_cast<std::ptrdiff_t>(esp + 8)) ==
        Packet(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(esp + 8)));
  CHECK(Packet(first.wan[0].begin(), first.wan[0].begin() + 14) ==
        Packet(second.wan[0].begin(), second.wan[0].begin() + 14));

  const Result first_arrived = right.receive(kWan, first.wan[0]);
  const Result second_arrived = right.receive(kWan, second.wan[0]);
  REQUIRE(first_arrived.lan.size() == 1);
  REQUIRE(second_arrived.lan.size() == 1);
  CHECK(first_arrived.lan[0] == second_arrived.lan[0]);
  CHECK(knows(right, sent, PacketOrigin::tunnel));
  CHECK(left.gateway.tables().spd->entries()[0].packets == 2);
}

TEST_CASE("known flow: a rekey reaches its next packet") {
  Sender left;
  const Packet sent = client_packet(32);
  REQUIRE(spi_of(ip_of(left.gateway.receive(kLan, frame(sent)).wan.at(0))) == 0x1000);
  auto successor = outbound_sa({}, 0x2000);
  const SlotIndex slot = left.gateway.install(successor);
  REQUIRE(left.gateway.tables().spd->rebind(channel::PolicyId{1}, slot));
  CHECK_FALSE(knows(left.gateway, sent));
  CHECK(spi_of(ip_of(left.gateway.receive(kLan, frame(sent)).wan.at(0))) == 0x2000);
  CHECK(spi_of(ip_of(left.gateway.receive(kLan, frame(sent)).wan.at(0))) == 0x2000);
}

TEST_CASE("known flow: nothing leaves in clear when its SA ends (RFC 4301 §4.4.1)") {
  Sender left;
  const Packet sent = client_packet(32);
  REQUIRE(left.gateway.receive(kLan, frame(sent)).wan.size() == 1);
  REQUIRE(knows(left.gateway, sent));
  SECTION("it is removed while policy still names it") {
    REQUIRE(left.gateway.tables().sad->remove(left.spec.sa) == channel::Outcome::ok);
    const Result after = left.gateway.receive(kLan, frame(sent));
    CHECK(after.wan.empty());
    CHECK(after.dropped(DropReason::no_sa) == 1);
  }
  SECTION("it is stopped") {
    left.gateway.tables().sad->stop(left.spec.sa, StopCause::hard_time);
    const Result after = left.gateway.receive(kLan, frame(sent));
    CHECK(after.wan.empty());
    CHECK(after.dropped(DropReason::sa_expired) == 1);
  }
  SECTION("policy lets go of it: a trap") {
    left.gateway.tables().spd->unbind(left.slot);
    const Result after = left.gateway.receive(kLan, frame(sent));
    CHECK(after.wan.empty());
    REQUIRE(after.punts.size() == 1);
    CHECK(after.punts[0].what.reason == PuntReason::acquire);
  }
}

TEST_CASE("known flow: a packet with its last hop is for the main thread (RFC 1812 §5.3.1)") {
  Sender left;
  const Packet sent = client_packet(32);
  REQUIRE(left.gateway.receive(kLan, frame(sent)).wan.size() == 1);
  const Packet last = ip_packet({.ttl = 1, .payload = udp(5000, 4000, Packet(32, 0x42))});
  const Result after = left.gateway.receive(kLan, frame(last));
  CHECK(after.wan.empty());
  REQUIRE(after.punts.size() == 1);
  CHECK(after.punts[0].what.reason == PuntReason::ttl_exceeded);
}

TEST_CASE("known flow: the largest packet that fits passes, one byte more is told of") {
  Sender left;
  REQUIRE(left.gateway.receive(kLan, frame(client_packet(0))).wan.size() == 1);
  REQUIRE(knows(left.gateway, client_packet(0)));
  // 1500 on the link: 52 bytes around text of whole words, whose last two are the trailer's.
  constexpr std::size_t kLargest = 1448 - 2;
  const Result fits = left.gateway.receive(kLan, frame(client_packet(kLargest - 28)));
  REQUIRE(fits.wan.size() == 1);
  CHECK(ip_of(fits.wan[0]).size() == 1500);
  const Result over = left.gateway.receive(kLan, frame(client_packet(kLargest - 27)));
  CHECK(over.wan.empty());
  REQUIRE(over.punts.size() == 1);
  CHECK(over.punts[0].what.reason == PuntReason::packet_too_big);
  CHECK(over.punts[0].what.mtu == kLargest);
}

TEST_CASE("known flow: a path MTU that was learnt holds for its next packet, and ends with it") {
  Sender left;
  const Packet sent = client_packet(1000);
  REQUIRE(left.gateway.receive(kLan, frame(sent)).wan.size() == 1);
  left.gateway.tables().sad->set_path_mtu(left.spec.sa, 1000);
  for (int time = 0; time < 2; ++time) {
    const Result after = left.gateway.receive(kLan, frame(sent));
    CHECK(after.wan.empty());
    REQUIRE(after.punts.size() == 1);
    CHECK(after.punts[0].what.reason == PuntReason::packet_too_big);
    CHECK(left.gateway.receive(kLan, frame(client_packet(900))).wan.size() == 1);
  }
  CHECK(knows(left.gateway, sent));
  left.gateway.tables().sad->set_path_mtu(left.spec.sa, kNoPathMtu);
  CHECK(left.gateway.receive(kLan, frame(sent)).wan.size() == 1);
}

TEST_CASE("known flow: an SA with header options of its own keeps the long way") {
  SaSettings settings;
  SECTION("DSCP") { settings.headers.copy_dscp = config::CopyDscp::none; }
  SECTION("ECN") { settings.headers.copy_ecn = false; }
  SECTION("DF") { settings.headers.df = config::DontFragment::set; }
  SECTION("padding") { settings.headers.tfc_padding = 300; }
  Sender left({}, settings);
  const Packet sent = client_packet(32, 0xba);
  const Packet first = ip_of(left.gateway.receive(kLan, frame(sent)).wan.at(0));
  CHECK_FALSE(knows(left.gateway, sent));
  const Packet second = ip_of(left.gateway.receive(kLan, frame(sent)).wan.at(0));
  CHECK(second.size() == first.size());
  CHECK(second[1] == first[1]);
  CHECK(second[6] == first[6]);
}

TEST_CASE("known flow: its packets that come late are counted by how late") {
  Sender left;
  Gateway right(mirrored());
  const auto inbound = inbound_sa({});
  right.install(inbound);
  right.policy(PolicyAction::bypass, "10.2.0.0/16", "10.1.0.0/16");
  std::vector<Packet> sealed;
  for (int i = 0; i < 6; ++i) {
    sealed.push_back(left.gateway.receive(kLan, frame(client_packet(32))).wan.at(0));
  }
  for (const std::size_t arriving : {0U, 1U, 5U, 2U}) {
    CHECK(right.receive(kWan, sealed[arriving]).lan.size() == 1);
  }
  Sad& sad = *right.tables().sad;
  const LatePackets late = sad.traffic(*sad.find(inbound.sa)).late;
  CHECK(late.accepted[2] == 1);  // 3 behind: below 4
  CHECK(late.missed == decltype(late.missed){});
}

TEST_CASE("known flow: a hard lifetime lets not one packet more through (RFC 4301 §4.4.2.1)") {
  SaOptions options;
  const Packet sent = client_packet(32);  // 60 bytes
  SECTION("bytes") { options.lifetime.hard_bytes = 60 * 10 + 59; }
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

TEST_CASE("known flow: near a limit no policy's packets overtake another's on one SA") {
  SaOptions options;
  options.lifetime.hard_bytes = 500;
  Gateway left;
  const SlotIndex slot = left.install(outbound_sa(options));
  left.protect("10.1.0.0/24", "10.2.1.0/24", slot);
  left.protect("10.1.0.0/24", "10.2.2.0/24", slot);
  const auto packet = [](const std::string& destination, std::size_t bytes) {
    return frame(ip_packet(
        {.destination = destination, .payload = udp(5000, 4000, Packet(bytes - 28, 0x42))}));
  };
  const Packet large = packet("10.2.1.7", 200), small = packet("10.2.1.7", 100),
               other = packet("10.2.2.7", 100);
  REQUIRE(left.receive(kLan, {small, other}).wan.size() == 2);
  const Result after = left.receive(kLan, {large, large, large, other, small});
  // 300 bytes are left: the first passes, and nothing in front of the others.
  REQUIRE(after.wan.size() == 1);
  CHECK(ip_of(after.wan[0]).size() > 200);
  CHECK(after.dropped(DropReason::sa_expired) == 4);
}

TEST_CASE("known flow: a burst of every kind leaves each its own way, in order") {
  constexpr std::size_t kKinds = 4;  // by source: three SAs, and what passes in clear
  constexpr std::size_t kSource = 14 + 15, kFirstSource = 9;
  std::array<SaOptions, 3> options;
  options[1].udp = options[1].esn = true;
  options[1].key_bits = 256;
  options[2].lifetime.hard_packets = 5;
  Gateway left, right(mirrored());
  right.policy(PolicyAction::bypass, "10.2.0.0/16", "10.1.0.0/16");
  for (std::uint32_t kind = 0; kind < 3; ++kind) {
    const std::string source = "10.1.0." + std::to_string(kFirstSource + kind) + "/32";
    options[kind].local_selectors = {source};
    const std::uint32_t spi = 0x1000 * (kind + 1) + kind;
    left.protect(source, "10.2.0.0/16", left.install(outbound_sa(options[kind], spi)));
    right.install(inbound_sa(options[kind], spi));
  }
  left.policy(PolicyAction::bypass, "10.1.0.12/32", "10.2.0.0/16");
  const auto packet = [](std::size_t kind, std::uint8_t number) {
    return frame(ip_packet({.source = "10.1.0." + std::to_string(kFirstSource + kind),
                            .payload = udp(5000, 4000, Packet(40 + kind, number))}));
  };
  std::vector<Packet> first, burst;
  std::array<std::vector<std::uint8_t>, kKinds> expected, found;
  for (std::size_t kind = 0; kind < kKinds; ++kind) first.push_back(packet(kind, 0));
  REQUIRE(left.receive(kLan, first).wan.size() == kKinds);
  for (std::uint8_t number = 1; number <= 60; ++number) {
    const std::size_t kind = (number / 4U + number % 3U / 2U) % kKinds;  // alone and in runs
    burst.push_back(packet(kind, number));
    expected[kind].push_back(number);
  }
  const Result sent = left.receive(kLan, burst);
  CHECK(sent.dropped(DropReason::sa_expired) == expected[2].size() - 4);
  expected[2].resize(4);

  std::vector<Packet> sealed;
  // Kinds of sealed packets, but for the limited one's. What passes in clear leaves in front.
  std::vector<std::size_t> leaving, left_as;
  for (const Packet& one : burst) {
    const std::size_t kind = one[kSource] - kFirstSource;
    if (kind < 2) leaving.push_back(kind);
  }
  for (const Packet& one : sent.wan) {
    if (one[kSource] == kFirstSource + 3) {
      found[3].push_back(one.back());
      continue;
    }
    sealed.push_back(one);
    const bool is_in_udp = one[14 + 9] == 17;
    const std::uint32_t spi = wire::load_u32(one.data() + 14 + (is_in_udp ? 28 : 20));
    if (const std::size_t kind = (spi >> 12U) - 1; kind != 2) left_as.push_back(kind);
  }
  CHECK(left_as == leaving);
  const Result opened = right.receive(kWan, sealed);
  CHECK(opened.drops.empty());
  for (const Packet& one : opened.lan) found.at(one[kSource] - kFirstSource).push_back(one.back());
  CHECK(found == expected);
  std::vector<std::uint64_t> counted, met;
  for (const auto& entry : left.tables().spd->entries()) counted.push_back(entry.packets);
  for (const std::size_t kind : {0U, 1U, 2U, 3U}) {
    met.push_back(
        1 + static_cast<std::uint64_t>(std::ranges::count_if(
                burst, [&](const Packet& one) { return one[kSource] == kFirstSource + kind; })));
  }
  CHECK(counted == met);
}

TEST_CASE("known flow: bursts are short on the short way, and long where ciphers have lanes") {
  SaOptions options;
  const bool has_lanes = GENERATE(false, true);
  if (has_lanes) {
    options.suite = crypto::EspSuite{.encryption = crypto::Encryption::aes_cbc,
                                     .key_bits = 128,
                                     .integrity = crypto::Integrity::hmac_sha2_256_128};
  }
  Sender left(options);
  WorkerState& worker = left.gateway.worker();
  CHECK((worker.short_burst == 32 || worker.short_burst == 64));  // by the processor
  worker.short_burst = 32;
  const std::vector<Packet> burst(20, frame(client_packet(32)));
  for (int time = 0; time < 2; ++time) CHECK(left.gateway.receive(kLan, burst).wan.size() == 20);
  CHECK(worker.burst_packets[raw(kLan)] == (has_lanes ? 64 : 32));
}

TEST_CASE("known flow: a route that goes away is missed at once") {
  Sender left;
  const Packet sent = client_packet(32);
  REQUIRE(left.gateway.receive(kLan, frame(sent)).wan.size() == 1);
  left.gateway.tables().fib->remove(*wire::Prefix::parse("198.51.100.2/32"));
  left.gateway.tables().fib->remove(*wire::Prefix::parse("198.51.100.0/24"));
  const Result after = left.gateway.receive(kLan, frame(sent));
  CHECK(after.wan.empty());
  REQUIRE(after.punts.size() == 1);
  CHECK(after.punts[0].what.reason == PuntReason::no_route);
}

TEST_CASE("known flow: another default policy reaches its next packet (RFC 4301 §5.1)") {
  Gateway gateway;
  const auto in_force = [&](config::PolicyAction action) {
    gateway.tables().spd->replace(gateway.tables().spd->entries(), action);
  };
  const Packet sent = client_packet(32);
  in_force(config::PolicyAction::bypass);
  for (int time = 0; time < 2; ++time) {
    REQUIRE(gateway.receive(kLan, frame(sent)).wan.size() == 1);
    CHECK(knows(gateway, sent));
  }
  in_force(config::PolicyAction::discard);
  const Result refused = gateway.receive(kLan, frame(sent));
  CHECK(refused.wan.empty());
  CHECK(refused.dropped(DropReason::no_policy_match) == 1);
  in_force(config::PolicyAction::bypass);
  CHECK(gateway.receive(kLan, frame(sent)).wan.size() == 1);
}

TEST_CASE("known flow: a neighbour that is asked for again holds its packets") {
  Sender left;
  const Packet sent = client_packet(32);
  REQUIRE(left.gateway.receive(kLan, frame(sent)).wan.size() == 1);
  const AdjacencyIndex peer =
      left.gateway.tables().fib->lookup(wire::IpAddress::parse("198.51.100.2").value());
  left.gateway.tables().adjacencies->unresolve(peer);
  const Result after = left.gateway.receive(kLan, frame(sent));
  CHECK(after.wan.empty());
  REQUIRE(after.punts.size() == 1);
  CHECK(after.punts[0].what.reason == PuntReason::resolve_neighbor);
  CHECK(after.punts[0].what.link == kWan);
  CHECK(after.punts[0].what.next_hop.to_string() == "198.51.100.2");
}

TEST_CASE("known flow: an endpoint that moved is where the next packet goes") {
  Sender left;
  const Packet sent = client_packet(32);
  REQUIRE(left.gateway.receive(kLan, frame(sent)).wan.size() == 1);
  channel::UpdateEndpoints moved;
  moved.sa = left.spec.sa;
  moved.local = left.spec.local;
  moved.remote = {wire::IpAddress::parse("198.51.100.77").value(), 0};
  REQUIRE(left.gateway.tables().sad->update_endpoints(moved) == channel::Outcome::ok);
  const Result after = left.gateway.receive(kLan, frame(sent));
  // Nobody has that address yet: its MAC is asked for.
  CHECK(after.wan.empty());
  REQUIRE(after.punts.size() == 1);
  CHECK(after.punts[0].what.reason == PuntReason::resolve_neighbor);
  CHECK(after.punts[0].what.link == kWan);
  CHECK(after.punts[0].what.next_hop.is_unspecified());
}

TEST_CASE("known flow: fragments and ICMP of the same hosts go the long way") {
  Sender left;
  for (const Packet& odd : {client_packet(64, 0, 0x2000), client_packet(64, 0, 0x0004),
                            echo_request("10.1.0.9", "10.2.0.7")}) {
    for (int time = 0; time < 2; ++time) {
      CHECK(left.gateway.receive(kLan, frame(odd)).wan.size() == 1);
      CHECK_FALSE(knows(left.gateway, odd));
    }
  }
}

TEST_CASE("known flow: more flows than places, each still by its own SA") {
  Sender left;
  SaOptions elsewhere;
  elsewhere.remote_selectors = {"10.3.0.0/16"};
  const SlotIndex other = left.gateway.install(outbound_sa(elsewhere, 0x3000));
  left.gateway.protect("10.1.0.0/24", "10.3.0.0/16", other);
  for (int round = 0; round < 2; ++round) {
    for (unsigned batch = 0; batch < 100; ++batch) {  // of 1 024 places
      std::vector<Packet> frames;
      for (unsigned i = 0; i < 60; ++i) {
        const auto port = static_cast<std::uint16_t>(1000 + batch * 60 + i);
        frames.push_back(frame(ip_packet({.destination = i % 2 == 0 ? "10.2.0.7" : "10.3.0.7",
                                          .payload = udp(port, 4000, Packet(8, 1))})));
      }
      const Result result = left.gateway.receive(kLan, frames);
      REQUIRE(result.wan.size() == 60);
      unsigned to_other = 0;
      for (const Packet& sealed : result.wan) to_other += spi_of(ip_of(sealed)) == 0x3000;
      REQUIRE(to_other == 30);
    }
  }
}

namespace {

/// The flow of a client's port.
KnownFlow flow_of_port(std::uint32_t port) {
  KnownFlow flow;
  flow.key = {0x0a01000900000000U + port * 0x9e37U, std::uint64_t{port} << 32U | 0x1101U};
  flow.era = 1;
  return flow;
}
/// One packet of each of so many flows; how many were not known.
std::uint32_t pass(KnownFlows& flows, std::uint32_t count) {
  std::uint32_t unknown = 0;
  for (std::uint32_t port = 0; port < count; ++port) {
    const KnownFlow flow = flow_of_port(port);
    if (KnownFlows::find(flows.pair_of(flow.key), flow.key, flow.era) == nullptr) {
      ++unknown;
      flows.learn(flow);
    }
  }
  flows.count_packets(count);
  return unknown;
}

}  // namespace

TEST_CASE("known flows: as few places are in use as the flows need, up to all") {
  KnownFlows flows(65'536);
  CHECK(flows.in_use() == 512);
  for (int round = 0; round < 200; ++round) pass(flows, 64);
  CHECK(pass(flows, 64) <= 2);
  CHECK(flows.in_use() <= 1024);
  for (int round = 0; round < 200; ++round) pass(flows, 4096);
  CHECK(pass(flows, 4096) <= 4096 / 32);
  CHECK(flows.in_use() >= 4096);
  CHECK(flows.in_use() < 65'536);
  for (int round = 0; round < 20; ++round) pass(flows, 400'000);
  CHECK(flows.in_use() == 131'072);
}

TEST_CASE("known flows: one that is learnt again and again wants no more room for it") {
  KnownFlows flows(65'536);
  constexpr std::uint32_t kFlows = 4096;
  for (int round = 0; round < 20; ++round) pass(flows, kFlows);
  const std::size_t settled = flows.in_use();
  std::uint32_t beside = 0;  // in the pair that is not their own
  for (std::uint32_t port = 0; port < kFlows; ++port) {
    const KnownFlow flow = flow_of_port(port);
    beside += std::ranges::none_of(flows.pair_of(flow.key).flows,
                                   [&](const KnownFlow& stands) { return stands.key == flow.key; });
    if (KnownFlows::find(flows.pair_of(flow.key), flow.key, flow.era) == nullptr) continue;
    for (int times = 0; times < 100; ++times) flows.learn(flow);
  }
  CHECK(beside > 0);
  CHECK(flows.in_use() == settled);
}

TEST_CASE("known flows: as many as there is room for, in turn, are known but for a few") {
  KnownFlows flows(65'536);
  std::uint32_t unknown = 0;
  for (int round = 0; round < 8; ++round) unknown = pass(flows, 65'536);
  CHECK(unknown <= 65'536 / 32);
}

TEST_CASE("known flows: fewer than are in use at first are all there is") {
  KnownFlows flows(64);
  CHECK(flows.in_use() == 128);
  for (int round = 0; round < 100; ++round) pass(flows, 1000);
  CHECK(flows.in_use() == 128);
}
