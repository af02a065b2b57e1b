// Both sides at once (RFC 7296 §2.8.1, §2.8.2, §2.25).
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

void settle(Ladder& ladder) {
  for (int i = 0; i < 60; ++i) {
    ladder.run();
    ladder.pass(seconds(1));
  }
  ladder.run();
}

TEST_CASE("collision: both rekey the child; the lowest nonce goes (§2.8.1)") {
  const auto seed = GENERATE(range(1, 9));
  Ladder ladder(gateway_a(), mirrored(gateway_a()), {}, static_cast<std::uint64_t>(seed));
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  ladder.rekey(kB);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  ladder("b --> a  CREATE_CHILD_SA response");
  settle(ladder);
  ladder.converged();
}

TEST_CASE("collision: the data plane refuses the SA of the rekey that lost; its SPI is returned") {
  const int side = GENERATE(kA, kB);
  const auto seed = GENERATE(range(1, 5));  // either side's has lost in some
  Ladder ladder(gateway_a(), mirrored(gateway_a()), {}, static_cast<std::uint64_t>(seed));
  ladder.connect();
  ladder.rekey(kA);
  ladder.rekey(kB);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA request");
  if (side == kA) ladder("a --> b  CREATE_CHILD_SA response");
  ladder.gateway(side).data_plane.refuse_install = channel::Direction::in;
  ladder(side == kA ? "b --> a  CREATE_CHILD_SA response" : "a --> b  CREATE_CHILD_SA response");
  settle(ladder);
  CHECK_FALSE(ladder.gateway(side).data_plane.refuse_install);
  ladder.gateway(side).data_plane.violations.clear();  // the half that was never there
  CHECK(ladder.gateway(side).data_plane.leased.empty());
}

/// Both rekey the child; a has its answer and takes the child down before b has its own. Whether a
/// has won: that is up to the nonces, hence to the seed.
bool ends_child_in_collision(StartAction at_b, const ike::Tuning& tuning, std::uint64_t seed) {
  GatewayOptions b = mirrored(gateway_a());
  b.children[0].start_action = at_b;
  Ladder ladder(gateway_a(), b, tuning, seed);
  ladder.connect();
  ladder.rekey(kA);
  ladder.rekey(kB);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  const bool a_has_won = ladder.reported(kA, "child_rekeyed") == 1;
  ladder.world.command(kA, CommandVerb::terminate, "office");
  while (contains(ladder.on_the_wire(), "[a: INFORMATIONAL request")) {
    ladder("a --> b  INFORMATIONAL request");
    ladder("b --> a  INFORMATIONAL response");
  }
  ladder("a --> b  CREATE_CHILD_SA response");
  settle(ladder);
  if (at_b == StartAction::start) {
    ladder.converged();
    return a_has_won;
  }
  for (const int side : {kA, kB}) {
    CHECK(ladder.ike_sa(side).children.empty());
    CHECK(ladder.gateway(side).data_plane.sas.empty());
    CHECK(ladder.gateway(side).data_plane.policies.empty());
    CHECK(ladder.gateway(side).data_plane.leased.empty());
  }
  return a_has_won;
}

TEST_CASE("collision: the child ends before the other side knows which of two stays (§2.8.1)") {
  const StartAction at_b = GENERATE(StartAction::trap, StartAction::start);
  const bool old_goes_first = GENERATE(false, true);
  constexpr std::uint64_t kSeeds = 8;
  std::uint64_t won = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    INFO("seed " << seed << ", " << (old_goes_first ? "after" : "before") << " the old child");
    const ike::Tuning tuning = old_goes_first ? without_linger() : ike::Tuning{};
    won += ends_child_in_collision(at_b, tuning, seed) ? 1 : 0;
  }
  // Either side has won in some.
  CHECK(won > 0);
  CHECK(won < kSeeds);
}

/// Nothing was said to the operator: there is nothing to mend.
void settled_quietly(Ladder& ladder) {
  settle(ladder);
  ladder.converged();
  for (const int side : {kA, kB}) CHECK(ladder.reported(side, "negotiation_failed") == 0);
  CHECK(ladder.reported(kA, "child_rekeyed") == 1);
}

TEST_CASE("collision: a late rekey request has its answer after the Delete (§2.8.1)") {
  Ladder ladder(gateway_a(), mirrored(gateway_a()), ike::Tuning{});
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  ladder.rekey(kB);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  // a has replaced the child and owes its Delete: b, which knows of both, must see that first.
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder.silent();
  ladder.pass(milliseconds(300));
  ladder("a --> b  INFORMATIONAL request");
  ladder("b --> a  INFORMATIONAL response");
  ladder.pass(milliseconds(300));
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  settled_quietly(ladder);
}

