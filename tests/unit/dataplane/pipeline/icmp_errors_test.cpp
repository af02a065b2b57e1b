// ICMP errors that no selector names: they go by the SA of the traffic that would answer what they
// quote, and only such are taken out of it (RFC 4301 §6.2). And what is kept of a packet that an
// SA's selectors refuse.
#include <catch2/catch.hpp>
#include <rte_ring.h>

#include "dataplane/control/icmp_sender.hpp"
#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/one_connection.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

using enum DropReason;

constexpr std::uint16_t kOurPort = 1000, kTheirPort = 53;

/// The far client's datagram for ours, which an error on our side is about.
Packet theirs(std::uint16_t source = kTheirPort, std::uint16_t destination = kOurPort) {
  return ip_packet({.source = "10.2.0.7",
                    .destination = "10.1.0.9",
                    .fragment = 0,
                    .payload = udp(source, destination, Packet(32, 0x5a))});
}
/// Time exceeded; of a router that stands in no selector.
Packet error_about(const Packet& quoted, const std::string& destination = "10.2.0.7",
                   std::uint8_t type = 11) {
  Packet message = {type, 0, 0, 0, 0, 0, 0, 0};
  message.insert(message.end(), quoted.begin(), quoted.end());
  const bool is_v4 = destination.find(':') == std::string::npos;
  return ip_packet({.source = is_v4 ? "172.16.0.1" : "2001:db8:7::1",
                    .destination = destination,
                    .protocol = static_cast<std::uint8_t>(is_v4 ? 1 : 58),
                    .payload = message});
}
SaOptions for_udp(const std::string& ports_here = "", const std::string& ports_there = "") {
  SaOptions options;
  options.local_selectors = {"10.1.0.0/24[udp" + ports_here + "]"};
  options.remote_selectors = {"10.2.0.0/16[udp" + ports_there + "]"};
  return options;
}

/// A peer that puts everything into the tunnel, and our side, whose SA is for some of it.
struct Careless {
  Gateway left, right{mirrored()};
  channel::SaId in_id{};

  explicit Careless(const SaOptions& options, const SaSettings& settings = {}) {
    left.protect("0.0.0.0/0", "0.0.0.0/0", left.install(outbound_sa(options)));
    const auto in = inbound_sa(options);
    in_id = in.sa;
    right.install(in, settings);
  }
  Result pass(const Packet& ip) {
    return right.receive(kWan, left.receive(kLan, frame(ip)).wan.at(0));
  }
  bool takes(const Packet& ip) {
    const Result result = pass(ip);
    if (result.lan.size() == 1) return true;
    CHECK(result.dropped(inner_selector_mismatch) == 1);
    return false;
  }
  std::optional<SaRefusal> last_refusal() {
    Sad& sad = *right.tables().sad;
    return sad.traffic(*sad.find(in_id)).last_refusal;
  }
};

}  // namespace

TEST_CASE("icmp errors: about protected traffic they cross its tunnel (RFC 4301 §6.2)") {
  Pair pair({}, for_udp("/1000", "/53"));
  for (const std::uint8_t type : {std::uint8_t{3}, std::uint8_t{11}, std::uint8_t{12}}) {
    const Packet error = error_about(theirs(), "10.2.0.7", type);
    const Result sent = pair.left.receive(kLan, frame(error));
    REQUIRE(sent.wan.size() == 1);
    const Result arrived = pair.right.receive(kWan, sent.wan[0]);
    REQUIRE(arrived.lan.size() == 1);
    const Packet there = ip_of(arrived.lan[0]);
    CHECK(there[8] == 62);  // two hops
    CHECK(Packet(there.begin() + 20, there.end()) == Packet(error.begin() + 20, error.end()));
  }
  CHECK_FALSE(pair.traffic().last_refusal);
  // From where the quoted packet did not go: whoever is there does not speak through the tunnel.
  CHECK(pair.left.receive(kWan, frame(error_about(theirs()))).dropped(no_policy_match) == 1);
}

