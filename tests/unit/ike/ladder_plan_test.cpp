// What the machine says of each configured child, up or not, and what it counts for it.
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

/// A second child that nobody asks for.
GatewayOptions with_idle_lab() {
  GatewayOptions options = gateway_a();
  ChildOptions lab;
  lab.name = "lab";
  lab.local_ts = "10.11.0.0/24";
  lab.remote_ts = "10.12.0.0/24";
  options.children.push_back(lab);
  return options;
}

ike::ChildPlan plan(Ladder& ladder, int side, std::size_t child) {
  return ladder.connection(side).children.at(child);
}

std::uint64_t refused(Ladder& ladder, int side, Failure reason) {
  const auto counters = ladder.gateway(side).machine->counters();
  const auto found = counters.authentication_failures_by_reason.find(reason);
  return found == counters.authentication_failures_by_reason.end() ? 0 : found->second;
}

}  // namespace

TEST_CASE("plan: a child is coming while its own negotiation is under way, and not before") {
  Ladder ladder(with_idle_lab());
  CHECK_FALSE(plan(ladder, kA, 0).is_coming);
  ladder.initiate(kA);
  CHECK(plan(ladder, kA, 0).is_coming);
  CHECK_FALSE(plan(ladder, kA, 1).is_coming);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  CHECK(plan(ladder, kA, 0).is_coming);
  ladder("a --> b  IKE_AUTH request");
  ladder("b --> a  IKE_AUTH response");
  // The IKE SA stands, with one child: nobody has asked for the other.
  for (const std::size_t child : {0, 1}) CHECK_FALSE(plan(ladder, kA, child).is_coming);
  CHECK(plan(ladder, kA, 1).name == "lab");
  ladder.initiate(kA, "lab");
  CHECK(plan(ladder, kA, 1).is_coming);
  ladder.run();
  CHECK_FALSE(plan(ladder, kA, 1).is_coming);
}

TEST_CASE("plan: what a command took down stays so until a command brings it up") {
  Ladder ladder(with_idle_lab());
  ladder.connect();
  CHECK_FALSE(plan(ladder, kA, 0).is_terminated);
  ladder.world.command(kA, CommandVerb::terminate, "office");
  ladder.run();
  CHECK(plan(ladder, kA, 0).is_terminated);
  CHECK_FALSE(plan(ladder, kA, 0).is_coming);
  CHECK_FALSE(plan(ladder, kA, 1).is_terminated);
  ladder.initiate(kA);
  ladder.run();
  CHECK_FALSE(plan(ladder, kA, 0).is_terminated);
  ladder.world.command(kA, CommandVerb::terminate, "branch");
  ladder.run();
  for (const std::size_t child : {0, 1}) CHECK(plan(ladder, kA, child).is_terminated);
}

TEST_CASE("plan: rekeys are counted for the child that they are of, on both sides") {
  Ladder ladder(with_idle_lab());
  ladder.connect();
  ladder.rekey(kA);
  ladder.run();
  ladder.rekey(kB);
  ladder.run();
  for (const int side : {kA, kB}) {
    CHECK(plan(ladder, side, 0).rekeys_ok == 2);
    CHECK(plan(ladder, side, 0).rekeys_failed == 0);
    CHECK(plan(ladder, side, 1).rekeys_ok == 0);
  }
}

TEST_CASE("plan: a child that is never rekeyed by time has no time until then") {
  GatewayOptions options = gateway_a();
  options.children[0].rekey_time = options.children[0].life_time = seconds(0);
  Ladder ladder(options);
  ladder.connect();
  CHECK_FALSE(ladder.ike_sa(kA).children.at(0).rekey_in);
  CHECK_FALSE(ladder.ike_sa(kA).children.at(0).expires_in);
}

TEST_CASE("authentication: a refusal is counted at both ends, once each") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  b.psk = "something else";
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  CHECK(refused(ladder, kA, Failure::authentication_failed_remote) == 1);
  CHECK(refused(ladder, kB, Failure::authentication_failed_local) == 1);
  CHECK(ladder.gateway(kA).machine->counters().authentication_failures == 1);
  CHECK(ladder.gateway(kB).machine->counters().authentication_failures == 1);
}

TEST_CASE("authentication: an initiator that refuses the responder counts it, and so does he") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.remote_id = "*.example.net";  // a pattern is not sent: the responder says who it is
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  CHECK(refused(ladder, kA, Failure::identity_mismatch) == 1);
  CHECK(refused(ladder, kB, Failure::authentication_failed_remote) == 1);
  for (const int side : {kA, kB}) {
    CHECK(ladder.gateway(side).machine->counters().authentication_failures == 1);
  }
}

TEST_CASE("authentication: a required post-quantum key that the peer lacks is counted") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.ppk_id = "shared";
  a.ppk_required = true;
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  CHECK(refused(ladder, kA, Failure::post_quantum_mismatch) == 1);
}

}  // namespace culvert::ladder
