// Fragments in transit that policies with ports let pass: the first says for all of its packet
// (RFC 4301 §7.4).
#include <catch2/catch.hpp>
#include <rte_cycles.h>

#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "tests/unit/dataplane/pipeline/pieces.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

using Drops = std::map<DropReason, std::uint64_t>;

PolicyEntry names(bool v6) {
  return v6 ? entry(PolicyAction::bypass, "2001:db8:1::/64[udp]", "2001:db8:2::/64[udp/53]")
            : entry(PolicyAction::bypass, "10.1.0.0/24[udp]", "10.2.0.0/16[udp/53]");
}

/// Behind those of a smaller section, then place.
PolicyEntry ranked(PolicyEntry entry, std::uint64_t section, std::uint64_t place = 0) {
  entry.rank = {section, place};
  return entry;
}

const Drops kUnnamed = {{DropReason::no_policy_match, 1}};

/// Whether the piece leaves; if not, for what reason it does not.
Drops refusal(Gateway& gateway, const Piece& piece) {
  const Result result = gateway.receive(kLan, packet_of(piece));
  CHECK(result.wan.size() == (result.drops.empty() ? 1 : 0));
  return result.drops;
}

}  // namespace

TEST_CASE("bypassed fragments: later ones pass as their first did (RFC 4301 §7.4)") {
  const bool v6 = GENERATE(false, true);
  Gateway gateway;
  gateway.tables().spd->replace({names(v6)});
  CHECK(refusal(gateway, {.v6 = v6}).empty());
  // In any order, and each counts for the policy.
  CHECK(refusal(gateway, {.offset = 128, .bytes = 20, .more = false, .v6 = v6}).empty());
  CHECK(refusal(gateway, {.offset = 64, .v6 = v6}).empty());
  CHECK(gateway.tables().spd->entries()[0].packets == 3);
  // All of it has passed.
  CHECK(refusal(gateway, {.offset = 64, .v6 = v6}) == kUnnamed);
}

TEST_CASE("bypassed fragments: what is of no such packet is dropped as before") {
  const bool v6 = GENERATE(false, true);
  Gateway gateway;
  gateway.tables().spd->replace({names(v6)});
  CHECK(refusal(gateway, {.offset = 64, .v6 = v6}) == kUnnamed);  // before its first
  CHECK(refusal(gateway, {.v6 = v6}).empty());
  CHECK(refusal(gateway, {.identification = 8, .offset = 64, .v6 = v6}) == kUnnamed);
  const std::string other = v6 ? "2001:db8:1::8" : "10.1.0.8";
  CHECK(refusal(gateway, {.offset = 64, .v6 = v6, .source = other}) == kUnnamed);
  const std::string elsewhere = v6 ? "2001:db8:2::8" : "10.2.0.8";
  CHECK(refusal(gateway, {.offset = 64, .v6 = v6, .destination = elsewhere}) == kUnnamed);
  // Over what the policy has looked at, nothing is written (RFC 1858 §4).
  CHECK(refusal(gateway, {.offset = 8, .v6 = v6}) == kUnnamed);
  CHECK(refusal(gateway, {.offset = 56, .v6 = v6}) == kUnnamed);
  CHECK(refusal(gateway, {.offset = 64, .v6 = v6}).empty());
}

TEST_CASE("bypassed fragments: another packet of the same name ends what was known") {
  Gateway gateway;
  PolicyEntry rest = entry(PolicyAction::discard, "10.1.0.0/24[udp]", "10.2.0.0/16[udp/5000]");
  gateway.tables().spd->replace({names(false), rest});
  CHECK(refusal(gateway, {}).empty());
  CHECK(refusal(gateway, {.port = 5000}) == Drops{{DropReason::policy_discard, 1}});
  CHECK(refusal(gateway, {.offset = 64}) == Drops{{DropReason::fragment_unsupported, 1}});
}

