// Later fragments of what policies protect or discard by ports, ICMP type or protocol, which they
// do not show: they go on to nothing that stands behind (RFC 4301 §4.4.1.1, §7).
#include <catch2/catch.hpp>

#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "tests/unit/dataplane/pipeline/pieces.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

using Drops = std::map<DropReason, std::uint64_t>;
const Drops kUnclear = {{DropReason::fragment_unsupported, 1}};
const Drops kDiscarded = {{DropReason::policy_discard, 1}};

struct Networks {
  std::string here, there;
};
Networks networks(bool v6) {
  return v6 ? Networks{"2001:db8:1::/64", "2001:db8:2::/64"}
            : Networks{"10.1.0.0/24", "10.2.0.0/16"};
}

PolicyEntry by_port(PolicyAction action, bool v6, const std::string& what = "[udp/53]") {
  const auto [here, there] = networks(v6);
  const std::string protocol = what.substr(0, what.find('/'));
  return entry(action, here + protocol + (protocol == what ? "" : "]"), there + what);
}
PolicyEntry all(PolicyAction action, bool v6) {
  const auto [here, there] = networks(v6);
  return entry(action, here, there);
}
PolicyEntry opaque(PolicyAction action, bool v6) {
  PolicyEntry made = by_port(action, v6);
  made.remote[0].port_first = 65535;
  made.remote[0].port_last = 0;
  return made;
}

/// Policies in order in front of `default_policy: bypass`; what protects has an SA.
struct Guarded {
  explicit Guarded(std::vector<PolicyEntry> in_order, std::uint32_t workers = 1,
                   std::uint16_t worker = 0)
      : gateway({}, workers, worker), policies(std::move(in_order)) {
    for (PolicyEntry& policy : policies) {
      if (policy.action != PolicyAction::protect) continue;
      policy.origin = PolicyOrigin::negotiated;
      policy.outbound = gateway.install(outbound_sa({}));
    }
    gateway.tables().spd->replace(policies, config::PolicyAction::bypass);
  }

  enum class Way : std::uint8_t { clear, sealed, dropped };
  Way way_of(const Piece& piece, PortId from = kLan) {
    const Result result = gateway.receive(from, packet_of(piece));
    drops = result.drops;
    const auto& sent = from == kLan ? result.wan : result.lan;
    if (sent.empty()) return Way::dropped;
    const Packet ip = ip_of(sent.at(0));
    return ip[9] == 50 && ip[0] >> 4U == 4 ? Way::sealed : Way::clear;
  }

  Gateway gateway;
  std::vector<PolicyEntry> policies;
  Drops drops;  ///< of the last packet
};
using Way = Guarded::Way;

/// From behind the peer.
Piece answering(Piece piece) {
  piece.source = piece.v6 ? "2001:db8:2::7" : "10.2.0.7";
  piece.destination = piece.v6 ? "2001:db8:1::9" : "10.1.0.9";
  return piece;
}

/// PadN (RFC 8200 §4.2).
const Packet kOptions = {17, 0, 1, 4, 0, 0, 0, 0};

}  // namespace

TEST_CASE("unclear fragments: of what is protected by ports none leaves in clear") {
  const bool v6 = GENERATE(false, true);
  const bool is_behind = GENERATE(false, true);  // a bypass; else the default lets pass
  std::vector<PolicyEntry> policies = {by_port(PolicyAction::protect, v6)};
  if (is_behind) policies.push_back(all(PolicyAction::bypass, v6));
  Guarded guarded(policies);
  CHECK(guarded.way_of({.v6 = v6}) == Way::sealed);
  CHECK(guarded.way_of({.offset = 64, .v6 = v6}) == Way::dropped);
  CHECK(guarded.drops == kUnclear);
  CHECK(
      guarded.way_of({.identification = 8, .offset = 128, .bytes = 20, .more = false, .v6 = v6}) ==
      Way::dropped);
  CHECK(guarded.drops == kUnclear);
  // As long as there is no SA, too.
  Guarded trapped({by_port(PolicyAction::discard, v6)});
  policies[0].outbound = kNoSlot;
  trapped.gateway.tables().spd->replace(policies, config::PolicyAction::bypass);
  CHECK(trapped.way_of({.offset = 64, .v6 = v6}) == Way::dropped);
  CHECK(trapped.drops == kUnclear);
}

