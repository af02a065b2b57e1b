// Rekeying children and IKE SAs: make before break, with not one packet lost.
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

TEST_CASE("child rekey: the initiator switches with the answer, then deletes the old (§1.3.3)") {
  const bool pfs = GENERATE(false, true);
  GatewayOptions options = gateway_a();
  if (pfs) options.children[0].esp_proposal = "aes256gcm16-ecp384";
  Ladder ladder(options);
  ladder.connect();
  ladder.expect_no_loss();
  const auto old_a = ladder.gateway(kA).data_plane.outbound_of(0)->sa.spi;
  const auto old_b = ladder.gateway(kB).data_plane.outbound_of(0)->sa.spi;

  const auto command = ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  // b has the new inbound SA before a can use it, and itself goes on with the old one.
  CHECK(ladder.gateway(kB).data_plane.sas.size() == 4);
  CHECK(ladder.gateway(kB).data_plane.outbound_of(0)->sa.spi == old_b);
  ladder("b --> a  CREATE_CHILD_SA response");
  CHECK(ladder.gateway(kA).data_plane.outbound_of(0)->sa.spi != old_a);
  CHECK(ladder.gateway(kB).data_plane.outbound_of(0)->sa.spi == old_b);
  ladder("a --> b  INFORMATIONAL request");
  CHECK(ladder.gateway(kB).data_plane.outbound_of(0)->sa.spi != old_b);
  ladder("b --> a  INFORMATIONAL response");
  ladder.silent();
  // The old inbound SAs stay for what is still on its way.
  CHECK(ladder.gateway(kA).data_plane.sas.size() == 4);
  ladder.pass(seconds(6));
  ladder.converged();
  CHECK(ladder.outcome(kA, command)->ok);
  CHECK(ladder.ike_sa(kA).children.front().pfs_group == (pfs ? "ecp384" : ""));
  CHECK(ladder.gateway(kA).machine->counters().child_rekeys_ok == 1);
  CHECK(ladder.gateway(kB).machine->counters().child_rekeys_ok == 1);
}

TEST_CASE("child rekey: the responder switches by itself when the Delete does not come") {
  ike::Tuning tuning = without_linger();
  tuning.rekey_switch_delay = milliseconds(4000);
  Ladder ladder(gateway_a(), mirrored(gateway_a()), tuning);
  ladder.connect();
  ladder.expect_no_loss();
  const auto old_b = ladder.gateway(kB).data_plane.outbound_of(0)->sa.spi;
  ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder("a --x b  INFORMATIONAL request");
  ladder.pass(milliseconds(3900));
  CHECK(ladder.gateway(kB).data_plane.outbound_of(0)->sa.spi == old_b);
  ladder.pass(milliseconds(200));
  CHECK(ladder.gateway(kB).data_plane.outbound_of(0)->sa.spi != old_b);
  ladder.run();
  ladder.pass(seconds(10));
  ladder.run();
  ladder.converged();
}

TEST_CASE("child rekey: the responder does not switch while its answer may be lost") {
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --x a  CREATE_CHILD_SA response");
  for (int again = 0; again < 4; ++again) {
    while (ladder.wire.empty()) ladder.pass(milliseconds(100));
    ladder("a --x b  CREATE_CHILD_SA request");
  }
  while (ladder.wire.empty()) ladder.pass(milliseconds(100));
  ladder.run();
  ladder.pass(seconds(6));
  ladder.run();
  ladder.converged();
}

TEST_CASE("IKE rekey: who agrees to it has our answers that made children (§2.25.2)") {
  const bool arrived = GENERATE(true, false);
  ike::Tuning tuning;
  tuning.replaced_sa_linger = seconds(10);
  Ladder ladder(gateway_a(), mirrored(gateway_a()), tuning);
  ladder.connect();
  ladder.expect_no_loss();
  const auto old_b = ladder.gateway(kB).data_plane.outbound_of(0)->sa.spi;
  ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  if (arrived) ladder("b --> a  CREATE_CHILD_SA response");
  ladder.rekey_ike(kB);
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  CHECK((ladder.reported(kB, "ike_sa_rekeyed") == 1) == arrived);
  CHECK((ladder.gateway(kB).data_plane.outbound_of(0)->sa.spi != old_b) == arrived);
  ladder.settle(60);
  ladder.converged();
}

TEST_CASE("child rekey: the soft lifetime starts it") {
  GatewayOptions options = gateway_a();
  options.children[0].rekey_time = seconds(100);
  options.children[0].life_time = seconds(130);
  Ladder ladder(options);
  ladder.connect();
  ladder.expect_no_loss();
  for (int i = 0; i < 400; ++i) {
    ladder.pass(seconds(1));
    ladder.run();
  }
  CHECK(ladder.gateway(kA).machine->counters().child_rekeys_ok >= 3);
  CHECK(ladder.reported(kA, "negotiation_failed") == 0);
}

TEST_CASE("child rekey: each message lost in turn is mended, without a lost packet") {
  const int lost = GENERATE(0, 1, 2, 3);
  static constexpr std::array kArrows{
      "a --> b  CREATE_CHILD_SA request", "b --> a  CREATE_CHILD_SA response",
      "a --> b  INFORMATIONAL request", "b --> a  INFORMATIONAL response"};
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  for (int i = 0; i < 4; ++i) {
    const std::string arrow = kArrows.at(static_cast<std::size_t>(i));
    if (i == lost) {
      std::string gone = arrow;
      gone.replace(2, 3, "--x");
      ladder(gone);
      ladder.pass(milliseconds(600));
      if (i % 2 == 1) ladder(kArrows.at(static_cast<std::size_t>(i - 1)));
    }
    ladder(arrow);
  }
  ladder.pass(seconds(6));
  ladder.converged();
}

