// IKE SAs made anew or without a child: re-authentication (RFC 7296 §2.8.3), childless IKE SAs (RFC
// 6023); and a peer that speaks IKEv1 (RFC 9395).
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

using config::Childless;

TEST_CASE("reauthentication: the new IKE SA carries the traffic before the old one goes") {
  GatewayOptions options = gateway_a();
  options.reauth_time = seconds(100);
  Ladder ladder(options, mirrored(gateway_a()));
  ladder.connect();
  const auto before = ladder.ike_sa(kA).initiator_spi;
  ladder.expect_no_loss();
  for (int i = 0; i < 140; ++i) {
    ladder.pass(seconds(1));
    ladder.run();
  }
  CHECK(ladder.reported(kA, "reauthenticating") == 1);
  CHECK(ladder.reported(kB, "ike_sa_established") == 2);
  ladder.converged();
  CHECK(ladder.ike_sa(kA).initiator_spi != before);
}

TEST_CASE("reauthentication: a rekey does not put it off") {
  GatewayOptions options = gateway_a();
  options.reauth_time = seconds(100);
  Ladder ladder(options, mirrored(gateway_a()));
  ladder.connect();
  for (int i = 0; i < 140; ++i) {
    if (i == 50) ladder.rekey_ike(kB);
    ladder.pass(seconds(1));
    ladder.run();
  }
  CHECK(ladder.reported(kA, "reauthenticating") == 1);
  ladder.converged();
}

TEST_CASE("reauthentication: a peer that does not answer costs nothing but another try") {
  GatewayOptions options = gateway_a();
  options.reauth_time = seconds(100);
  Ladder ladder(options, mirrored(gateway_a()));
  ladder.connect();
  const auto before = ladder.ike_sa(kA).initiator_spi;
  ladder.expect_no_loss();
  for (int i = 0; i < 150; ++i) {
    ladder.pass(seconds(1));
    ladder.wire.clear();
  }
  CHECK(ladder.reported(kA, "reauthenticating") == 1);
  CHECK(ladder.ike_sa(kA).initiator_spi == before);
  for (int i = 0; i < 60; ++i) {
    ladder.pass(seconds(1));
    ladder.run();
  }
  CHECK(ladder.reported(kA, "reauthenticating") == 2);
  ladder.converged();
}

TEST_CASE("childless: the first child comes by an exchange of its own (RFC 6023)") {
  GatewayOptions options = gateway_a();
  options.childless = GENERATE(Childless::prefer, Childless::force);
  options.children[0].esp_proposal = "aes256gcm16-x25519";
  Ladder ladder(options);
  ladder.initiate(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a --> b  IKE_AUTH request");
  CHECK(ladder.gateway(kB).data_plane.sas.empty());
  ladder("b --> a  IKE_AUTH response");
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder.silent();
  ladder.converged();
  CHECK(ladder.ike_sa(kA).children.front().pfs_group == "x25519");
}

TEST_CASE("childless: a peer that cannot gets a first child, unless we insist") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.childless = GENERATE(Childless::prefer, Childless::force);
  b.childless = Childless::never;
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  if (a.childless == Childless::prefer) {
    ladder.converged();
  } else {
    CHECK(ladder.connection(kA).last_failure == Failure::no_additional_sas);
  }
}

/// The header of an IKEv1 message that begins a negotiation in main mode (RFC 2408 §3.1), or
/// another.
Flying version_1(std::uint8_t exchange, std::uint64_t responder_cookie = 0) {
  std::vector<std::uint8_t> bytes(40);
  wire::Writer writer(bytes);
  writer.u64(0x1122334455667788);
  writer.u64(responder_cookie);
  writer.u8(1);
  writer.u8(0x10);
  writer.u8(exchange);
  writer.u8(0);
  writer.u32(0);
  writer.u32(40);
  return {kA,
          {*wire::IpAddress::parse("192.0.2.1"), 500},
          {*wire::IpAddress::parse("192.0.2.2"), 500},
          std::move(bytes),
          {}};
}

TEST_CASE("version 1: who offers IKEv1 is told so once, and the operator what it is (RFC 9395)") {
  const std::uint8_t mode = GENERATE(std::uint8_t{2}, std::uint8_t{4});
  Ladder ladder;
  ladder.world.deliver(version_1(mode));
  REQUIRE(ladder.wire.size() == 1);
  const auto& answer = ladder.wire.front().bytes;
  REQUIRE(answer.size() == 40);
  CHECK(answer[17] == 0x10);
  CHECK(answer[18] == 5);                       // Informational
  CHECK(answer[16] == 11);                      // Notification
  CHECK((answer[38] == 0 && answer[39] == 5));  // INVALID-MAJOR-VERSION
  CHECK(std::equal(answer.begin(), answer.begin() + 8, version_1(mode).bytes.begin()));
  CHECK(ladder.connection(kB).last_failure == Failure::unsupported_version);
  CHECK(ladder.connection(kB).last_failure_detail.find("IKEv1") != std::string::npos);
  ladder.wire.clear();
  ladder.world.deliver(version_1(mode));
  ladder.silent();
  ladder.pass(seconds(61));
  ladder.world.deliver(version_1(mode));
  CHECK(ladder.wire.size() == 1);
}

TEST_CASE("version 1: what is no beginning is never answered: refusals do not answer each other") {
  Ladder ladder;
  ladder.world.deliver(version_1(5));
  ladder.world.deliver(version_1(32));
  ladder.world.deliver(version_1(2, 77));
  ladder.silent();
}

}  // namespace
}  // namespace culvert::ladder