TEST_CASE("icmp errors: out of one tunnel none goes into another by what it quotes") {
  Gateway spoke, hub(mirrored());
  SaOptions up, down;
  up.remote_selectors = {"10.0.0.0/8"};
  std::swap(down.outer_local, down.outer_remote);
  down.local_selectors = {"10.2.0.0/16"};
  down.remote_selectors = {"10.9.0.0/16"};
  spoke.protect("10.1.0.0/24", "10.0.0.0/8", spoke.install(outbound_sa(up, 0x1000)));
  hub.install(inbound_sa(up, 0x1000));
  hub.protect("10.2.0.0/16", "10.9.0.0/16", hub.install(outbound_sa(down, 0x3000)));
  // About what 10.9.0.6 sent to the hub's own client, says somebody in the spoke.
  Packet quoted = ip_packet({.source = "10.9.0.6",
                             .destination = "10.2.0.7",
                             .fragment = 0,
                             .payload = udp(53, 1000, Packet(32, 1))});
  Packet message = {3, 1, 0, 0, 0, 0, 0, 0};
  message.insert(message.end(), quoted.begin(), quoted.end());
  const Packet error = ip_packet(
      {.source = "10.1.0.9", .destination = "10.9.0.6", .protocol = 1, .payload = message});
  const Result crossed = hub.receive(kWan, spoke.receive(kLan, frame(error)).wan.at(0));
  for (const Packet& sent : crossed.wan) CHECK(ip_of(sent)[9] != 50);
  // The hub's client may say so.
  Packet right = error;
  right[13] = 2;
  wire::write_ipv4_checksum(right.data(), 20);
  const Result allowed = hub.receive(kLan, frame(right));
  REQUIRE(allowed.wan.size() == 1);
  CHECK(ip_of(allowed.wan[0])[9] == 50);
}

TEST_CASE("icmp errors: ICMPv6 ones as well, too big among them") {
  SaOptions options;
  options.local_selectors = {"2001:db8:1::/64[udp/1000]"};
  options.remote_selectors = {"2001:db8:2::/64[udp/53]"};
  Pair pair({}, options);
  const Packet quoted = ip_packet({.source = "2001:db8:2::7",
                                   .destination = "2001:db8:1::9",
                                   .payload = udp(kTheirPort, kOurPort, Packet(32, 1))});
  for (const std::uint8_t type : {std::uint8_t{1}, std::uint8_t{2}}) {
    const Result sent = pair.left.receive(kLan, frame(error_about(quoted, "2001:db8:2::7", type)));
    REQUIRE(sent.wan.size() == 1);
    CHECK(pair.right.receive(kWan, sent.wan[0]).lan.size() == 1);
  }
}

TEST_CASE("icmp errors: each goes by what it quotes, whatever an earlier one of its flow did") {
  Pair pair({}, for_udp());
  const Packet protected_one = frame(error_about(theirs()));
  Packet tcp = theirs();
  tcp[9] = 6;
  wire::write_ipv4_checksum(tcp.data(), 20);
  const Packet other = frame(error_about(tcp));
  for (int round = 0; round < 2; ++round) {
    CHECK(pair.left.receive(kLan, protected_one).wan.size() == 1);
    CHECK(pair.left.receive(kLan, other).dropped(no_policy_match) == 1);
  }
}

TEST_CASE("icmp errors: without an SA for the return traffic none is asked for (RFC 4301 §6.2)") {
  Gateway gateway;
  gateway.protect("10.1.0.0/24[udp]", "10.2.0.0/16[udp]", kNoSlot);
  const Result clear = gateway.receive(kLan, frame(error_about(theirs())));
  CHECK(clear.dropped(no_sa) == 1);
  CHECK(clear.punts.empty());
  // One of ours would leave in clear where no policy names it, with what it quotes.
  const Result ours =
      gateway.inject(error_about(theirs()), {InjectKind::outbound_local, kLan, false});
  CHECK(ours.dropped(no_sa) == 1);
  CHECK(ours.wan.empty());
}

TEST_CASE("icmp errors: one of our own goes by the SA of the return traffic") {
  Pair pair({}, for_udp());
  const Result sent =
      pair.left.inject(error_about(theirs()), {InjectKind::outbound_local, kLan, false});
  REQUIRE(sent.wan.size() == 1);
  CHECK(pair.right.receive(kWan, sent.wan[0]).lan.size() == 1);
}