TEST_CASE("unclear fragments: of what is protected by ports none is accepted in clear") {
  const bool v6 = GENERATE(false, true);
  Guarded guarded({by_port(PolicyAction::protect, v6)});
  CHECK(guarded.way_of(answering({.offset = 64, .v6 = v6}), kWan) == Way::dropped);
  CHECK(guarded.drops == kUnclear);
}

TEST_CASE("unclear fragments: by ICMP type likewise") {
  Guarded guarded({entry(PolicyAction::protect, "10.1.0.0/24[icmp/8]", "10.2.0.0/16[icmp/8]")});
  Packet later = packet_of({.offset = 64});
  later[14 + 9] = 1;
  fix_checksum(later);
  const Result result = guarded.gateway.receive(kLan, later);
  CHECK(result.wan.empty());
  CHECK(result.drops == kUnclear);
}

TEST_CASE("unclear fragments: what a policy shows to take in front of it takes them") {
  const bool v6 = GENERATE(false, true);
  SECTION("OPAQUE ports") {
    Guarded guarded({opaque(PolicyAction::protect, v6), by_port(PolicyAction::discard, v6)});
    CHECK(guarded.way_of({.offset = 64, .v6 = v6}) == Way::sealed);
  }
  SECTION("any port") {
    Guarded guarded({all(PolicyAction::bypass, v6), by_port(PolicyAction::protect, v6)});
    CHECK(guarded.way_of({.offset = 64, .v6 = v6}) == Way::clear);
  }
  SECTION("behind it they do not") {
    Guarded guarded({by_port(PolicyAction::protect, v6), opaque(PolicyAction::protect, v6)});
    CHECK(guarded.way_of({.offset = 64, .v6 = v6}) == Way::dropped);
    CHECK(guarded.drops == kUnclear);
  }
}

TEST_CASE("unclear fragments: what is discarded by ports is not let pass in fragments") {
  const bool v6 = GENERATE(false, true);
  Guarded guarded({by_port(PolicyAction::discard, v6), all(PolicyAction::protect, v6)});
  CHECK(guarded.way_of({.v6 = v6}) == Way::dropped);
  CHECK(guarded.drops == kDiscarded);
  CHECK(guarded.way_of({.offset = 64, .v6 = v6}) == Way::dropped);
  CHECK(guarded.drops == kUnclear);
}

TEST_CASE("unclear fragments: other traffic's pass as before") {
  Guarded guarded({by_port(PolicyAction::protect, false)});
  SECTION("another protocol") {
    Packet later = packet_of({.offset = 64});
    later[14 + 9] = 6;
    fix_checksum(later);
    CHECK(guarded.gateway.receive(kLan, later).wan.size() == 1);
  }
  SECTION("other addresses") {
    CHECK(guarded.way_of({.offset = 64, .destination = "198.51.100.2"}) == Way::clear);
  }
  SECTION("a policy that no packet can meet") {
    PolicyEntry nobodys = opaque(PolicyAction::discard, false);
    nobodys.local[0].port_first = nobodys.local[0].port_last = 7;
    guarded.gateway.tables().spd->replace({nobodys}, config::PolicyAction::bypass);
    CHECK(guarded.way_of({.offset = 64}) == Way::clear);
  }
}

TEST_CASE(
    "unclear fragments: those of a packet that is let pass follow its first (RFC 4301 §7.4)") {
  const bool v6 = GENERATE(false, true);
  const bool is_behind = GENERATE(false, true);
  std::vector<PolicyEntry> policies = {by_port(PolicyAction::protect, v6)};
  if (is_behind) policies.push_back(all(PolicyAction::bypass, v6));
  Guarded guarded(policies);
  CHECK(guarded.way_of({.port = 54, .v6 = v6}) == Way::clear);
  CHECK(guarded.way_of({.offset = 64, .v6 = v6}) == Way::clear);
  // Another packet by that name begins, which is protected.
  CHECK(guarded.way_of({.v6 = v6}) == Way::sealed);
  CHECK(guarded.way_of({.offset = 128, .v6 = v6}) == Way::dropped);
  CHECK(guarded.drops == kUnclear);
}

