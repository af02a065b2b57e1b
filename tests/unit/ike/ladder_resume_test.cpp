// A key daemon that is killed and goes on from its record: the peer sees a retransmission at most.
// The record is that of the real checkpoint; what must be on it, and that no message ID and no IV
// is used for two things, is checked by the world at every step.
#include "ike/machine/record_codec.hpp"
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

GatewayOptions starting() {
  GatewayOptions a = gateway_a();
  a.children[0].start_action = StartAction::start;
  return a;
}

TEST_CASE("resume: an idle IKE SA goes on without a word") {
  const int killed = GENERATE(kA, kB);
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  const auto before = ladder.ike_sa(killed);
  ladder.world.kill(killed);
  ladder.pass(seconds(1));
  ladder.world.resume(killed);
  ladder.pass(seconds(10));
  ladder.silent();
  ladder.converged();
  const auto after = ladder.ike_sa(killed);
  CHECK(after.initiator_spi == before.initiator_spi);
  CHECK(after.responder_spi == before.responder_spi);
  CHECK(after.children.at(0).inbound == before.children.at(0).inbound);
  CHECK(ladder.gateway(killed).resumed.resumed == 1);
  // And either side still commands it.
  ladder.rekey(killed);
  ladder.settle();
  ladder.rekey_ike(1 - killed);
  ladder.settle();
  ladder.converged();
  CHECK(ladder.reported(1 - killed, "ike_sa_superseded") == 0);
}

TEST_CASE("resume: an open request is repeated, octet for octet, and its answer still fits") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  REQUIRE(ladder.wire.size() == 1);
  const auto request = ladder.wire.front().bytes;
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder.world.kill(kA);
  ladder("b --> a  CREATE_CHILD_SA response");  // nobody is there
  ladder.world.resume(kA);
  ladder.pass(milliseconds(1));
  REQUIRE(ladder.wire.size() == 1);
  CHECK(ladder.wire.front().bytes == request);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder.settle();
  ladder.converged();
  CHECK(ladder.reported(kA, "child_rekeyed") == 1);
}

TEST_CASE("resume: a repeated request gets the answer that it got, octet for octet") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  ladder("a ==> b  CREATE_CHILD_SA request");
  const auto response = ladder.wire.back().bytes;
  ladder("b --x a  CREATE_CHILD_SA response");
  ladder.world.kill(kB);
  ladder.world.resume(kB);
  ladder("a --> b  CREATE_CHILD_SA request");
  REQUIRE(ladder.wire.size() == 1);
  CHECK(ladder.wire.front().bytes == response);
  ladder.settle();
  ladder.converged();
}

TEST_CASE("resume: the initiator of an IKE rekey is killed at each of its steps") {
  const int step = GENERATE(0, 1, 2);
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey_ike(kA);
  if (step == 0) ladder.world.kill(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  if (step == 1) ladder.world.kill(kA);
  ladder("b --> a  CREATE_CHILD_SA response");
  if (step == 2) ladder.world.kill(kA);
  ladder.world.resume(kA);
  ladder.settle();
  ladder.converged();
  CHECK(ladder.reported(kA, "ike_sa_rekeyed") == 1);
  CHECK(ladder.reported(kB, "ike_sa_rekeyed") == 1);
}

TEST_CASE("resume: killed between the record and the data plane, what was asked is asked again") {
  // The answer to its rekey makes A install two SAs and switch: so many effects are let through.
  const int effects = GENERATE(1, 2, 3, 4);
  Ladder ladder;
  ladder.connect();
  ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder.expect_no_loss();
  ladder.gateway(kA).dies_in = effects;
  ladder("b --> a  CREATE_CHILD_SA response");
  REQUIRE(ladder.gateway(kA).dead);
  ladder.world.resume(kA);
  ladder.settle();
  ladder.converged();
  CHECK(ladder.reported(kA, "child_lost") == 0);
}

TEST_CASE("resume: killed in the middle of a handshake, either side, at each message") {
  const int killed = GENERATE(kA, kB);
  const int after = GENERATE(0, 1, 2, 3);
  Ladder ladder(starting(), mirrored(gateway_a()));
  ladder.world.start(kA);
  const char* const steps[] = {"a --> b  IKE_SA_INIT request", "b --> a  IKE_SA_INIT response",
                               "a --> b  IKE_AUTH request", "b --> a  IKE_AUTH response"};
  for (int step = 0; step <= after; ++step) ladder(steps[step]);
  const std::string one =
      simulation::describe(ladder.wire.empty() ? Flying{} : ladder.wire.front());
  ladder.world.kill(killed);
  ladder.wire.clear();
  ladder.world.resume(killed);
  ladder.settle();
  ladder.converged();
  // It was the same IKE SA all the time.
  CHECK(ladder.reported(kA, "ike_sa_established") + ladder.reported(kB, "ike_sa_established") == 2);
}

TEST_CASE("resume: a crash loop is no silence of the peer") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  ladder.wire.clear();
  for (int crash = 0; crash < 20; ++crash) {
    ladder.pass(milliseconds(700));
    ladder.wire.clear();
    ladder.world.kill(kA);
    ladder.world.resume(kA);
  }
  ladder.settle();
  ladder.converged();
  CHECK(ladder.connection(kA).last_failure == std::nullopt);
}