TEST_CASE("icmp errors: a policy that names them decides, whatever they quote") {
  Gateway gateway;
  const SlotIndex slot = gateway.install(outbound_sa(for_udp()));
  gateway.policy(PolicyAction::discard, "0.0.0.0/0[icmp]", "0.0.0.0/0[icmp]");
  gateway.protect("10.1.0.0/24[udp]", "10.2.0.0/16[udp]", slot);
  CHECK(gateway.receive(kLan, frame(error_about(theirs()))).dropped(policy_discard) == 1);
}

TEST_CASE("icmp errors: in clear none passes unnamed about what policy protects (RFC 4301 §6)") {
  Gateway gateway;
  gateway.tables().spd->replace({}, config::PolicyAction::bypass);
  const bool has_sa = GENERATE(true, false);
  const SlotIndex slot = has_sa ? gateway.install(outbound_sa(for_udp())) : kNoSlot;
  gateway.protect("10.1.0.0/24[udp]", "10.2.0.0/16[udp]", slot);
  // What our client sent into the tunnel, of which somebody outside speaks.
  const Packet sent = ip_packet({.source = "10.1.0.9",
                                 .destination = "10.2.0.7",
                                 .fragment = 0,
                                 .payload = udp(kOurPort, kTheirPort, Packet(32, 0x5a))});
  Packet bypassed = sent;
  bypassed[9] = 6;
  wire::write_ipv4_checksum(bypassed.data(), 20);
  const auto receive = [&](const Packet& error) { return gateway.receive(kWan, frame(error)); };
  for (const std::uint8_t type : {std::uint8_t{3}, std::uint8_t{11}, std::uint8_t{12}}) {
    CHECK(receive(error_about(bypassed, "10.1.0.9", type)).lan.size() == 1);
    const Result forged = receive(error_about(sent, "10.1.0.9", type));
    CHECK(forged.lan.empty());
    CHECK(forged.dropped(cleartext_violates_policy) == 1);
  }
  // A host takes one for any address of its own.
  CHECK(receive(error_about(sent, "10.1.0.8")).dropped(cleartext_violates_policy) == 1);
  // Where the quotation is not in sight, in whatever piece it is.
  const Packet whole = error_about(sent, "10.1.0.9");
  for (const std::size_t in_first : {std::size_t{8}, std::size_t{24}, std::size_t{40}}) {
    Packet first(whole.begin(), whole.begin() + 20 + static_cast<std::ptrdiff_t>(in_first));
    wire::store_u16(&first[2], static_cast<std::uint16_t>(first.size()));
    wire::store_u16(&first[6], 0x2000);
    wire::write_ipv4_checksum(first.data(), 20);
    CHECK(receive(first).dropped(cleartext_violates_policy) == 1);
  }
  CHECK(receive(error_about(sent, "10.1.0.9", 0)).drops.empty());  // no error
}

TEST_CASE("icmp errors: in clear an exception that names them decides") {
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "0.0.0.0/0[icmp]", "0.0.0.0/0[icmp]");
  gateway.protect("10.1.0.0/24[udp]", "10.2.0.0/16[udp]", kNoSlot);
  const Packet sent = ip_packet({.source = "10.1.0.9",
                                 .destination = "10.2.0.7",
                                 .payload = udp(kOurPort, kTheirPort, Packet(32, 0x5a))});
  const Result passed = gateway.receive(kWan, frame(error_about(sent, "10.1.0.9")));
  CHECK(passed.drops.empty());
  CHECK(passed.lan.size() == 1);
}

TEST_CASE("icmp errors: out of a tunnel only about traffic of its SA (RFC 4301 §6.2)") {
  Careless peer(for_udp("/1000", "/53"));
  CHECK(peer.takes(error_about(theirs())));
  // About a flow of somebody else's, which it would end.
  CHECK_FALSE(peer.takes(error_about(theirs(kTheirPort, 1001))));
  CHECK_FALSE(peer.takes(error_about(theirs(54, kOurPort))));
  // The flow in the direction of the error: a host gets none about what it has not sent.
  const Packet forward = ip_packet({.source = "10.1.0.9",
                                    .destination = "10.2.0.7",
                                    .payload = udp(kOurPort, kTheirPort, Packet(8, 1))});
  CHECK_FALSE(peer.takes(error_about(forward)));
  // For a host that has not sent what is quoted.
  CHECK_FALSE(peer.takes(error_about(theirs(), "10.2.0.99")));
  // No error.
  CHECK_FALSE(peer.takes(error_about(theirs(), "10.2.0.7", 8)));
  CHECK_FALSE(peer.takes(error_about(theirs(), "10.2.0.7", 5)));
}