TEST_CASE("unclear fragments: they follow their first into an SA for all ports") {
  const bool v6 = GENERATE(false, true);
  const auto action = GENERATE(PolicyAction::protect, PolicyAction::discard);
  Guarded guarded({by_port(action, v6), all(PolicyAction::protect, v6)});
  CHECK(guarded.way_of({.offset = 64, .v6 = v6}) == Way::dropped);
  CHECK(guarded.drops == kUnclear);
  CHECK(guarded.way_of({.port = 54, .v6 = v6}) == Way::sealed);
  CHECK(guarded.way_of({.offset = 64, .v6 = v6}) == Way::sealed);
  // After a change that leaves the first its way, too.
  guarded.policies.push_back(entry(PolicyAction::bypass, "192.0.2.0/24", "192.0.2.0/24"));
  guarded.gateway.tables().spd->replace(guarded.policies, config::PolicyAction::bypass);
  CHECK(guarded.way_of({.offset = 128, .v6 = v6}) == Way::sealed);
  CHECK(guarded.way_of({.offset = 192, .more = false, .v6 = v6}) == Way::sealed);
  // Of one that is for the ports, not.
  CHECK(guarded.way_of({.identification = 8, .v6 = v6}) ==
        (action == PolicyAction::protect ? Way::sealed : Way::dropped));
  CHECK(guarded.way_of({.identification = 8, .offset = 64, .v6 = v6}) == Way::dropped);
  CHECK(guarded.drops == kUnclear);
}

TEST_CASE("unclear fragments: out of a tunnel they follow their first as well") {
  Pair pair;
  pair.right.tables().spd->replace(
      {entry(PolicyAction::discard, "10.1.0.0/24[udp]", "10.2.0.0/16[udp/53]")},
      config::PolicyAction::discard);
  const auto opened = [&](const Piece& piece) {
    return pair.right.receive(kWan, pair.left.receive(kLan, packet_of(piece)).wan.at(0));
  };
  CHECK(opened({.port = 54}).lan.size() == 1);
  CHECK(opened({.offset = 64}).lan.size() == 1);
  // One in clear by the same name is another packet's.
  CHECK(pair.right.receive(kWan, packet_of({.offset = 128})).drops == kUnclear);
  CHECK(opened({.offset = 128, .more = false}).lan.size() == 1);
}

TEST_CASE("unclear fragments: OPAQUE ports in front are not passed by, however the first went") {
  Guarded guarded({opaque(PolicyAction::protect, false), by_port(PolicyAction::discard, false)});
  CHECK(guarded.way_of({.port = 54}) == Way::clear);
  CHECK(guarded.way_of({.offset = 64}) == Way::sealed);
}

TEST_CASE("unclear fragments: in IPv6 an extension header hides the protocol") {
  const bool has_ports = GENERATE(false, true);
  const std::string what = has_ports ? "[udp/53]" : "[udp]";
  const Piece first{.v6 = true, .in_front = kOptions};
  const Piece later{.offset = 64, .v6 = true, .in_front = kOptions};
  SECTION("protected") {
    Guarded guarded({by_port(PolicyAction::protect, true, what)});
    CHECK(guarded.way_of(first) == Way::sealed);
    CHECK(guarded.way_of(later) == Way::dropped);
    CHECK(guarded.drops == kUnclear);
    CHECK(guarded.way_of(answering(later), kWan) == Way::dropped);
    CHECK(guarded.drops == kUnclear);
  }
  SECTION("discarded") {
    Guarded guarded({by_port(PolicyAction::discard, true, what)});
    CHECK(guarded.way_of(later) == Way::dropped);
    CHECK(guarded.drops == kUnclear);
  }
  SECTION("let pass with the first") {
    Guarded guarded({by_port(PolicyAction::protect, true, "[tcp]")});
    CHECK(guarded.way_of(later) == Way::dropped);
    CHECK(guarded.way_of(first) == Way::clear);
    CHECK(guarded.way_of(later) == Way::clear);
  }
}

