// Policies that the data plane refuses: what sends goes on, and the child is made anew.
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

GatewayOptions narrow() {
  GatewayOptions options = gateway_a();
  options.children[0].local_ts = "10.1.0.0/25";
  return options;
}

bool has_failed(Ladder& ladder, int side) {
  return std::ranges::any_of(ladder.gateway(side).reports, [](const ike::Report& report) {
    return report.event == "negotiation_failed" &&
           std::ranges::any_of(report.fields, [](const auto& field) {
             return field.second == "dataplane_refused";
           });
  });
}

TEST_CASE("policy: one that the data plane refuses is no child that is up") {
  const int side = GENERATE(kA, kB);
  const bool is_full = GENERATE(true, false);
  Ladder ladder;
  auto& data_plane = ladder.gateway(side).data_plane;
  if (is_full) {
    data_plane.most_policies = 0;
  } else {
    data_plane.next_policy = channel::Outcome::invalid_field;
  }
  ladder.initiate(kA);
  ladder.run();
  data_plane.most_policies = 1;
  CHECK(has_failed(ladder, side));
  CHECK(ladder.connection(side).last_failure == Failure::dataplane_refused);
  ladder.settle(20);
  ladder.converged();
  CHECK_FALSE(ladder.connection(side).last_failure);
}

TEST_CASE("policy: an adopted one stays until the new one stands") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.gateway(kA).data_plane.next_policy = channel::Outcome::invalid_field;
  ladder.world.kill_and_restart(kA);
  ladder.settle(110);
  CHECK(has_failed(ladder, kA));
  ladder.converged();
}

TEST_CASE("policy: so it does for whoever was killed before the new one stood") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.world.kill_and_restart(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a --> b  IKE_AUTH request");
  ladder.gateway(kA).dies_in = 3;  // on record, and both SAs are there
  ladder("b --> a  IKE_AUTH response");
  REQUIRE(ladder.gateway(kA).dead);
  ladder.gateway(kA).data_plane.next_policy = channel::Outcome::invalid_field;
  ladder.world.resume(kA);
  ladder.settle(110);
  CHECK(has_failed(ladder, kA));
  ladder.converged();
}

TEST_CASE("policy: without room for both the old one goes first") {
  const bool reloads = GENERATE(true, false);
  Ladder ladder;
  ladder.connect();
  for (const int side : {kA, kB}) ladder.gateway(side).data_plane.most_policies = 1;
  if (reloads) {
    ladder.world.reconfigure(kA, narrow());
    ladder.world.reconfigure(kB, mirrored(narrow()));
  } else {
    ladder.world.kill_and_restart(kA);
  }
  ladder.settle(110);
  ladder.converged();
  CHECK_FALSE(has_failed(ladder, kA));
  CHECK_FALSE(has_failed(ladder, kB));
  const auto& policy = ladder.gateway(kA).data_plane.policies.begin()->second.policy;
  CHECK(policy.local_selectors.items[0].to_string() == (reloads ? "10.1.0.0/25" : "10.1.0.0/24"));
}

TEST_CASE("policy: the old one stays where the new one is over the budget") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  auto& data_plane = ladder.gateway(kA).data_plane;
  const auto old = data_plane.policies.begin()->first;
  data_plane.next_policy = channel::Outcome::over_budget;
  ladder.world.reconfigure(kA, narrow());
  ladder.world.reconfigure(kB, mirrored(narrow()));
  ladder.run();
  CHECK(has_failed(ladder, kA));
  CHECK(data_plane.policies.size() == 1);
  CHECK(data_plane.policies.contains(old));
  ladder.settle(110);
  ladder.converged();
}

