// Peers that vanish, key daemons that are killed, data planes that start again.
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

TEST_CASE("restart: a killed key daemon adopts its SAs; not one packet is lost") {
  const int killed = GENERATE(kA, kB);
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.world.kill_and_restart(killed);
  ladder.settle(110);
  ladder.converged();
  ladder.rekey(killed);
  ladder.settle();
  ladder.rekey(1 - killed);
  ladder.settle();
  ladder.converged();
}

TEST_CASE("restart: with INITIAL_CONTACT the peer keeps the old SAs until the new ones carry") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.world.kill_and_restart(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a --> b  IKE_AUTH request");
  CHECK(ladder.gateway(kB).data_plane.sas.size() == 4);
  ladder("b --> a  IKE_AUTH response");
  ladder.silent();
  ladder.pass(milliseconds(1100));
  CHECK(ladder.gateway(kB).data_plane.sas.size() == 4);
  // Whether its answer arrived: until then it sends on what there was.
  const auto sends_on = [&] { return ladder.gateway(kB).data_plane.outbound_of(0)->sa.spi; };
  const auto before = sends_on();
  ladder("b --> a  INFORMATIONAL request");
  ladder("a --> b  INFORMATIONAL response");
  CHECK(sends_on() != before);
  ladder.pass(seconds(100));
  // Nobody is told of the old IKE SA's end: nobody would understand.
  ladder.silent();
  ladder.converged();
}

/// A rekey of a's that b has answered and a never heard of: a is killed, comes back with nothing,
/// and b sends on what a has now.
void come_back_after_a_lost_answer(Ladder& ladder) {
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --x a  CREATE_CHILD_SA response");
  ladder.world.kill_and_restart(kA);
  ladder.settle(2);
  REQUIRE(ladder.reported(kB, "ike_sa_superseded") == 1);
}

TEST_CASE("restart: what the peer's life before left is no substitute for a child it has now") {
  const bool rekeyed = GENERATE(true, false);
  Ladder ladder;
  come_back_after_a_lost_answer(ladder);
  GatewayOptions narrow = gateway_a();
  narrow.children[0].local_ts = "10.1.0.0/25";
  ladder.world.reconfigure(kA, narrow);
  ladder.run();
  // On the successor no request of a's shows that it has the answer that made its narrow child.
  if (rekeyed) ladder.rekey_ike(kB);
  // a deletes the wide one, and b has another such of a's life before.
  ladder.settle(6);
  CHECK(ladder.gateway(kB).data_plane.policies.size() == 1);
  ladder.settle(110);
  ladder.converged();
}

TEST_CASE("restart: no traffic moves to what the peer's life before left") {
  Ladder ladder;
  come_back_after_a_lost_answer(ladder);
  // Thirty seconds after b's answer its switch is due; the child of now is outdated by then.
  ladder.settle(25);
  GatewayOptions narrow = gateway_a();
  narrow.children[0].local_ts = "10.1.0.0/25";
  ladder.world.reconfigure(kB, mirrored(narrow));
  ladder.without_the_exchange_of(kB, 50);
  ladder.settle(110);
  ladder.converged();
}

TEST_CASE("restart: both key daemons are killed at once") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.world.kill_and_restart(kA);
  ladder.world.kill_and_restart(kB);
  ladder.settle(110);
  ladder.converged();
}

TEST_CASE("restart: an empty data plane gets every child anew") {
  const int side = GENERATE(kA, kB);
  Ladder ladder;
  ladder.connect();
  ladder.world.restart_data_plane(side);
  ladder.settle(80);
  ladder.converged();
}

TEST_CASE("liveness: a silent peer is asked, then given up, then tried again (RFC 7296 §2.4)") {
  GatewayOptions a = gateway_a();
  a.dpd_delay = seconds(10);
  a.children[0].start_action = StartAction::start;
  GatewayOptions b = mirrored(gateway_a());
  Ladder ladder(a, b);
  ladder.world.start(kA);
  ladder.run();
  ladder.pass(seconds(11));
  ladder("a --> b  INFORMATIONAL request");
  ladder("b --> a  INFORMATIONAL response");
  for (int i = 0; i < 60; ++i) {
    ladder.pass(seconds(1));
    ladder.wire.clear();
  }
  const auto vanished = [](const ike::Report& report) {
    return std::ranges::any_of(report.fields,
                               [](const auto& field) { return field.second == "peer_vanished"; });
  };
  CHECK(std::ranges::count_if(ladder.gateway(kA).reports, vanished) == 1);
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  CHECK(ladder.connection(kA).last_failure.has_value());
  ladder.settle(60);
  CHECK(ladder.world.why_not_usable(0) == "");
}

