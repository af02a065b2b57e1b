// What goes wrong for good: both operators read what both sides have.
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

TEST_CASE("failure: a wrong key is named on both sides (RFC 7296 §2.15, §2.21.2)") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  b.psk = "something else";
  Ladder ladder(a, b);
  const auto command = ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::authentication_failed_remote);
  CHECK(ladder.connection(kB).last_failure == Failure::authentication_failed_local);
  CHECK(contains(ladder.connection(kB).last_failure_detail, "a.example.org"));
  CHECK(contains(ladder.connection(kB).last_failure_detail, "b.example.org"));
  REQUIRE(ladder.outcome(kA, command) != nullptr);
  CHECK_FALSE(ladder.outcome(kA, command)->ok);
  CHECK(ladder.gateway(kB).machine->counters().authentication_failures == 1);
  CHECK(ladder.gateway(kA).data_plane.leased.empty());
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  CHECK(ladder.gateway(kB).data_plane.sas.empty());
}

TEST_CASE("failure: an identity that is not expected") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  b.remote_id = "other.example.org";
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kB).last_failure == Failure::identity_mismatch);
  CHECK(contains(ladder.connection(kB).last_failure_detail, "other.example.org"));
  CHECK(contains(ladder.connection(kB).last_failure_detail, "a.example.org"));
  CHECK(ladder.connection(kA).last_failure == Failure::authentication_failed_remote);
}

TEST_CASE("failure: no secret for the peer") {
  Ladder ladder;
  ladder.gateway(kB).secrets.present = false;
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kB).last_failure == Failure::no_shared_secret);
  ladder.gateway(kA).secrets.present = false;
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::no_shared_secret);
}

TEST_CASE("failure: IKE proposals without anything in common") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.ike_proposal = "aes256gcm16-prfsha384-ecp384";
  b.ike_proposal = "aes128-sha256-modp2048";
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::no_ike_proposal_chosen);
  CHECK(ladder.connection(kB).last_failure == Failure::no_ike_proposal_chosen);
  CHECK(contains(ladder.connection(kB).last_failure_detail, "aes256gcm16-prfsha384-ecp384"));
  CHECK(contains(ladder.connection(kB).last_failure_detail, "modp2048"));
}

TEST_CASE("failure: selectors without anything in common leave the IKE SA up (§1.3.1)") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  b.children[0].local_ts = "10.9.0.0/24";
  Ladder ladder(a, b);
  const auto command = ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::traffic_selectors_unacceptable);
  CHECK(contains(ladder.connection(kB).last_failure_detail, "10.9.0.0/24"));
  CHECK(contains(ladder.connection(kB).last_failure_detail, "10.2.0.0/24"));
  CHECK(ladder.ike_sa(kA).state == "established");
  CHECK(ladder.ike_sa(kB).state == "established");
  CHECK(ladder.ike_sa(kA).children.empty());
  CHECK(ladder.gateway(kA).data_plane.leased.empty());
  CHECK_FALSE(ladder.outcome(kA, command)->ok);
}

TEST_CASE("failure: ESP proposals without anything in common leave the IKE SA up") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.children[0].esp_proposal = "aes256gcm16";
  b.children[0].esp_proposal = "aes128gcm16";
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::no_child_proposal_chosen);
  CHECK(ladder.ike_sa(kA).state == "established");
}

TEST_CASE("failure: transport here and tunnel there") {
  GatewayOptions a = gateway_a();
  a.children[0].local_ts = "192.0.2.1/32";
  a.children[0].remote_ts = "192.0.2.2/32";
  GatewayOptions b = mirrored(a);
  (GENERATE(true, false) ? a : b).children[0].mode = config::Mode::transport;
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  CHECK((ladder.connection(kA).last_failure == Failure::mode_mismatch ||
         ladder.connection(kB).last_failure == Failure::mode_mismatch));
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  CHECK(ladder.gateway(kB).data_plane.sas.empty());
}

TEST_CASE("failure: an address that no connection expects") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  b.remote_address = "198.51.100.77";
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  REQUIRE(ladder.reported(kB, "negotiation_failed") == 1);
  CHECK(ladder.gateway(kB).reports.front().fields.front().second == "unknown_peer_address");
  CHECK(ladder.connection(kA).last_failure == Failure::no_ike_proposal_chosen);
}

TEST_CASE("failure: the data plane refuses the SA; the peer's half is taken down") {
  Ladder ladder;
  ladder.gateway(kB).data_plane.next_install = channel::Outcome::no_room;
  ladder.initiate(kA);
  for (int i = 0; i < 10; ++i) {
    ladder.run();
    ladder.pass(milliseconds(200));
  }
  const auto& reports = ladder.gateway(kB).reports;
  CHECK(std::ranges::any_of(reports, [](const ike::Report& report) {
    return report.event == "negotiation_failed" &&
           std::ranges::any_of(report.fields,
                               [](const auto& f) { return f.second == "dataplane_refused"; });
  }));
  ladder.settle(30);
  CHECK(ladder.gateway(kB).data_plane.leased.empty());
  ladder.gateway(kB).data_plane.violations.clear();  // the half that was never there
}

TEST_CASE("failure: no SPI left") {
  Ladder ladder;
  ladder.gateway(kA).data_plane.spis_exhausted = true;
  const auto command = ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::no_spi_available);
  CHECK_FALSE(ladder.outcome(kA, command)->ok);
  ladder.gateway(kA).data_plane.spis_exhausted = false;
  ladder.gateway(kB).data_plane.spis_exhausted = true;
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kB).last_failure == Failure::no_spi_available);
  CHECK(ladder.connection(kA).last_failure == Failure::no_additional_sas);
}

TEST_CASE("failure: a command for what is not configured") {
  Ladder ladder;
  const auto command = ladder.initiate(kA, "ofice");
  CHECK_FALSE(ladder.outcome(kA, command)->ok);
  CHECK(contains(ladder.outcome(kA, command)->message, "ofice"));
  const auto rekey = ladder.rekey(kA);
  CHECK_FALSE(ladder.outcome(kA, rekey)->ok);
}

}  // namespace
}  // namespace culvert::ladder