TEST_CASE("icmp errors: selectors that name ICMP take any, whatever it quotes (RFC 4301 §6.2)") {
  SaOptions options = for_udp("/1000", "/53");
  options.local_selectors.emplace_back("172.16.0.0/12[icmp]");
  options.remote_selectors.emplace_back("10.2.0.0/16[icmp]");
  Careless peer(options);
  CHECK(peer.takes(error_about(theirs(54, 1001))));
  CHECK(peer.takes(error_about(theirs(), "10.2.0.7", 8)));
}

TEST_CASE("icmp errors: by option those that selectors name are checked, too (RFC 4301 §6.2)") {
  SaSettings settings;
  settings.headers.icmp_errors = config::IcmpErrors::check;
  SECTION("selectors that name ICMP") {
    SaOptions options = for_udp("/1000", "/53");
    options.local_selectors.emplace_back("172.16.0.0/12[icmp]");
    options.remote_selectors.emplace_back("10.2.0.0/16[icmp]");
    Careless peer(options, settings);
    CHECK(peer.takes(error_about(theirs())));
    CHECK_FALSE(peer.takes(error_about(theirs(54, 1001))));
    CHECK(peer.takes(error_about(theirs(), "10.2.0.7", 8)));  // no error
  }
  SECTION("selectors for everything, which two compares decide") {
    SaOptions options;
    options.local_selectors = {"0.0.0.0/0"};
    options.remote_selectors = {"10.2.0.0/16"};
    Careless peer(options, settings);
    CHECK(peer.takes(error_about(theirs())));
    CHECK(peer.takes(error_about(theirs(54, 1001))));
    // For a host that has not sent what is quoted, and about what is none of the SA's.
    CHECK_FALSE(peer.takes(error_about(theirs(), "10.2.0.99")));
    Packet stranger = theirs();
    stranger[13] = 9;  // from 10.9.0.7
    wire::write_ipv4_checksum(stranger.data(), 20);
    CHECK_FALSE(peer.takes(error_about(stranger, "10.2.0.7")));
    // In fragments it does not show what it is about.
    Packet first = error_about(theirs());
    first.resize(20 + 56);
    wire::store_u16(&first[2], static_cast<std::uint16_t>(first.size()));
    wire::store_u16(&first[6], 0x2000);
    wire::write_ipv4_checksum(first.data(), 20);
    CHECK_FALSE(peer.takes(first));
    CHECK(peer.takes(ip_packet({.payload = udp(kOurPort, kTheirPort, Packet(8, 1))})));
  }
}

TEST_CASE("icmp errors: what is quoted without ports is for selectors that need none") {
  const Packet whole = theirs();
  const Packet cut(whole.begin(), whole.begin() + 23);
  Packet fragment = whole;
  wire::store_u16(&fragment[6], 185);
  wire::write_ipv4_checksum(fragment.data(), 20);
  Careless ports(for_udp("/1000", "/53")), none(for_udp());
  for (const Packet& quoted : {cut, fragment}) {
    CHECK_FALSE(ports.takes(error_about(quoted)));
    CHECK(none.takes(error_about(quoted)));
  }
}

TEST_CASE("icmp errors: a router beyond the selectors may tell of a wide SA's traffic") {
  Careless peer{SaOptions{}};
  CHECK(peer.takes(error_about(theirs())));
  Packet stranger = theirs();
  stranger[16] = 11;  // for 11.1.0.9
  wire::write_ipv4_checksum(stranger.data(), 20);
  CHECK_FALSE(peer.takes(error_about(stranger)));
}