TEST_CASE("collision: a late rekey request and a Delete that is lost (§2.8.1)") {
  Ladder ladder(gateway_a(), mirrored(gateway_a()), without_linger());
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  ladder.rekey(kB);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder("a --x b  INFORMATIONAL request");
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder.silent();
  settled_quietly(ladder);
}

TEST_CASE("collision: both rekey the IKE SA; one successor remains, with the children (§2.8.2)") {
  const auto seed = GENERATE(range(1, 9));
  Ladder ladder(gateway_a(), mirrored(gateway_a()), {}, static_cast<std::uint64_t>(seed));
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey_ike(kA);
  ladder.rekey_ike(kB);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  ladder("b --> a  CREATE_CHILD_SA response");
  settle(ladder);
  ladder.converged();
  CHECK(ladder.ike_sa(kA).initiator_spi == ladder.ike_sa(kB).initiator_spi);
}

TEST_CASE("collision: one rekeys the IKE SA, the other the child; both get through (§2.25.2)") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  const auto ike = ladder.rekey_ike(kA);
  const auto child = ladder.rekey(kB);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA request");
  settle(ladder);
  ladder.converged();
  REQUIRE(ladder.outcome(kA, ike) != nullptr);
  REQUIRE(ladder.outcome(kB, child) != nullptr);
  CHECK(ladder.outcome(kA, ike)->ok);
  CHECK(ladder.outcome(kB, child)->ok);
}

TEST_CASE("collision: a Delete crosses a rekey of the same child") {
  Ladder ladder;
  ladder.connect();
  ladder.world.command(kA, CommandVerb::terminate, "office");
  ladder.rekey(kB);
  ladder("a --> b  INFORMATIONAL request");
  ladder("b --> a  CREATE_CHILD_SA request");
  settle(ladder);
  for (const int side : {kA, kB}) {
    CHECK(ladder.gateway(side).data_plane.sas.empty());
    CHECK(ladder.gateway(side).data_plane.policies.empty());
    CHECK(ladder.gateway(side).data_plane.leased.empty());
    CHECK(ladder.gateway(side).machine->ike_sas(ladder.world.now).size() == 1);
  }
}

TEST_CASE("collision: both delete the child; the answers do not name it again (§1.4.1)") {
  Ladder ladder;
  ladder.connect();
  const auto a = ladder.world.command(kA, CommandVerb::terminate, "office");
  const auto b = ladder.world.command(kB, CommandVerb::terminate, "office");
  settle(ladder);
  CHECK(ladder.outcome(kA, a)->ok);
  CHECK(ladder.outcome(kB, b)->ok);
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  CHECK(ladder.gateway(kB).data_plane.sas.empty());
}

/// Both have begun; each then sends IKE_AUTH.
void both_init(Ladder& ladder) {
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT request");
  ladder("a --> b  IKE_SA_INIT response");
  ladder("b --> a  IKE_SA_INIT response");
}

TEST_CASE("collision: both initiate; one IKE SA remains and the child never flaps") {
  const auto seed = GENERATE(range(1, 9));
  GatewayOptions a = gateway_a();
  a.children[0].start_action = StartAction::start;
  Ladder ladder(a, mirrored(a), {}, static_cast<std::uint64_t>(seed));
  ladder.world.start(kA);
  ladder.world.start(kB);
  both_init(ladder);
  ladder("a --> b  IKE_AUTH request");
  ladder("b --> a  IKE_AUTH request");
  ladder("a --> b  IKE_AUTH response");
  ladder("b --> a  IKE_AUTH response");
  REQUIRE(ladder.world.why_not_usable(0) == "");
  ladder.expect_no_loss();
  settle(ladder);
  ladder.converged();
  CHECK(ladder.reported(kA, "ike_sa_established") == 2);
  CHECK(ladder.reported(kB, "ike_sa_established") == 2);
}

TEST_CASE("collision: both ask for the second child; it comes up once") {
  GatewayOptions a = gateway_a();
  ChildOptions second = a.children[0];
  second.name = "lab";
  second.local_ts = "10.1.1.0/24";
  second.remote_ts = "10.2.1.0/24";
  a.children.push_back(second);
  Ladder ladder(a);
  ladder.connect();
  const auto first = ladder.initiate(kA, "lab");
  const auto other = ladder.initiate(kB, "lab");
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA request");
  settle(ladder);
  ladder.converged(2);
  CHECK(ladder.outcome(kA, first)->ok);
  CHECK(ladder.outcome(kB, other)->ok);
}