TEST_CASE("policy: a child whose new form is refused goes on, and is asked for again") {
  const bool no_policy = GENERATE(true, false);
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  auto& data_plane = ladder.gateway(kA).data_plane;
  // The data plane has not read the file yet.
  if (no_policy) {
    data_plane.next_policy = channel::Outcome::invalid_field;
  } else {
    data_plane.refuse_install = channel::Direction::out;
  }
  ladder.world.reconfigure(kA, narrow());
  ladder.world.reconfigure(kB, mirrored(narrow()));
  ladder.settle(110);
  CHECK(has_failed(ladder, kA));
  data_plane.violations.clear();  // of the half that was never there
  ladder.converged();
  CHECK(data_plane.policies.begin()->second.policy.local_selectors.items[0].to_string() ==
        "10.1.0.0/25");
}

TEST_CASE("policy: a rekeyed child that it is not switched to goes again") {
  const int side = GENERATE(kA, kB);
  Ladder ladder(gateway_a(), mirrored(gateway_a()), {});
  ladder.connect();
  // To whoever answered the old one is gone by then.
  if (side == kA) ladder.expect_no_loss();
  const auto before = ladder.ike_sa(kA).children.front().inbound;
  ladder.rekey(kA);
  ladder.gateway(side).data_plane.next_switch = channel::Outcome::unknown_sa;
  ladder.settle(50);
  CHECK(has_failed(ladder, side));
  ladder.converged();
  // Its lifetime goes on: it is rekeyed again.
  ladder.settle(30);
  ladder.converged();
  CHECK(ladder.ike_sa(kA).children.front().inbound != before);
}

TEST_CASE("policy: one that the data plane does not have any more is installed anew") {
  Ladder ladder;
  ladder.connect();
  auto& data_plane = ladder.gateway(kA).data_plane;
  data_plane.policies.clear();
  data_plane.policy_order.clear();
  ladder.rekey(kA);
  ladder.settle(100);
  data_plane.violations.clear();  // "unknown_policy", which is what this is about
  ladder.converged();
}

std::ptrdiff_t failures(Ladder& ladder, int side) {
  return std::ranges::count_if(ladder.gateway(side).reports, [](const ike::Report& report) {
    return report.event == "negotiation_failed";
  });
}

TEST_CASE("policy: whoever's data plane refuses it is asked later and later") {
  const bool by_packets = GENERATE(false, true);
  GatewayOptions options = gateway_a();
  if (!by_packets) options.children[0].start_action = config::StartAction::start;
  Ladder ladder(options, mirrored(gateway_a()));
  ladder.gateway(kB).data_plane.most_policies = 0;
  ladder.initiate(kA);
  for (int second = 0; second < 120; ++second) {
    if (by_packets) ladder.world.acquire(kA, 0);
    ladder.settle(1);
  }
  CHECK(failures(ladder, kB) >= 3);
  CHECK(failures(ladder, kB) < 12);
  // What stood in its way is gone.
  ladder.gateway(kB).data_plane.most_policies = 1;
  for (int second = 0; second < 80; ++second) {
    if (by_packets) ladder.world.acquire(kA, 0);
    ladder.settle(1);
  }
  ladder.converged();
}

TEST_CASE("policy: one child's that is refused keeps no other child down") {
  GatewayOptions options = gateway_a();
  options.children.push_back(options.children[0]);
  options.children[0].start_action = config::StartAction::start;
  options.children[1].name = "lab";
  options.children[1].local_ts = "10.3.0.0/24";
  options.children[1].remote_ts = "10.4.0.0/24";
  Ladder ladder(options, mirrored(options));
  auto& data_plane = ladder.gateway(kA).data_plane;
  data_plane.next_policy = channel::Outcome::invalid_field;
  ladder.initiate(kA);
  ladder.run();
  REQUIRE(has_failed(ladder, kA));
  ladder.world.acquire(kA, 1);
  ladder.run();
  REQUIRE(data_plane.policies.size() == 1);
  CHECK(data_plane.policies.begin()->second.policy.local_selectors.items[0].to_string() ==
        "10.3.0.0/24");
  ladder.settle(20);
  CHECK(data_plane.policies.size() == 2);
}

}  // namespace
}  // namespace culvert::ladder