TEST_CASE("bypassed fragments: a first that did not go on lets nothing pass") {
  Gateway gateway;
  gateway.tables().spd->replace({names(false)});
  const Result last_hop = gateway.receive(kLan, packet_of({.ttl = 1}));
  REQUIRE(last_hop.punts.size() == 1);
  CHECK(refusal(gateway, {.offset = 64}) == kUnnamed);
  CHECK(refusal(gateway, {.port = 54}) == kUnnamed);
  CHECK(refusal(gateway, {.offset = 64}) == kUnnamed);
}

TEST_CASE("bypassed fragments: what a change of the policies does not concern stays") {
  const bool v6 = GENERATE(false, true);
  Gateway gateway;
  Spd& spd = *gateway.tables().spd;
  spd.replace({ranked(names(v6), 10)});
  CHECK(refusal(gateway, {.v6 = v6}).empty());
  const Piece later{.offset = 64, .v6 = v6};
  SECTION("policies come and go, more of them than are remembered, in front and behind") {
    const PolicyEntry elsewhere =
        v6 ? entry(PolicyAction::discard, "2001:db8:1::/64[udp]", "2001:db8:3::/64")
           : entry(PolicyAction::discard, "10.1.0.0/24[udp]", "10.3.0.0/16");
    for (std::uint64_t change = 0; change < RecentRules::kChanges + 8; ++change) {
      PolicyEntry other = ranked(elsewhere, change % 2 == 0 ? 1 : 20, change);
      other.origin = PolicyOrigin::negotiated;
      other.policy = channel::PolicyId{change};
      spd.insert(other);
      if (change % 3 == 0) spd.erase(other.policy);
      CHECK(refusal(gateway, later).empty());
    }
  }
  SECTION("all of them at once, whatever has happened to others") {
    const PolicyEntry other = entry(PolicyAction::discard, "10.1.0.0/24", "10.3.0.0/16");
    spd.replace({other, ranked(names(v6), 20)});
    CHECK(refusal(gateway, later).empty());
    CHECK(spd.entries()[1].packets == 2);
    spd.replace({ranked(names(v6), 20)});
    CHECK(refusal(gateway, later).empty());
  }
}

TEST_CASE("bypassed fragments: what a change of the policies does concern does not outlive it") {
  const bool is_another_list = GENERATE(false, true);
  Gateway gateway;
  Spd& spd = *gateway.tables().spd;
  PolicyEntry bypass = ranked(names(false), 10);
  bypass.origin = PolicyOrigin::negotiated;
  bypass.policy = channel::PolicyId{1};
  spd.replace({bypass});
  CHECK(refusal(gateway, {}).empty());
  CHECK(refusal(gateway, {.offset = 64}).empty());
  const Drops expected = {{DropReason::policy_discard, 1}};
  PolicyEntry in_front;
  SECTION("a discard of the flow in front") {
    in_front = entry(PolicyAction::discard, "10.1.0.0/24[udp]", "10.2.0.0/16[udp/53]");
  }
  SECTION("a discard of all in front") {
    in_front = entry(PolicyAction::discard, "10.1.0.0/24", "10.2.0.0/16");
  }
  SECTION("a discard of fragments in front (OPAQUE ports), which the first does not meet") {
    in_front = entry(PolicyAction::discard, "10.1.0.0/24[udp]", "10.2.0.0/16[udp]");
    in_front.remote[0].port_first = 65535;
    in_front.remote[0].port_last = 0;
  }
  SECTION("its own is gone") {
    if (is_another_list) {
      spd.replace({});
    } else {
      REQUIRE(spd.erase(bypass.policy));
    }
    CHECK(refusal(gateway, {.offset = 64}) == kUnnamed);
    return;
  }
  in_front = ranked(in_front, 5);
  if (is_another_list) {
    spd.replace({in_front, bypass});
  } else {
    spd.insert(in_front);
  }
  CHECK(refusal(gateway, {.offset = 64}) == expected);
}

TEST_CASE("bypassed fragments: for two seconds") {
  Gateway gateway;
  gateway.tables().spd->replace({names(false)});
  CHECK(refusal(gateway, {}).empty());
  gateway.worker().reassembler.clock_ahead += rte_get_tsc_hz();
  CHECK(refusal(gateway, {.offset = 64}).empty());
  gateway.worker().reassembler.clock_ahead += rte_get_tsc_hz();
  CHECK(refusal(gateway, {.offset = 128}) == kUnnamed);
}