TEST_CASE("selectors: the last packet that an SA refused is kept, beside what it takes") {
  Careless peer(for_udp("/1000", "/53"));
  CHECK_FALSE(peer.last_refusal());
  const auto refuse = [&](const PacketOptions& options) {
    CHECK_FALSE(peer.takes(ip_packet(options)));
    const auto refusal = peer.last_refusal();
    REQUIRE(refusal);
    return refusal->packet;
  };
  const RefusedPacket datagram = refuse({.payload = udp(7, 9, Packet(8, 1))});
  CHECK(datagram.flow.source == wire::IpAddress::parse("10.1.0.9"));
  CHECK(datagram.flow.destination == wire::IpAddress::parse("10.2.0.7"));
  CHECK(datagram.flow.protocol == 17);
  CHECK(datagram.flow.source_port == 7);
  CHECK(datagram.flow.destination_port == 9);
  CHECK(datagram.tsc != 0);
  const RefusedPacket later = refuse({.fragment = 185});
  CHECK_FALSE(later.flow.ports_known);
  CHECK(later.tsc > datagram.tsc);
  CHECK(wire::to_string(peer.last_refusal()->source) == "10.1.0.0/24[udp/1000]");
  CHECK(wire::to_string(peer.last_refusal()->destination) == "10.2.0.0/16[udp/53]");
  // A packet that is taken changes nothing of it.
  const Packet good = ip_packet({.payload = udp(kOurPort, kTheirPort, Packet(8, 1))});
  CHECK(peer.takes(good));
  CHECK(peer.last_refusal()->packet.tsc == later.tsc);
}

TEST_CASE(
    "icmp errors: of IPv4 they have names of their own, and are cut with them (RFC 6864 §4.3)") {
  SaOptions options;
  options.local_selectors = {"198.51.100.0/24"};
  Pair pair({}, options);
  pair.left.tables().sad->set_path_mtu(pair.out_id, 576);
  const control::Topology topology(one_connection().dataplane);
  control::Packets packets(pair.left.tables(), packet_pool(), pair.left.context().inject);
  const control::Instant now = std::chrono::hours{1};
  control::IcmpSender sender(topology, *pair.left.tables().spd, packets, now);
  PuntedPacket received;
  received.received_on = kLan;  // where this topology has its only interface
  for (int time = 0; time < 2; ++time) {
    sender.report(
        control::IcmpErrorKind::no_route, 0,
        packets.make(ip_packet(
            {.source = "10.2.0.7", .destination = "203.0.113.1", .payload = Packet(1000, 0x5a)})),
        received, now);
  }
  const Result sealed = pair.left.serve_main_thread();
  REQUIRE(sealed.wan.size() == 4);
  std::map<unsigned int, int> pieces;
  for (const Packet& piece : pair.right.receive(kWan, sealed.wan).lan) {
    ++pieces[wire::load_u16(ip_of(piece).data() + wire::ipv4::kIdentification)];
  }
  REQUIRE(pieces.size() == 2);
  for (const auto& [name, count] : pieces) CHECK(count == 2);
}

TEST_CASE("icmp errors: those that are not sent for their rate are counted (RFC 1812 §4.3.2.8)") {
  Gateway gateway;
  const control::Topology topology(one_connection().dataplane);
  control::Packets packets(gateway.tables(), packet_pool(), gateway.context().inject);
  const control::Instant now = std::chrono::hours{1};
  control::IcmpSender sender(topology, *gateway.tables().spd, packets, now);
  const auto offending =
      packets.make(ip_packet({.source = "198.51.100.9", .destination = "203.0.113.1"}));
  REQUIRE(offending != nullptr);

  const PuntedPacket received;
  constexpr auto kBurst = static_cast<unsigned int>(control::IcmpSender::kPerDestination.burst);
  for (unsigned int i = 0; i < kBurst + 5; ++i) {
    sender.report(control::IcmpErrorKind::host_unreachable, 0, offending, received, now);
  }
  const WorkerCounters& counters = gateway.tables().main_counters();
  const std::uint64_t limited = counters
                                    .drops[static_cast<std::size_t>(DropDirection::local)]
                                          [static_cast<std::size_t>(icmp_rate_limited)]
                                    .read();
  CHECK(limited == 5);
  const unsigned int waiting = rte_ring_count(gateway.context().inject);
  CHECK(waiting == kBurst);
  CHECK(counters.originated.read() == 1 + waiting + limited);
  static_cast<void>(gateway.serve_main_thread());
}