/// A second child, the first of the configuration: it is the one a ladder watches.
GatewayOptions with_lab() {
  GatewayOptions options = gateway_a();
  ChildOptions lab = options.children[0];
  lab.name = "lab";
  lab.local_ts = "10.1.1.0/24";
  lab.remote_ts = "10.2.1.0/24";
  options.children.insert(options.children.begin(), lab);
  return options;
}
/// Both have initiated; b's IKE SA stands first, with a second child, and loses.
void cross_with_second_child(Ladder& ladder) {
  ladder.initiate(kA);
  ladder.initiate(kB);
  both_init(ladder);
  ladder("b --> a  IKE_AUTH request");
  ladder("a --> b  IKE_AUTH response");
  ladder.initiate(kB, "lab");
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  ladder("a --> b  IKE_AUTH request");
  ladder("b --> a  IKE_AUTH response");
}

TEST_CASE(
    "collision: a child made again on the IKE SA that stays is not sent on before it is known") {
  // The nonces decide which IKE SA stays: with half of the seeds it is a's.
  const auto seed = GENERATE(range(1, 9));
  const GatewayOptions a = with_lab();
  Ladder ladder(a, mirrored(a), {}, static_cast<std::uint64_t>(seed));
  cross_with_second_child(ladder);
  ladder.expect_no_loss();
  ladder.rekey(kA, "lab");
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder.without_the_exchange_of(kA, 50);
  settle(ladder);
  ladder.converged(2);
}

/// How many pairs of a child stand at a side, on whichever IKE SA.
std::size_t pairs_of(Ladder& ladder, int side, const std::string& child) {
  std::size_t pairs = 0;
  for (const auto& ike : ladder.gateway(side).machine->ike_sas(ladder.world.now)) {
    pairs +=
        static_cast<std::size_t>(std::ranges::count(ike.children, child, &ike::ChildStatus::name));
  }
  return pairs;
}

TEST_CASE("collision: both ask for a child on an IKE SA that has lost against another") {
  // With half of the seeds it is a's that loses.
  const auto seed = GENERATE(range(1, 9));
  const GatewayOptions a = with_lab();
  Ladder ladder(a, mirrored(a), {}, static_cast<std::uint64_t>(seed));
  ladder.initiate(kA);
  ladder.initiate(kB);
  both_init(ladder);
  ladder("a --> b  IKE_AUTH request");
  ladder("b --> a  IKE_AUTH response");
  ladder.initiate(kA, "lab");
  ladder.initiate(kB, "lab");
  ladder("b --> a  IKE_AUTH request");  // its answer is late
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder("b --> a  CREATE_CHILD_SA request");
  CHECK(pairs_of(ladder, kA, "lab") == 1);
  settle(ladder);
  ladder.converged(2);
}

TEST_CASE("collision: of two IKE SAs one is rekeyed before the other's last answer arrives") {
  const auto seed = GENERATE(range(1, 9));
  const GatewayOptions a = gateway_a();
  Ladder ladder(a, mirrored(a), {}, static_cast<std::uint64_t>(seed));
  ladder.initiate(kA);
  ladder.initiate(kB);
  both_init(ladder);
  ladder("b --> a  IKE_AUTH request");
  ladder("a --> b  IKE_AUTH response");
  ladder("a --> b  IKE_AUTH request");
  ladder.expect_no_loss();
  ladder.rekey_ike(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder("b --> a  IKE_AUTH response");
  const auto kept = [&](int side) {
    std::set<std::uint64_t> spis;
    for (const auto& ike : ladder.gateway(side).machine->ike_sas(ladder.world.now)) {
      if (ike.state == "established") spis.insert(ike.initiator_spi);
    }
    return spis;
  };
  CHECK(kept(kA) == kept(kB));
  settle(ladder);
  ladder.converged();
}

TEST_CASE("collision: the winner falls away; of what lost, what the peer has comes back alone") {
  // With half of the seeds a's wins.
  const auto seed = GENERATE(range(1, 9));
  const GatewayOptions a = gateway_a();
  Ladder ladder(a, mirrored(a), {}, static_cast<std::uint64_t>(seed));
  ladder.initiate(kA);
  ladder.initiate(kB);
  both_init(ladder);
  ladder("a --> b  IKE_AUTH request");
  std::vector<Flying> late = std::exchange(ladder.wire, {});
  // b forgets a's IKE SA and its own half one, and begins another.
  ladder.world.restart_data_plane(kB);
  ladder("b --> a  IKE_SA_INIT request");
  ladder("a --> b  IKE_SA_INIT response");
  ladder("b --> a  IKE_AUTH request");
  ladder("a --> b  IKE_AUTH response");
  ladder.silent();
  ladder.wire = std::move(late);
  ladder("b --> a  IKE_AUTH request");
  ladder("b --> a  IKE_AUTH response");
  // a has given its own up; it sends on what came back, not on the newer one that goes.
  ladder.settle(25);
  CHECK(ladder.world.why_not_usable(0) == "");
  ladder.expect_no_loss();
  ladder.settle(85);
  ladder.converged();
}

}  // namespace
}  // namespace culvert::ladder