TEST_CASE("bypassed fragments: of too many packets the oldest is forgotten") {
  Gateway gateway;
  gateway.tables().spd->replace({names(false)});
  for (std::uint32_t i = 0; i <= BypassedPackets::kPackets; ++i) {
    CHECK(refusal(gateway, {.identification = i}).empty());
  }
  CHECK(refusal(gateway, {.identification = 0, .offset = 64}) == kUnnamed);
  for (const std::uint32_t i : {1U, 2U, 100U, 256U}) {
    CHECK(refusal(gateway, {.identification = i, .offset = 64}).empty());
  }
}

TEST_CASE("bypassed fragments: the order of the policies holds") {
  const Drops discarded = {{DropReason::policy_discard, 1}};
  const auto all = [](PolicyAction action) { return entry(action, "10.1.0.0/24", "10.2.0.0/16"); };
  Gateway gateway;
  SECTION("what is behind the bypass is not asked, as it was not for the first") {
    gateway.tables().spd->replace({names(false), all(PolicyAction::discard)});
    CHECK(refusal(gateway, {.offset = 64}) == discarded);
    CHECK(refusal(gateway, {}).empty());
    CHECK(refusal(gateway, {.offset = 64}).empty());
  }
  SECTION("a discard in front of it is for fragments as for packets") {
    gateway.tables().spd->replace({all(PolicyAction::discard), names(false)});
    CHECK(refusal(gateway, {}) == discarded);
    CHECK(refusal(gateway, {.offset = 64}) == discarded);
  }
  SECTION("so is one for fragments alone (OPAQUE ports)") {
    PolicyEntry opaque = entry(PolicyAction::discard, "10.1.0.0/24[udp]", "10.2.0.0/16[udp]");
    opaque.remote[0].port_first = 65535;
    opaque.remote[0].port_last = 0;
    gateway.tables().spd->replace({opaque, names(false)});
    CHECK(refusal(gateway, {}).empty());
    CHECK(refusal(gateway, {.offset = 64}) == discarded);
  }
  SECTION("fragments of a packet that is protected are sealed as before, not let pass") {
    PolicyEntry protect = all(PolicyAction::protect);
    protect.origin = PolicyOrigin::negotiated;
    protect.outbound = gateway.install(outbound_sa({}));
    gateway.tables().spd->replace({names(false), protect});
    const auto is_sealed = [&](const Piece& piece) {
      const Result result = gateway.receive(kLan, packet_of(piece));
      return ip_of(result.wan.at(0))[9] == 50;
    };
    CHECK_FALSE(is_sealed({}));
    CHECK_FALSE(is_sealed({.offset = 64}));
    CHECK(is_sealed({.identification = 8, .port = 54}));
    CHECK(is_sealed({.identification = 8, .offset = 64}));
    CHECK(is_sealed({.port = 54}));  // another packet by the name of the first
    CHECK(is_sealed({.offset = 64}));
  }
}

TEST_CASE("bypassed fragments: those of one packet meet at one worker") {
  std::size_t passed = 0;
  for (const std::uint16_t worker : {std::uint16_t{0}, std::uint16_t{1}}) {
    Gateway one({}, 2, worker);
    one.tables().spd->replace({names(false)});
    const Result result = one.receive(kLan, {packet_of({}), packet_of({.offset = 64})});
    CHECK(result.drops.empty());
    passed += result.wan.size();
  }
  CHECK(passed == 2);
  // Nobody hands anything over for policies without ports.
  for (const std::uint16_t worker : {std::uint16_t{0}, std::uint16_t{1}}) {
    Gateway one({}, 2, worker);
    one.policy(PolicyAction::bypass, "10.1.0.0/24", "10.2.0.0/16");
    CHECK(one.receive(kLan, {packet_of({}), packet_of({.offset = 64})}).wan.size() == 2);
  }
}