TEST_CASE("child rekey: a new SA that its initiator cannot use leaves the old one in place") {
  const channel::Direction refused = GENERATE(channel::Direction::in, channel::Direction::out);
  Ladder ladder(gateway_a(), mirrored(gateway_a()), {});
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder.gateway(kA).data_plane.refuse_install = refused;
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder.settle(50);
  ladder.gateway(kA).data_plane.violations.clear();  // the half that was never there
  ladder.converged();
  // Its lifetime goes on: it is rekeyed again.
  ladder.settle(30);
  ladder.converged();
  CHECK(ladder.reported(kB, "child_rekeyed") == 2);
}

TEST_CASE("child rekey: a new SA that its responder cannot use leaves the old one in place") {
  const channel::Direction refused = GENERATE(channel::Direction::in, channel::Direction::out);
  Ladder ladder(gateway_a(), mirrored(gateway_a()), {});
  ladder.connect();
  const auto before = ladder.ike_sa(kA).children.front().inbound;
  ladder.rekey(kA);
  ladder.gateway(kB).data_plane.refuse_install = refused;
  // The answer is on its way before the data plane has said no: a Delete follows
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder("b --> a  INFORMATIONAL request");
  ladder("a --> b  INFORMATIONAL response");
  ladder.silent();
  // and both ends go on with what was to be replaced
  ladder.expect_no_loss();
  ladder.settle(50);
  ladder.gateway(kB).data_plane.violations.clear();  // the half that was never there
  ladder.converged();
  CHECK(ladder.ike_sa(kA).children.front().inbound == before);
  CHECK(ladder.connection(kB).last_failure == Failure::dataplane_refused);
  CHECK(ladder.connection(kA).last_failure == Failure::no_additional_sas);
  CHECK(ladder.connection(kA).fails_while_up);
  // until it is rekeyed again.
  ladder.settle(30);
  ladder.converged();
  CHECK(ladder.ike_sa(kA).children.front().inbound != before);
  for (const int side : {kA, kB}) CHECK_FALSE(ladder.connection(side).last_failure);
}

TEST_CASE("IKE rekey: children move to the new IKE SA, the old one is deleted (§1.3.2, §2.18)") {
  const int side = GENERATE(kA, kB);
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  const auto old = ladder.ike_sa(kA).initiator_spi;
  const auto command = ladder.rekey_ike(side);
  const std::string there = side == kA ? "a --> b  " : "b --> a  ";
  const std::string back = side == kA ? "b --> a  " : "a --> b  ";
  ladder(there + "CREATE_CHILD_SA request");
  ladder(back + "CREATE_CHILD_SA response");
  ladder(there + "INFORMATIONAL request");
  ladder(back + "INFORMATIONAL response");
  ladder.silent();
  ladder.converged();
  CHECK(ladder.ike_sa(kA).initiator_spi != old);
  CHECK(ladder.ike_sa(kA).initiator_spi == ladder.ike_sa(kB).initiator_spi);
  CHECK(ladder.ike_sa(kA).initiator == (side == kA));
  CHECK(ladder.outcome(side, command)->ok);
  // The new IKE SA works in both directions and derives good child keys.
  ladder.rekey(kA);
  ladder.run();
  ladder.pass(seconds(6));
  ladder.rekey(kB);
  ladder.run();
  ladder.pass(seconds(6));
  ladder.converged();
}

TEST_CASE("IKE rekey: a peer that deletes none of the old ones has a bounded number of them") {
  Ladder ladder;
  ladder.connect();
  std::size_t most = 0;
  for (int i = 0; i < 20; ++i) {
    ladder.rekey_ike(kA);
    while (!ladder.wire.empty()) {
      const Flying datagram = ladder.wire.front();
      ladder.wire.erase(ladder.wire.begin());
      const auto exchange = simulation::header_of(datagram).exchange;
      if (exchange != wire::ike::ExchangeType::informational) ladder.world.deliver(datagram);
    }
    most = std::max(most, ladder.gateway(kB).machine->ike_sas(ladder.world.now).size());
    ladder.pass(milliseconds(100));
  }
  CHECK(most == 17);
  ladder.settle(60);
  ladder.converged();
}

TEST_CASE("child rekey: a PFS group that the peer does not have leaves the old child in place") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.children[0].esp_proposal = "aes256gcm16-ecp384";
  b.children[0].esp_proposal = "aes256gcm16-x25519";
  Ladder ladder(a, b);
  // IKE_AUTH has no key exchange of its own: the mismatch shows only now (§1.2).
  ladder.connect();
  ladder.expect_no_loss();
  const auto command = ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder.silent();
  REQUIRE(ladder.outcome(kA, command) != nullptr);
  CHECK_FALSE(ladder.outcome(kA, command)->ok);
  CHECK(ladder.connection(kA).last_failure == Failure::pfs_mismatch);
  const auto told = ladder.connection(kB).last_failure_detail;
  CHECK(told.find("x25519") != std::string::npos);
  CHECK(told.find("ecp384") != std::string::npos);
  ladder.converged();
}

TEST_CASE("child rekey: INVALID_KE_PAYLOAD in CREATE_CHILD_SA is followed") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.children[0].esp_proposal = "aes256gcm16-ecp384-x25519";
  b.children[0].esp_proposal = "aes256gcm16-x25519";
  Ladder ladder(a, b);
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder.run();
  ladder.pass(seconds(6));
  ladder.converged();
  CHECK(ladder.ike_sa(kB).children.front().pfs_group == "x25519");
}

}  // namespace
}  // namespace culvert::ladder
