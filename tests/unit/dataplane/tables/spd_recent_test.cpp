// Whether a flow meets after some changes what it met before them, told without a search.
#include <random>

#include <catch2/catch.hpp>

#include "dataplane/tables/spd.hpp"
#include "dataplane/worker/flow_cache.hpp"
#include "tests/unit/dataplane/sa_request.hpp"

namespace culvert::dataplane {
namespace {

PolicyEntry site_of(std::uint32_t number, std::uint64_t place, const char* remote) {
  PolicyEntry entry;
  entry.rank = {1, place};
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.policy = channel::PolicyId{number};
  entry.local = {wire::TrafficSelector::parse("10.1.0.0/16").value()};
  entry.remote = {wire::TrafficSelector::parse(remote).value()};
  return entry;
}
FlowKey flow_towards(const char* destination) {
  return {.source = test::address("10.1.0.9"),
          .destination = test::address(destination),
          .source_port = 1234,
          .destination_port = 80,
          .protocol = wire::protocol::kUdp};
}
/// The same packet the other way.
FlowKey reversed(const FlowKey& flow) {
  return {flow.destination, flow.source,   flow.destination_port,
          flow.source_port, flow.protocol, flow.ports_known};
}

struct Changing {
  Reclaimer reclaimer{1};
  Spd spd{1, reclaimer};

