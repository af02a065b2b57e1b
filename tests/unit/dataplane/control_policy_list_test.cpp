#include <catch2/catch.hpp>

#include "dataplane/control/policy_list.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

wire::TrafficSelector selector(std::string_view text) {
  return wire::TrafficSelector::of(test::prefix(text));
}

config::Child child(std::string name) {
  config::Child result;
  result.name = std::move(name);
  result.id = config::child_id("branch", result.name);
  result.local_ts = {selector("10.1.0.0/16")};
  result.remote_ts = {selector("10.2.0.0/16")};
  return result;
}

/// One explicit policy and two children.
config::Config gateway() {
  config::Config config;
  config::Policy policy;
  policy.action = config::PolicyAction::bypass;
  policy.source = selector("10.1.0.0/24");
  policy.destination = selector("198.51.100.0/24");
  config.policies = {policy};
  config::Connection connection;
  connection.children = {child("office"), child("lab")};
  config.connections = {connection};
  return config;
}

constexpr ChildId kOffice = config::child_id("branch", "office");
constexpr ChildId kLab = config::child_id("branch", "lab");

std::vector<PolicyEntry> ordered(const config::Config& config, const NegotiatedPolicies& negotiated,
                                 const std::vector<ManualPolicy>& manual) {
  return ordered_policies(config, ChildDirectory(config), negotiated, manual);
}

NegotiatedPolicy negotiated(ChildId child_id, std::uint32_t slot, std::uint64_t rank) {
  NegotiatedPolicy policy;
  policy.child_id = child_id;
  policy.outbound = SlotIndex{slot};
  policy.local = {selector("10.1.0.0/24")};
  policy.remote = {selector("10.2.0.0/24")};
  policy.age_rank = rank;
  return policy;
}

}  // namespace

TEST_CASE("policies: explicit, then each child's negotiated before its trap, then manual SAs") {
  NegotiatedPolicies policies;
  policies[channel::PolicyId{9}] = negotiated(kOffice, 4, 1);
  ManualPolicy manual;
  manual.child_id = config::manual_id("pair");
  manual.outbound = SlotIndex{6};
  const auto entries = ordered(gateway(), policies, {manual});

  REQUIRE(entries.size() == 5);
  CHECK(entries[0].origin == PolicyOrigin::configured);
  CHECK(entries[0].action == PolicyAction::bypass);
  CHECK(entries[1].origin == PolicyOrigin::negotiated);
  CHECK(entries[1].outbound == SlotIndex{4});
  CHECK(entries[2].origin == PolicyOrigin::trap);
  CHECK(entries[2].child_id == kOffice);
  CHECK(entries[2].outbound == kNoSlot);
  CHECK(entries[3].origin == PolicyOrigin::trap);
  CHECK(entries[3].child_id == kLab);
  CHECK(entries[4].origin == PolicyOrigin::manual);
}

TEST_CASE("policies: without a key daemon every child is a trap, none is in clear") {
  const auto entries = ordered(gateway(), {}, {});
  REQUIRE(entries.size() == 3);
  for (std::size_t i = 1; i < entries.size(); ++i) {
    CHECK(entries[i].action == PolicyAction::protect);
    CHECK(entries[i].outbound == kNoSlot);
  }
}

TEST_CASE("policies: of two negotiated for one child the newer matches first") {
  NegotiatedPolicies policies;
  policies[channel::PolicyId{9}] = negotiated(kOffice, 4, 1);
  policies[channel::PolicyId{3}] = negotiated(kOffice, 5, 2);
  const auto entries = ordered(gateway(), policies, {});
  CHECK(entries[1].outbound == SlotIndex{5});
  CHECK(entries[2].outbound == SlotIndex{4});
}

TEST_CASE("policies: a child's stand where the file has it, whatever number it had before") {
  NegotiatedPolicies policies;
  policies[channel::PolicyId{9}] = negotiated(kOffice, 4, 1);
  policies[channel::PolicyId{3}] = negotiated(kLab, 5, 2);
  config::Config config = gateway();
  auto& children = config.connections[0].children;
  std::swap(children[0], children[1]);
  const auto swapped = ordered(config, policies, {});
  REQUIRE(swapped.size() == 5);
  CHECK(swapped[1].outbound == SlotIndex{5});
  CHECK(swapped[2].child_id == kLab);
  CHECK(swapped[2].origin == PolicyOrigin::trap);
  CHECK(swapped[3].outbound == SlotIndex{4});
  CHECK(swapped[4].child_id == kOffice);
}

TEST_CASE("policies: what was negotiated for a child that is gone gives way to all that is not") {
  NegotiatedPolicies policies;
  policies[channel::PolicyId{9}] = negotiated(kOffice, 4, 1);
  config::Config config = gateway();
  config.connections[0].children.erase(config.connections[0].children.begin());
  ManualPolicy manual;
  manual.child_id = config::manual_id("pair");
  const auto entries = ordered(config, policies, {manual});
  REQUIRE(entries.size() == 4);
  CHECK(entries[1].child_id == kLab);
  CHECK(entries[2].child_id == kOffice);  // until the key daemon takes it away: not in clear
  CHECK(entries[2].outbound == SlotIndex{4});
  CHECK(entries[3].origin == PolicyOrigin::manual);
}

TEST_CASE("policies: a selector count beyond the array is not followed") {
  channel::SelectorSet set;
  set.count = 4000000000U;
  CHECK(selectors_of(set).size() == channel::kMaxSelectors);
}

}  // namespace culvert::dataplane::control