TEST_CASE("liveness: traffic that came lately makes a check needless") {
  GatewayOptions a = gateway_a();
  a.dpd_delay = seconds(10);
  Ladder ladder(a, mirrored(gateway_a()));
  ladder.connect();
  ladder.gateway(kA).data_plane.idle_milliseconds = 20;
  ladder.pass(seconds(100));
  ladder.silent();
  ladder.gateway(kA).data_plane.idle_milliseconds = 60'000;
  ladder.pass(seconds(21));
  CHECK(ladder.wire.size() >= 1);
}

TEST_CASE("liveness: a peer whose packets arrive gets three rounds of tries (RFC 7296 §2.4)") {
  const bool sends = GENERATE(true, false);
  const bool answers = GENERATE(true, false);
  Ladder ladder;
  ladder.connect();
  if (sends) ladder.gateway(kA).data_plane.idle_milliseconds = 20;
  ladder.rekey_ike(kA);
  const auto unanswered = [&](int for_seconds) {
    for (int i = 0; i < for_seconds; ++i) {
      ladder.wire.clear();
      ladder.pass(seconds(1));
    }
  };
  unanswered(30);
  CHECK(ladder.gateway(kA).data_plane.sas.empty() != sends);
  if (answers) {
    ladder.settle(20);
    CHECK(ladder.reported(kA, "ike_sa_rekeyed") == (sends ? 1 : 0));
  } else {
    unanswered(60);
    // Whoever sends still has them: they stay for another minute.
    CHECK(ladder.reported(kA, "ike_sa_superseded") == (sends ? 1 : 0));
    CHECK(ladder.gateway(kA).data_plane.sas.empty() != sends);
    unanswered(80);
    CHECK(ladder.gateway(kA).data_plane.sas.empty());
  }
}

TEST_CASE("liveness: of a peer that lost the IKE SA alone not one packet is lost") {
  GatewayOptions a = gateway_a();
  a.encapsulation = config::Encapsulation::forced;
  GatewayOptions b = mirrored(a);
  b.remote_address.clear();  // nor do its SAs tell where to begin
  Ladder ladder(a, b);
  ladder.connect();
  ladder.world.packets_flow = true;
  ladder.expect_no_loss();
  ladder.world.kill_and_restart(kB);
  ladder.rekey_ike(kA);
  ladder.settle(200);
  CHECK(ladder.reported(kA, "ike_sa_superseded") == 1);
  ladder.converged();
}

TEST_CASE("terminate: the SAs that a rekey replaced a moment ago go with it") {
  Ladder ladder;
  ladder.connect();
  ladder.rekey(kA);
  ladder.run();
  REQUIRE(ladder.gateway(kA).data_plane.sas.size() == 4);
  REQUIRE(ladder.gateway(kB).data_plane.sas.size() == 4);

  ladder.world.command(kA, CommandVerb::terminate, "branch");
  ladder.run();
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  CHECK(ladder.gateway(kB).data_plane.sas.empty());
}

TEST_CASE("terminate: the responder of an IKE_AUTH that we no longer want hears of it (§2.21.2)") {
  const bool answered = GENERATE(true, false);
  const int how = GENERATE(0, 1, 2);
  GatewayOptions changed = gateway_a();
  changed.ike_proposal = "aes256gcm16-prfsha384-ecp384";
  Ladder ladder;
  ladder.initiate(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  std::vector<Flying> late;
  if (answered) {
    ladder("a --> b  IKE_AUTH request");
    ladder("b --x a  IKE_AUTH response");
    REQUIRE(ladder.gateway(kB).machine->ike_sas(ladder.world.now).size() == 1);
  } else {
    late = std::exchange(ladder.wire, {});
  }
  if (how == 0) ladder.world.command(kA, CommandVerb::terminate, "branch");
  if (how == 1) ladder.world.shut_down(kA);
  if (how == 2) ladder.world.reconfigure(kA, changed);
  // One that has not answered yet takes no notice, and nothing goes wrong.
  ladder("a --> b  INFORMATIONAL request");
  CHECK(ladder.gateway(kB).data_plane.sas.empty());
  for (const Flying& datagram : late) ladder.world.deliver(datagram);
  CHECK((ladder.connection(kB).last_failure == Failure::peer_deleted) == answered);
  ladder.wire.clear();
}

TEST_CASE("terminate: takes the IKE SA and its children down at both ends, and it stays down") {
  GatewayOptions a = gateway_a();
  a.children[0].start_action = StartAction::start;
  Ladder ladder(a, mirrored(gateway_a()));
  ladder.world.start(kA);
  ladder.run();
  REQUIRE(ladder.world.why_not_usable(0) == "");
  const auto command = ladder.world.command(kA, CommandVerb::terminate, "branch");
  ladder("a --> b  INFORMATIONAL request");
  ladder("b --> a  INFORMATIONAL response");
  ladder.settle(100);
  CHECK(ladder.outcome(kA, command)->ok);
  for (const int side : {kA, kB}) {
    CHECK(ladder.gateway(side).data_plane.sas.empty());
    CHECK(ladder.gateway(side).data_plane.policies.empty());
    CHECK(ladder.gateway(side).machine->ike_sas(ladder.world.now).empty());
  }
  const auto again = ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.outcome(kA, again)->ok);
}