TEST_CASE("resume: what an operator took down stays down") {
  Ladder ladder(starting(), mirrored(gateway_a()));
  ladder.world.start(kA);
  ladder.settle(2);
  ladder.world.command(kA, CommandVerb::terminate, "office");
  ladder.settle(2);
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  ladder.world.kill(kA);
  ladder.world.resume(kA);
  ladder.settle();
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  ladder.initiate(kA);
  ladder.settle();
  ladder.converged();
}

TEST_CASE("resume: an IKE SA that lost stays for a child that the winner does not have yet") {
  GatewayOptions before = gateway_a();
  ChildOptions lab = before.children[0];
  lab.name = "lab";
  lab.local_ts = "10.1.1.0/24";
  lab.remote_ts = "10.2.1.0/24";
  before.children.push_back(lab);
  GatewayOptions changed = before;
  changed.id = "hq.example.org";
  Ladder ladder(before);
  ladder.initiate(kA, "lab");
  ladder.run();
  ladder.initiate(kA);
  ladder.run();
  REQUIRE(ladder.world.why_not_usable(0) == "");
  ladder.expect_no_loss();
  // a deletes the old IKE SA, which it began; b makes the children on the new one.
  ladder.world.reconfigure(kA, changed);
  ladder.settle(1);
  ladder.world.reconfigure(kB, mirrored(changed));
  ladder.pass(milliseconds(1));
  ladder("b --> a  IKE_SA_INIT request");
  ladder("a --> b  IKE_SA_INIT response");
  ladder("b --> a  IKE_AUTH request");
  REQUIRE(ladder.reported(kA, "ike_sa_redundant") == 1);
  ladder.world.kill(kA);
  ladder.world.resume(kA);
  ladder("a --> b  IKE_AUTH response");
  ladder.without_the_exchange_of(kB, 60);
  ladder.settle(40);
  ladder.converged(2);
}

TEST_CASE("resume: a child that the data plane lost is made anew on the same IKE SA") {
  Ladder ladder;
  ladder.connect();
  const auto before = ladder.ike_sa(kA);
  ladder.world.kill(kA);
  auto& data_plane = ladder.gateway(kA).data_plane;
  data_plane.sas.clear();
  data_plane.policies.clear();
  data_plane.policy_order.clear();
  ladder.world.resume(kA);
  ladder.settle();
  CHECK(ladder.world.why_not_usable(0) == "");
  CHECK(ladder.ike_sa(kA).initiator_spi == before.initiator_spi);
  CHECK(ladder.reported(kA, "child_lost") == 1);
  CHECK(ladder.gateway(kB).data_plane.sas.size() == 2);
  // Its halves are gone: deleting them is refused, and that is the only complaint.
  data_plane.violations.clear();
}

