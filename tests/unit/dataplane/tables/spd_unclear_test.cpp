// What a later fragment may be of, while the policies that say so come and go faster than grace
// periods end.
#include <catch2/catch.hpp>

#include "dataplane/tables/spd.hpp"
#include "tests/unit/dataplane/sa_request.hpp"
#include "tests/unit/dataplane/tables/one_worker.hpp"

namespace culvert::dataplane {
namespace {

using test::kWorker;

/// By ports of one network: to a later fragment all of them are one rule.
PolicyEntry port_of_network(std::uint32_t port, std::uint64_t place) {
  PolicyEntry entry;
  entry.rank = {1, place};
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.policy = channel::PolicyId{port};
  entry.local = {wire::TrafficSelector::parse("10.1.0.0/16").value()};
  entry.remote = {
      wire::TrafficSelector::parse("10.2.0.0/16[tcp/" + std::to_string(port) + "]").value()};
  return entry;
}

struct UnclearPolicies {
  Reclaimer reclaimer{1};
  Spd spd{1, reclaimer};

  UnclearPolicies() { reclaimer.online(kWorker); }
  ~UnclearPolicies() { reclaimer.offline(kWorker); }
  UnclearPolicies(const UnclearPolicies&) = delete;
  UnclearPolicies& operator=(const UnclearPolicies&) = delete;

  void pass_grace() {
    reclaimer.quiescent(kWorker);
    reclaimer.poll();
  }
  [[nodiscard]] SpdSnapshot::Match later_fragment() const {
    FlowKey flow{.source = test::address("10.1.0.9"), .destination = test::address("10.2.0.7")};
    flow.protocol = wire::protocol::kTcp;
    flow.ports_known = false;
    return spd.snapshot().find(flow, PacketOrigin::clear);
  }
  void insert(std::uint32_t port, std::uint64_t place) { spd.insert(port_of_network(port, place)); }
  void erase(std::uint32_t port) { REQUIRE(spd.erase(channel::PolicyId{port})); }
};

TEST_CASE("spd: a policy that went behind another one is not met when that one goes, too") {
  UnclearPolicies policies;
  policies.insert(1, 50);
  policies.insert(2, 10);
  CHECK(policies.later_fragment().unclear);
  policies.erase(1);
  CHECK(policies.later_fragment().unclear);
  SECTION("and nothing is left") {
    policies.erase(2);
    CHECK(policies.later_fragment().entry == SpdSnapshot::kNoEntry);
    policies.pass_grace();
    CHECK(policies.later_fragment().entry == SpdSnapshot::kNoEntry);
  }
  SECTION("and a third is left") {
    policies.insert(3, 70);
    policies.erase(2);
    const SpdSnapshot::Match met = policies.later_fragment();
    CHECK(met.unclear);
    policies.pass_grace();
    CHECK(policies.later_fragment().entry == met.entry);
    policies.erase(3);
    CHECK(policies.later_fragment().entry == SpdSnapshot::kNoEntry);
  }
}

TEST_CASE("spd: a policy that others came in front of for a moment is met again, and goes whole") {
  UnclearPolicies policies;
  policies.insert(1, 50);
  const std::uint32_t first = policies.later_fragment().entry;
  policies.insert(2, 10);
  policies.reclaimer.quiescent(kWorker);  // for the first time, not for the next
  policies.erase(2);
  CHECK(policies.later_fragment().entry == first);
  policies.insert(3, 20);
  CHECK(policies.later_fragment().entry != first);
  policies.reclaimer.poll();
  policies.erase(3);
  CHECK(policies.later_fragment().entry == first);
  policies.pass_grace();
  CHECK(policies.later_fragment().entry == first);
  policies.erase(1);
  CHECK(policies.later_fragment().entry == SpdSnapshot::kNoEntry);
  policies.pass_grace();
  CHECK(policies.reclaimer.pending() == 0);
}

}  // namespace
}  // namespace culvert::dataplane