  [[nodiscard]] std::uint64_t generation() const { return spd.snapshot().generation(); }
  [[nodiscard]] bool stays(const FlowKey& flow, std::uint64_t since,
                           PacketOrigin origin = PacketOrigin::clear) const {
    return spd.snapshot().stays(flow, origin, since, generation());
  }
};

}  // namespace

TEST_CASE("spd: a flow stays what it is when other policies come and go") {
  Changing policies;
  policies.spd.insert(site_of(1, 10, "10.2.0.0/16"));
  const std::uint64_t before = policies.generation();
  policies.spd.insert(site_of(2, 5, "10.3.0.0/16"));
  CHECK(policies.stays(flow_towards("10.2.0.7"), before));
  policies.spd.erase(channel::PolicyId{2});
  CHECK(policies.stays(flow_towards("10.2.0.7"), before));
  CHECK(policies.stays(flow_towards("10.2.0.7"), policies.generation()));
}

TEST_CASE("spd: a flow is searched for again when one of its policies comes or goes") {
  Changing policies;
  policies.spd.insert(site_of(1, 10, "10.2.0.0/16"));
  std::uint64_t before = policies.generation();
  SECTION("one that comes") { policies.spd.insert(site_of(2, 5, "10.2.0.0/24")); }
  SECTION("its own, that goes") { policies.spd.erase(channel::PolicyId{1}); }
  SECTION("one that came and went meanwhile") {
    policies.spd.insert(site_of(2, 5, "10.2.0.0/24"));
    policies.spd.erase(channel::PolicyId{2});
  }
  CHECK_FALSE(policies.stays(flow_towards("10.2.0.7"), before));
  // What is protected must not come in clear; what was decrypted, or is ours, may go that way.
  CHECK_FALSE(policies.stays(reversed(flow_towards("10.2.0.7")), before));
  CHECK(policies.stays(reversed(flow_towards("10.2.0.7")), before, PacketOrigin::tunnel));
}

TEST_CASE("spd: a flow is searched for again after a new list, and after many changes") {
  Changing policies;
  policies.spd.insert(site_of(1, 10, "10.2.0.0/16"));
  const std::uint64_t before = policies.generation();
  SECTION("a new list") { policies.spd.replace(policies.spd.entries()); }
  SECTION("many changes") {
    for (std::uint32_t change = 0; change < RecentRules::kChanges; ++change) {
      CHECK(policies.stays(flow_towards("10.2.0.7"), before));
      policies.spd.insert(site_of(100 + change, 100 + change, "10.3.0.0/16"));
    }
    CHECK(policies.stays(flow_towards("10.2.0.7"), before));
    policies.spd.insert(site_of(99, 99, "10.3.0.0/16"));
  }
  CHECK_FALSE(policies.stays(flow_towards("10.2.0.7"), before));
}

TEST_CASE("spd: what stays by the last changes is what a search finds") {
  constexpr std::uint32_t kNames = 24;
  std::mt19937 random(20261130);
  const auto below = [&](std::uint32_t most) {
    return static_cast<std::uint32_t>(random() % most);
  };
  const auto network = [&] {
    return "10." + std::to_string(below(4)) + "." + std::to_string(below(4)) + ".0/" +
           std::to_string(8 + 4 * below(5));
  };
  const auto selector = [&] {
    const auto prefix = wire::Prefix::parse(network()).value();
    wire::TrafficSelector made = wire::TrafficSelector::of({prefix.first(), prefix.length});
    if (below(3) == 0) {
      made.protocol = wire::protocol::kUdp;
      made.port_first = static_cast<std::uint16_t>(below(4) * 16);
      made.port_last = static_cast<std::uint16_t>(made.port_first + below(64));
    }
    return made;
  };
  Changing policies;
  std::vector<bool> is_there(kNames);
  struct Known {
    FlowKey flow;
    PacketOrigin origin;
    SpdSnapshot::Match match;
    std::uint64_t generation;
  };
  std::vector<Known> known;
  std::uint64_t stayed = 0, went = 0;
  for (std::uint32_t change = 0; change < 3000; ++change) {
    const std::uint32_t name = below(kNames);
    if (is_there[name]) {
      policies.spd.erase(channel::PolicyId{name});
    } else {
      PolicyEntry entry = site_of(name, name, "10.0.0.0/8");
      if (below(2) == 0) entry.action = PolicyAction::bypass;
      entry.local = {selector()};
      entry.remote = {selector()};
      policies.spd.insert(entry);
    }
    is_there[name] = !is_there[name];
    policies.reclaimer.poll();
    const SpdSnapshot& snapshot = policies.spd.snapshot();
    for (Known& one : known) {
      const SpdSnapshot::Match now = snapshot.find(one.flow, one.origin);
      const bool stays = policies.stays(one.flow, one.generation, one.origin);
      (stays ? stayed : went) += 1;
      if (stays) {
        REQUIRE(now.entry == one.match.entry);
        REQUIRE(now.reverse == one.match.reverse);
      }
      if (below(4) == 0) one = {one.flow, one.origin, now, snapshot.generation()};
    }
    if (known.size() == 64) known.erase(known.begin());
    FlowKey flow = flow_towards("10.2.0.7");
    flow.source.bytes[1] = static_cast<std::uint8_t>(below(4));
    flow.destination.bytes[2] = static_cast<std::uint8_t>(below(4));
    flow.destination_port = static_cast<std::uint16_t>(below(96));
    flow.ports_known = below(8) != 0;
    const auto origin = static_cast<PacketOrigin>(below(3));
    known.push_back({flow, origin, snapshot.find(flow, origin), snapshot.generation()});
  }
  CHECK(stayed > 10'000);
  CHECK(went > 10'000);
}

TEST_CASE("spd: no change is taken for one of 2^32 changes before it") {
  constexpr std::uint64_t kTurn = std::uint64_t{1} << 32U;
  const FlowKey flow = flow_towards("10.2.0.7");
  SECTION("when a flow is told to have stayed") {
    Reclaimer reclaimer(1);
    RecentRules recent;
    recent.note(kTurn + 1, {}, reclaimer);
    CHECK(recent.pass_by(flow, true, kTurn, kTurn + 1));
    CHECK_FALSE(recent.pass_by(flow, true, 1, kTurn + 1));
    CHECK_FALSE(recent.pass_by(flow, true, 0, kTurn + 1));
  }
  SECTION("when a flow is remembered") {
    FlowCacheV4 cache(64);
    const FlowV4 key{{1, 2}};
    cache.insert(key, kTurn, {});
    // 0 would be a place that has no flow.
    REQUIRE(cache.find(key) != nullptr);
    CHECK(cache.find(key)->generation == kTurn);
    cache.insert(key, kTurn + 1, {});
    CHECK(cache.find(key)->generation == kTurn + 1);
  }
}

}  // namespace culvert::dataplane