TEST_CASE("unclear fragments: in IPv6 a forged protocol opens no way in clear (RFC 8200 §4.5)") {
  Guarded guarded({by_port(PolicyAction::protect, true, "[tcp]")});
  // It says UDP, which its receiver does not look at.
  CHECK(guarded.way_of(answering({.offset = 64, .v6 = true}), kWan) == Way::dropped);
  CHECK(guarded.drops == kUnclear);
  // Who has begun with UDP goes on with it.
  CHECK(guarded.way_of(answering({.v6 = true}), kWan) == Way::clear);
  CHECK(guarded.way_of(answering({.offset = 64, .v6 = true}), kWan) == Way::clear);
  // Those behind us are believed: what they send is protected for their sake.
  CHECK(guarded.way_of({.identification = 9, .offset = 64, .v6 = true}) == Way::clear);
}

TEST_CASE(
    "unclear fragments: out of a tunnel, too, they must not pass by what protects or discards") {
  Pair pair;
  pair.right.tables().spd->replace(
      {entry(PolicyAction::discard, "10.1.0.0/24[udp]", "10.2.0.0/16[udp/53]")},
      config::PolicyAction::bypass);
  const Result sealed = pair.left.receive(kLan, packet_of({.offset = 64}));
  REQUIRE(sealed.wan.size() == 1);
  const Result opened = pair.right.receive(kWan, sealed.wan[0]);
  CHECK(opened.lan.empty());
  CHECK(opened.drops == kUnclear);
}

TEST_CASE("unclear fragments: for us they are put together, and asked about then") {
  Gateway gateway;
  gateway.tables().spd->replace(
      {entry(PolicyAction::discard, "10.1.0.0/24[udp]", "10.1.0.1/32[udp/53]")});
  const auto pieces = [](std::uint16_t port) {
    return std::vector<Packet>{
        packet_of({.port = port, .destination = "10.1.0.1"}),
        packet_of({.offset = 64, .bytes = 20, .more = false, .destination = "10.1.0.1"})};
  };
  // The datagram says 64 octets, as its first piece was made: the rest is not looked at.
  const Result other = gateway.receive(kLan, pieces(54));
  CHECK(other.drops.empty());
  CHECK(other.punts.size() == 1);
  const Result discarded = gateway.receive(kLan, pieces(53));
  CHECK(discarded.drops == kDiscarded);
}

TEST_CASE("unclear fragments: a whole packet that ends before its ports is none of them") {
  Guarded guarded({by_port(PolicyAction::protect, false)});
  const Result result =
      guarded.gateway.receive(kLan, frame(ip_packet({.payload = Packet(3, 0x33)})));
  CHECK(result.wan.empty());
  CHECK(result.drops == Drops{{DropReason::truncated_packet, 1}});
}

TEST_CASE("unclear fragments: those of one packet meet at one worker") {
  std::size_t passed = 0;
  for (const std::uint16_t worker : {std::uint16_t{0}, std::uint16_t{1}}) {
    Guarded one({by_port(PolicyAction::protect, false)}, 2, worker);
    const Result result =
        one.gateway.receive(kLan, {packet_of({.port = 54}), packet_of({.offset = 64})});
    CHECK(result.drops.empty());
    passed += result.wan.size();
  }
  CHECK(passed == 2);
}

TEST_CASE("unclear fragments: our own IKE's pass every policy (RFC 4301 §4.4.1)") {
  const std::string ports =
      GENERATE(std::string(), std::string("[udp]"), std::string("[udp/1701]"));
  const auto action = GENERATE(PolicyAction::protect, PolicyAction::discard);
  Guarded guarded({entry(action, "198.51.100.1/32" + ports, "198.51.100.2/32" + ports)});
  const Packet first = ip_packet({.source = "198.51.100.1",
                                  .destination = "198.51.100.2",
                                  .fragment = 0x2000,
                                  .payload = udp(500, 500, Packet(56, 1))});
  const Packet later = ip_packet({.source = "198.51.100.1",
                                  .destination = "198.51.100.2",
                                  .fragment = 8,
                                  .payload = Packet(20, 1)});
  for (const Packet& piece : {first, later}) {
    const Result sent = guarded.gateway.inject(piece, {InjectKind::outbound_local, kWan, false});
    REQUIRE(sent.wan.size() == 1);
    CHECK(ip_of(sent.wan[0]) == piece);
  }
}