TEST_CASE("resume: a changed configuration is refused by name and established anew beside") {
  Ladder ladder(starting(), mirrored(gateway_a()));
  ladder.world.start(kA);
  ladder.settle(2);
  ladder.expect_no_loss();
  ladder.rekey(kA);  // its SPI is given back
  ladder.wire.clear();
  ladder.world.kill(kA);
  GatewayOptions changed = starting();
  changed.dpd_delay = seconds(45);
  ladder.gateway(kA).config = std::make_unique<config::Config>(simulation::make_config(changed));
  ladder.world.expect_refusal = ike::NotResumed::configuration_changed;
  ladder.world.resume(kA);
  CHECK(ladder.gateway(kA).resumed.resumed == 0);
  CHECK(ladder.gateway(kA).resumed.refused.at(ike::NotResumed::configuration_changed) == 1);
  ladder.settle(110);
  ladder.converged();
  CHECK(ladder.reported(kA, "record_refused") == 1);
}

TEST_CASE("resume: children and what an operator held down are known wherever the file has them") {
  GatewayOptions two = gateway_a();
  ChildOptions second = two.children.front();
  second.name = "lab";
  second.local_ts = "10.1.1.0/24";
  second.remote_ts = "10.2.1.0/24";
  two.children.push_back(second);
  two.children[0].number = 0;
  two.children[1].number = 1;
  Ladder ladder(two);
  ladder.connect();
  ladder.initiate(kA, "lab");
  ladder.settle(5);
  ladder.world.command(kA, CommandVerb::terminate, "lab");
  ladder.settle(5);
  std::swap(two.children[0], two.children[1]);
  ladder.world.reconfigure(kA, two);
  ladder.silent();
  const auto before = ladder.ike_sa(kA);
  ladder.world.kill(kA);
  // Another connection in front of it meanwhile.
  GatewayOptions other = gateway_a();
  other.name = "other";
  other.remote_address = "203.0.113.99";
  other.children[0].number = 7;
  ladder.gateway(kA).config =
      std::make_unique<config::Config>(simulation::make_config(simulation::Site{other, two}));
  ladder.expect_no_loss();
  ladder.world.resume(kA);
  ladder.settle(20);
  CHECK(ladder.gateway(kA).resumed.resumed == 1);
  CHECK(ladder.gateway(kA).resumed.refused.empty());
  CHECK(ladder.ike_sa(kA).initiator_spi == before.initiator_spi);
  CHECK(ladder.reported(kA, "record_refused") == 0);
  REQUIRE(ladder.ike_sa(kA).children.size() == 1);
  CHECK(ladder.ike_sa(kA).children.front().name == "office");
  CHECK(ladder.ike_sa(kA).children.front().inbound == before.children.front().inbound);
  ike::Records records;
  ladder.gateway(kA).machine->take_records(true, records);
  const auto held = std::ranges::find_if(records, [](const ike::Record& one) {
    return one.name.kind == ike::RecordKind::connection && !one.content.empty();
  });
  REQUIRE(held != records.end());
  const auto recorded = ike::decode_connection(*held);
  REQUIRE(recorded);
  CHECK(recorded->name == "branch");
  CHECK(recorded->held_children == std::set{config::ChildId{1}});
}