TEST_CASE("terminate: by the peer, and a child with start comes up again by itself") {
  GatewayOptions a = gateway_a();
  a.children[0].start_action = StartAction::start;
  Ladder ladder(a, mirrored(gateway_a()));
  ladder.world.start(kA);
  ladder.run();
  REQUIRE(ladder.world.why_not_usable(0) == "");
  const auto before = ladder.ike_sa(kA);
  ladder.world.command(kB, CommandVerb::terminate, "branch");
  ladder.run();
  ladder.settle(10);
  CHECK(ladder.ike_sa(kA).initiator_spi != before.initiator_spi);
  CHECK(ladder.world.why_not_usable(0) == "");
}

TEST_CASE("expiry: a hard lifetime without a rekey brings the child back on the same IKE SA") {
  GatewayOptions a = gateway_a();
  a.children[0].rekey_time = seconds(0);
  Ladder ladder(a);
  ladder.connect();
  channel::Event event;
  event.type = channel::EventType::hard_expire;
  event.body.hard_expire = {ladder.ike_sa(kA).children.front().inbound_sa,
                            channel::ExpiryCause::packets};
  ladder.world.event(kA, event);
  ladder.settle(30);
  CHECK(ladder.connection(kA).last_failure == Failure::lifetime_expired);
  ladder.converged();
}

TEST_CASE("expiry: what an earlier life left sends no longer than its SA lives") {
  Ladder ladder;
  ladder.connect();
  simulation::Gateway& a = ladder.gateway(kA);
  const channel::SaId outbound = a.data_plane.outbound_of(0)->sa.sa;
  ladder.world.kill_and_restart(kA);
  ladder.wire.clear();
  REQUIRE(a.data_plane.outbound_of(0)->sa.sa == outbound);
  channel::Event event;
  event.type = channel::EventType::hard_expire;
  event.body.hard_expire = {outbound, channel::ExpiryCause::bytes};
  ladder.world.event(kA, event);
  CHECK(a.data_plane.find(outbound) == nullptr);
  CHECK(a.data_plane.policies.empty());
  ladder.settle(100);
  ladder.converged();
}

/// The first number that is drawn is this one.
class FirstDraws final : public crypto::ike::Random {
 public:
  FirstDraws(wire::Bytes first, std::unique_ptr<crypto::ike::Random> then)
      : first_(first.begin(), first.end()), then_(std::move(then)) {}
  void fill(crypto::MutableBytes out) override {
    if (out.size() != first_.size()) return then_->fill(out);
    std::ranges::copy(std::exchange(first_, {}), out.begin());
  }
  [[nodiscard]] bool done() const { return first_.empty(); }

 private:
  std::vector<std::uint8_t> first_;
  std::unique_ptr<crypto::ike::Random> then_;
};

TEST_CASE("start: no SA bears a name of manual ones, which the data plane would refuse") {
  Ladder ladder;
  simulation::Gateway& a = ladder.gateway(kA);
  const std::array<std::uint8_t, 8> manual{0x6d, 0x61, 0x6e, 0x75, 0, 0, 1, 0};
  auto random = std::make_unique<FirstDraws>(manual, std::move(a.random));
  const FirstDraws& draws = *random;
  a.random = std::move(random);
  a.boot();
  REQUIRE(draws.done());
  ladder.connect();
  REQUIRE(a.data_plane.sas.size() == 2);
  for (const auto& [name, sa] : a.data_plane.sas) CHECK_FALSE(channel::is_manual_id(name));
}

TEST_CASE("acquire: a packet brings a trapped child up, once") {
  Ladder ladder;
  ladder.world.acquire(kA, 0);
  ladder.world.acquire(kA, 0);
  REQUIRE(ladder.wire.size() == 1);
  ladder.run();
  ladder.converged();
}

TEST_CASE("shut down: deletes politely and leaves the data plane as it is") {
  Ladder ladder;
  ladder.connect();
  ladder.world.shut_down(kA);
  ladder("a --> b  INFORMATIONAL request");
  ladder("b --> a  INFORMATIONAL response");
  ladder.silent();
  CHECK(ladder.gateway(kA).data_plane.sas.size() == 2);
  CHECK(ladder.gateway(kB).data_plane.sas.empty());
}

}  // namespace
}  // namespace culvert::ladder
