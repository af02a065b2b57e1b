// IKE SAs made anew or without a child: re-authentication (RFC 7296 §2.8.3), childless IKE SAs (RFC
// 6023); and a peer that speaks IKEv1 (RFC 9395).
#include "tests/unit/ike/operator.hpp"

namespace culvert::ladder {
namespace {

using config::Childless;

/// What the operator reads of a connection whose traffic passes; empty: nothing.
std::string told_while_up(Ladder& ladder, int side) {
  std::string told;
  for (const std::string& line : status_lines(ladder.gateway(side), ladder.world.now)) {
    if (contains(line, "branch is up, but: ")) told += line;
  }
  return told;
}
/// Nothing of what is sent arrives.
void unanswered(Ladder& ladder, int for_seconds) {
  for (int i = 0; i < for_seconds; ++i) {
    ladder.pass(seconds(1));
    ladder.wire.clear();
  }
}

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
  unanswered(ladder, 150);
  CHECK(ladder.reported(kA, "reauthenticating") == 1);
  CHECK(contains(told_while_up(ladder, kA), "peer_unreachable: ours: 192.0.2.1:500"));
  CHECK(ladder.ike_sa(kA).initiator_spi == before);
  for (int i = 0; i < 60; ++i) {
    ladder.pass(seconds(1));
    ladder.run();
  }
  CHECK(ladder.reported(kA, "reauthenticating") == 2);
  CHECK(told_while_up(ladder, kA).empty());
  ladder.converged();
}

TEST_CASE("status: a refused rekey of the IKE SA is told until one succeeds") {
  GatewayOptions other = gateway_a();
  other.ike_proposal = "aes256gcm16-prfsha384-ecp384";
  const bool reloaded = GENERATE(true, false);
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.world.reconfigure(kB, mirrored(other));
  ladder.run();
  ladder.pass(seconds(50));
  for (const int side : {kA, kB}) {
    const std::string told = told_while_up(ladder, side);
    INFO(told);
    CHECK(
        contains(told, "hq: WARNING, 1 of 1 child up: branch is up, but: no_ike_proposal_chosen"));
    CHECK(contains(told, ", 50s ago"));
  }
  if (reloaded) {
    ladder.world.reconfigure(kA, other);
    CHECK(told_while_up(ladder, kA).empty());
    ladder.run();
  } else {
    // The one without the change may still have its own way.
    ladder.world.reconfigure(kB, mirrored(gateway_a()));
    CHECK(told_while_up(ladder, kB).empty());
    CHECK_FALSE(told_while_up(ladder, kA).empty());
    ladder.settle(20);
  }
  CHECK(ladder.reported(kA, "ike_sa_rekeyed") == 1);
  for (const int side : {kA, kB}) CHECK(told_while_up(ladder, side).empty());
}

TEST_CASE("status: who does not prove himself is told of for five minutes, where others are up") {
  GatewayOptions stranger = gateway_a();
  stranger.id = "new-a.example.org";
  Ladder ladder;
  ladder.connect();
  ladder.expect_no_loss();
  ladder.world.reconfigure(kA, stranger);
  ladder.settle(1);
  CHECK(contains(told_while_up(ladder, kA), "authentication_failed_remote"));
  CHECK(contains(told_while_up(ladder, kB), "identity_mismatch"));
  unanswered(ladder, 290);
  CHECK(contains(told_while_up(ladder, kB), "identity_mismatch"));
  unanswered(ladder, 20);
  CHECK(told_while_up(ladder, kB).empty());
  CHECK(ladder.connection(kB).last_failure == Failure::identity_mismatch);
}

TEST_CASE("status: who does not prove himself takes the place of nothing that is known") {
  GatewayOptions other = gateway_a(), stranger = gateway_a();
  other.ike_proposal = "aes256gcm16-prfsha384-ecp384";
  stranger.id = "new-a.example.org";
  stranger.ike_proposal += "," + other.ike_proposal;
  Ladder ladder;
  ladder.connect();
  ladder.world.reconfigure(kB, mirrored(other));
  ladder.run();
  CHECK(contains(told_while_up(ladder, kB), "no_ike_proposal_chosen"));
  ladder.world.reconfigure(kA, stranger);
  ladder.settle(1);
  CHECK(contains(told_while_up(ladder, kA), "authentication_failed_remote"));
  CHECK(contains(told_while_up(ladder, kB), "no_ike_proposal_chosen"));
}

TEST_CASE(
    "reauthentication: a peer that clears away one of two pairs has not taken the child down") {
  GatewayOptions before = gateway_a();
  before.children[0].esp_proposal = "aes256gcm16,aes128gcm16";
  GatewayOptions named = before;
  named.id = "hq.example.org";
  GatewayOptions between = named, last = named;
  between.children[0].esp_proposal = "aes128gcm16";
  last.children[0].esp_proposal = "aes256gcm16-x25519";
  Ladder ladder(before);
  ladder.connect();
  ladder.expect_no_loss();
  ladder.rekey_ike(kB);  // it is the one to delete it
  ladder.run();
  ladder.world.reconfigure(kA, named);
  ladder.pass(milliseconds(1));
  ladder.run();  // b refuses that name: the old IKE SA goes on, and gets the form between
  ladder.world.reconfigure(kA, between);
  ladder.run();
  REQUIRE(ladder.gateway(kA).data_plane.sas.size() == 4);
  // b reads a form that a does not know yet: the new IKE SA has no child.
  ladder.world.reconfigure(kB, mirrored(last));
  ladder.settle(8);
  CHECK(ladder.reported(kB, "ike_sa_redundant") == 1);
  CHECK(ladder.reported(kB, "child_deleted") == 1);
  ladder.world.reconfigure(kA, last);
  ladder.settle(100);
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

TEST_CASE(
    "reauthentication: an old form goes when an IKE SA comes back on which the new one took "
    "over") {
  GatewayOptions a = gateway_a();
  ChildOptions lab = a.children.front();
  lab.name = "lab";
  lab.local_ts = "10.1.1.0/24";
  lab.remote_ts = "10.2.1.0/24";
  a.children.push_back(lab);
  GatewayOptions b = mirrored(a);
  b.reauth_time = seconds(30);
  Ladder ladder(a, b);
  ladder.connect();
  ladder.expect_no_loss();
  const auto before = ladder.ike_sa(kA).initiator_spi;
  while (ladder.wire.empty()) ladder.pass(milliseconds(100));
  ladder("b --> a  IKE_SA_INIT request");
  ladder("a --> b  IKE_SA_INIT response");
  // Both ask for the same child, in words that soon are not a's any more.
  ladder.initiate(kA, "lab");
  ladder.initiate(kB, "lab");
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  IKE_AUTH request");
  ladder("a --x b  IKE_AUTH response");
  REQUIRE(ladder.reported(kA, "ike_sa_redundant") == 1);
  a.children[1].esp_proposal = "aes256gcm16,aes128gcm16";
  ladder.world.reconfigure(kA, a);
  ladder("b --> a  CREATE_CHILD_SA response");
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  REQUIRE(ladder.reported(kB, "child_established") == 3);
  ladder.rekey(kB);  // its next request: a's traffic moves to the new form
  // b forgets the one that it has begun, and has no reason to begin another.
  b.reauth_time = seconds(0);
  b.ike_proposal = "aes256gcm16-prfsha256-x25519,aes128gcm16-prfsha256-x25519";
  ladder.world.reconfigure(kB, b);
  ladder.settle(120);
  CHECK(ladder.reported(kA, "ike_sa_revived") == 1);
  CHECK(ladder.ike_sa(kA).initiator_spi == before);
  ladder.converged(2);
}

}  // namespace
}  // namespace culvert::ladder