TEST_CASE("resume: what the configuration does not have any more goes, and nothing else") {
  Ladder ladder;
  ladder.connect();
  auto& data_plane = ladder.gateway(kA).data_plane;
  const bool has_records = GENERATE(true, false);
  const auto stays = data_plane.sas;
  // Of an IKE SA whose connection, and whose record, the file does not have.
  channel::Request install;
  install.type = channel::RequestType::install_sa;
  install.id = channel::RequestId{1U << 20U};
  install.body.install_sa = stays.begin()->second.sa;
  install.body.install_sa.child_id = config::ChildId{1};
  install.body.install_sa.sa = channel::SaId{77};
  install.body.install_sa.direction = channel::Direction::out;
  install.body.install_sa.key.bytes[0] ^= 1U;
  REQUIRE(data_plane.execute(install, ladder.world.now).outcome == channel::Outcome::ok);
  channel::Request policy;
  policy.type = channel::RequestType::install_policy;
  policy.id = channel::RequestId{1U << 20U};
  policy.body.install_policy = data_plane.policies.begin()->second.policy;
  policy.body.install_policy.policy = channel::PolicyId{77};
  policy.body.install_policy.child_id = config::ChildId{1};
  policy.body.install_policy.outbound = channel::SaId{77};
  REQUIRE(data_plane.execute(policy, ladder.world.now).outcome == channel::Outcome::ok);
  ladder.world.kill(kA);
  ladder.expect_no_loss();
  if (has_records) {
    ladder.world.resume(kA);
    CHECK(ladder.gateway(kA).resumed.resumed == 1);
  } else {
    ladder.world.kill_and_restart(kA);
  }
  CHECK_FALSE(data_plane.policies.contains(channel::PolicyId{77}));
  for (const auto& [id, sa] : stays) CHECK(data_plane.find(id) != nullptr);
  ladder.settle(110);
  CHECK(data_plane.find(channel::SaId{77}) == nullptr);
  ladder.converged();
}

TEST_CASE("resume: an SPI that the data plane does not hold any more is not used") {
  Ladder ladder;
  ladder.connect();
  ladder.rekey(kA);
  ladder.wire.clear();
  ladder.world.kill(kA);
  ladder.world.lose_held_spis = true;
  ladder.world.expect_refusal = ike::NotResumed::spi_not_held;
  ladder.expect_no_loss();
  ladder.world.resume(kA);
  CHECK(ladder.gateway(kA).resumed.refused.at(ike::NotResumed::spi_not_held) == 1);
  ladder.settle(110);
  ladder.converged();
}

TEST_CASE("record: cut short anywhere or with any octet changed it is refused or harmless") {
  Ladder ladder;
  ladder.connect();
  ladder.rekey(kA);
  ike::Records records;
  ladder.gateway(kA).machine->take_records(true, records);
  const auto record = std::ranges::find_if(
      records, [](const ike::Record& one) { return one.name.kind == ike::RecordKind::ike_sa; });
  REQUIRE(record != records.end());
  const auto whole = record->content.view();
  REQUIRE(ike::decode_ike_sa(*record));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const ike::Record cut{record->name, crypto::SecretBytes(whole.first(size))};
    if (ike::decode_ike_sa(cut)) FAIL("a record of " << size << " octets parses");
  }
  std::vector<std::uint8_t> longer(whole.begin(), whole.end());
  longer.push_back(0);
  CHECK_FALSE(ike::decode_ike_sa({record->name, crypto::SecretBytes(longer)}));
  CHECK_FALSE(ike::decode_ike_sa(
      {{ike::RecordKind::ike_sa, record->name.id + 1}, crypto::SecretBytes(whole)}));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::vector<std::uint8_t> changed(whole.begin(), whole.end());
    changed[at] ^= 0xffU;
    (void)ike::decode_ike_sa({record->name, crypto::SecretBytes(changed)});
  }
}

TEST_CASE("record: written, read and written again it is the same") {
  Ladder ladder;
  ladder.connect();
  ladder.rekey_ike(kB);
  ike::Records before;
  ladder.gateway(kB).machine->take_records(true, before);
  ladder.world.kill(kB);
  ladder.world.resume(kB);
  ike::Records after;
  ladder.gateway(kB).machine->take_records(true, after);
  REQUIRE(after.size() == before.size());
  for (std::size_t at = 0; at < before.size(); ++at) {
    CHECK(after[at].name == before[at].name);
    // Its retransmission was brought forward: the same, but for that time.
    CHECK(after[at].content.size() == before[at].content.size());
  }
}

}  // namespace
}  // namespace culvert::ladder
