// IKE_SA_INIT and IKE_AUTH: both roles, every suite, retries, cookies, lost and doubled messages.
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

TEST_CASE("handshake: four messages give an IKE SA and a child at both ends (RFC 7296 §1.2)") {
  Ladder ladder;
  const auto command = ladder.initiate(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a --> b  IKE_AUTH request");
  // The responder has its SAs before the initiator hears of them.
  CHECK(ladder.gateway(kB).data_plane.sas.size() == 2);
  CHECK(ladder.outcome(kA, command) == nullptr);
  ladder("b --> a  IKE_AUTH response");
  ladder.silent();
  ladder.converged();
  REQUIRE(ladder.outcome(kA, command) != nullptr);
  CHECK(ladder.outcome(kA, command)->ok);
  CHECK(ladder.ike_sa(kA).initiator);
  CHECK_FALSE(ladder.ike_sa(kB).initiator);
  CHECK(ladder.ike_sa(kB).remote_id == "a.example.org");
  CHECK(ladder.reported(kA, "ike_sa_established") == 1);
  CHECK(ladder.reported(kB, "child_established") == 1);
}

TEST_CASE("handshake: the other side initiates") {
  Ladder ladder;
  ladder.initiate(kB);
  ladder("b --> a  IKE_SA_INIT request");
  ladder("a --> b  IKE_SA_INIT response");
  ladder("b --> a  IKE_AUTH request");
  ladder("a --> b  IKE_AUTH response");
  ladder.converged();
}

TEST_CASE("handshake: every suite and group of the IKE SA") {
  const auto proposal = GENERATE(
      "aes128gcm16-prfsha256-x25519", "aes192gcm16-prfsha384-ecp384",
      "aes256gcm16-prfsha512-ecp521", "aes128-sha256-ecp256", "aes256-sha384-modp2048",
      "aes256-sha512-modp3072", "aes128gcm16-prfsha256-modp4096", "aes256gcm16-prfsha512-x448",
      "aes256gcm16-prfsha512-modp6144", "aes256gcm16-prfsha512-modp8192");
  INFO(proposal);
  GatewayOptions options = gateway_a();
  options.ike_proposal = proposal;
  Ladder ladder(options);
  ladder.connect();
  ladder.rekey_ike(kA);
  ladder.run();
  ladder.pass(seconds(40));
  ladder.run();
  ladder.converged();
}

TEST_CASE("handshake: every ESP suite, with and without extended sequence numbers") {
  const auto proposal =
      GENERATE("aes128gcm16", "aes192gcm16", "aes256gcm16", "aes256gcm16-noesn", "aes256gcm16-esn",
               "chacha20poly1305", "aes128ccm16", "aes256ccm8", "aes128gmac", "aes192gmac",
               "aes128-sha256", "aes192-sha384-noesn", "aes256-sha512-esn", "aes128-sha1",
               "aes128ctr-sha256", "aes256ctr-sha1", "null-sha256", "null-sha512-noesn");
  INFO(proposal);
  GatewayOptions options = gateway_a();
  options.children[0].esp_proposal = proposal;
  Ladder ladder(options);
  ladder.connect();
  ladder.converged();
  const bool esn = std::string(proposal).find("noesn") == std::string::npos;
  CHECK(ladder.ike_sa(kA).children.front().esn == esn);
}

TEST_CASE("handshake: key length goes with ciphers that have several (RFC 7296 §3.3.5)") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.children[0].esp_proposal = "aes256-sha256";
  b.children[0].esp_proposal = "aes128-sha256";
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::no_child_proposal_chosen);
}

TEST_CASE("handshake: ESN only on one side and none on the other have nothing in common") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.children[0].esp_proposal = "aes256gcm16-esn";
  b.children[0].esp_proposal = "aes256gcm16-noesn";
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::no_child_proposal_chosen);
}

TEST_CASE("handshake: INVALID_KE_PAYLOAD names the group, the second try has it (RFC 7296 §1.2)") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.ike_proposal = "aes256gcm16-prfsha256-x25519-ecp384";
  b.ike_proposal = "aes256gcm16-prfsha256-ecp384";
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");  // INVALID_KE_PAYLOAD
  CHECK(ladder.gateway(kB).machine->counters().half_open == 0);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a --> b  IKE_AUTH request");
  ladder("b --> a  IKE_AUTH response");
  ladder.converged();
  CHECK(ladder.ike_sa(kA).suite.group == crypto::Group::ecp384);
}

TEST_CASE(
    "handshake: a busy responder asks for a cookie first and keeps no state (RFC 7296 §2.6)") {
  ike::Tuning tuning;
  tuning.half_open_cookie_threshold = 0;
  Ladder ladder(gateway_a(), mirrored(gateway_a()), tuning);
  ladder.initiate(kA);
  ladder("a --> b  IKE_SA_INIT request");
  CHECK(ladder.gateway(kB).machine->counters().cookies_sent == 1);
  CHECK(ladder.gateway(kB).machine->counters().half_open == 0);
  ladder("b --> a  IKE_SA_INIT response");  // COOKIE
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a --> b  IKE_AUTH request");
  ladder("b --> a  IKE_AUTH response");
  ladder.converged();
}

TEST_CASE("handshake: each message may be lost once; retransmission mends it (RFC 7296 §2.1)") {
  const int lost = GENERATE(0, 1, 2, 3);
  static constexpr std::array kArrows{"a --> b  IKE_SA_INIT request",
                                      "b --> a  IKE_SA_INIT response", "a --> b  IKE_AUTH request",
                                      "b --> a  IKE_AUTH response"};
  Ladder ladder;
  ladder.initiate(kA);
  for (int i = 0; i < 4; ++i) {
    const std::string arrow = kArrows.at(static_cast<std::size_t>(i));
    if (i == lost) {
      std::string gone = arrow;
      gone.replace(2, 3, "--x");
      ladder(gone);
      ladder.pass(milliseconds(600));
      // A lost answer is drawn out of the responder again by its request.
      if (i % 2 == 1) ladder(kArrows.at(static_cast<std::size_t>(i - 1)));
    }
    ladder(arrow);
  }
  ladder.silent();
  ladder.converged();
}

TEST_CASE("handshake: doubled messages change nothing and get the same answer") {
  Ladder ladder;
  ladder.initiate(kA);
  ladder("a ==> b  IKE_SA_INIT request");
  ladder("a --> b  IKE_SA_INIT request");
  REQUIRE(ladder.wire.size() == 2);
  CHECK(ladder.wire[0].bytes == ladder.wire[1].bytes);
  ladder("b --> a  IKE_SA_INIT response");
  ladder("b --> a  IKE_SA_INIT response");
  ladder("a ==> b  IKE_AUTH request");
  ladder("a --> b  IKE_AUTH request");
  REQUIRE(ladder.wire.size() == 2);
  CHECK(ladder.wire[0].bytes == ladder.wire[1].bytes);
  ladder("b --> a  IKE_AUTH response");
  ladder("b --> a  IKE_AUTH response");
  ladder.converged();
}

TEST_CASE("handshake: an unanswered initiation backs off and is tried for ever") {
  GatewayOptions a = gateway_a();
  a.children[0].start_action = StartAction::start;
  Ladder ladder(a, mirrored(gateway_a()));
  ladder.world.start(kA);
  ladder.pass(seconds(60));
  CHECK(ladder.connection(kA).last_failure == Failure::peer_unreachable);
  CHECK(ladder.connection(kA).last_failure_detail.find("192.0.2.2:500") != std::string::npos);
  ladder.wire.clear();
  ladder.pass(seconds(600));
  CHECK(ladder.wire.size() > 6);
  ladder.wire.clear();
  for (int i = 0; i < 100 && !ladder.world.why_not_usable(0).empty(); ++i) {
    ladder.pass(seconds(1));
    ladder.run();
  }
  CHECK(ladder.world.why_not_usable(0) == "");
}

TEST_CASE("handshake: forced encapsulation moves to port 4500 and ESP into UDP (RFC 7296 §2.23)") {
  const int forcing = GENERATE(kA, kB);
  GatewayOptions a = gateway_a(), b = mirrored(a);
  (forcing == kA ? a : b).encapsulation = config::Encapsulation::forced;
  Ladder ladder(a, b);
  ladder.connect();
  for (const int side : {kA, kB}) {
    CHECK(ladder.ike_sa(side).local.port == 4500);
    CHECK(ladder.ike_sa(side).remote.port == 4500);
    CHECK(ladder.ike_sa(side).children.front().udp_encapsulation);
  }
  ladder.rekey(kB);
  ladder.run();
  ladder.pass(seconds(10));
  ladder.converged();
}

TEST_CASE("handshake: transport mode is asked for and confirmed (RFC 7296 §1.3.1)") {
  GatewayOptions a = gateway_a();
  a.children[0].mode = config::Mode::transport;
  a.children[0].local_ts = "192.0.2.1/32";
  a.children[0].remote_ts = "192.0.2.2/32";
  Ladder ladder(a);
  ladder.connect();
  CHECK(ladder.gateway(kA).data_plane.sas.begin()->second.sa.mode == channel::SaMode::transport);
}

TEST_CASE("handshake: the responder narrows to what both have (RFC 7296 §2.9)") {
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.children[0].remote_ts = "10.2.0.0/16";
  Ladder ladder(a, b);
  ladder.connect();
  const auto child = ladder.ike_sa(kA).children.front();
  REQUIRE(child.remote_selectors.size() == 1);
  CHECK(child.remote_selectors.front().to_string() == "10.2.0.0/24");
}

TEST_CASE("handshake: two connections between the same addresses are told apart by identities") {
  const int side = GENERATE(kA, kB);
  GatewayOptions second = gateway_a();
  second.name = "second";
  second.id = "a2.example.org";
  second.remote_id = "b2.example.org";
  second.children.front().name = "lab";
  second.children.front().local_ts = "10.5.0.0/24";
  Ladder ladder;
  ladder.world.reconfigure(kA, simulation::Site{gateway_a(), second});
  ladder.world.reconfigure(kB, simulation::Site{mirrored(gateway_a()), mirrored(second)});
  // The one that stands last in the file goes first: the first match would be the wrong one.
  for (const char* const child : {"lab", "office"}) {
    ladder.initiate(side, child);
    ladder.run();
  }
  for (const std::uint32_t child : {0U, 1U}) CHECK(ladder.world.why_not_usable(child) == "");
  for (const int end : {kA, kB}) {
    const auto standing = ladder.gateway(end).machine->ike_sas(ladder.world.now);
    REQUIRE(standing.size() == 2);
    for (const auto& ike : standing) {
      const bool is_second = ike.connection == "second";
      CHECK(ike.local_id ==
            std::string(end == kA ? "a" : "b") + (is_second ? "2" : "") + ".example.org");
      REQUIRE(ike.children.size() == 1);
      CHECK(ike.children.front().name == (is_second ? "lab" : "office"));
    }
  }
}

TEST_CASE("handshake: a peer is one of many identities; who is expected by name comes first") {
  const GatewayOptions a = gateway_a();
  GatewayOptions anyone = mirrored(a), named = mirrored(a);
  anyone.remote_id = GENERATE("*.example.org", "%any");
  named.name = "named";
  named.remote_id = "a.example.org";
  anyone.remote_address.clear();
  named.remote_address.clear();
  // In either order of the file
  const bool first = GENERATE(true, false);
  const simulation::Site b =
      first ? simulation::Site{anyone, named} : simulation::Site{named, anyone};
  simulation::World world({{a}, b}, 1, without_linger());
  std::vector<Flying> wire;
  world.send = [&wire](Flying datagram) { wire.push_back(std::move(datagram)); };
  const auto run = [&] {
    while (!wire.empty()) {
      const Flying datagram = wire.front();
      wire.erase(wire.begin());
      world.deliver(datagram);
    }
  };
  world.command(kA, CommandVerb::initiate, "office");
  run();
  const auto sas = world.gateways.at(kB)->machine->ike_sas(world.now);
  REQUIRE(sas.size() == 1);
  CHECK(sas.front().connection == "named");
  CHECK(sas.front().remote_id == "a.example.org");
}

TEST_CASE("handshake: an identity outside of what is expected is refused, with both in words") {
  GatewayOptions b = mirrored(gateway_a());
  b.remote_id = GENERATE("*.example.net", "*@example.org", "*.a.example.org");
  Ladder ladder(gateway_a(), b);
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kB).last_failure == Failure::identity_mismatch);
  CHECK(contains(ladder.connection(kB).last_failure_detail, "remote.id " + b.remote_id));
  CHECK(contains(ladder.connection(kB).last_failure_detail, "the peer's: a.example.org"));
}

TEST_CASE("handshake: further children come with CREATE_CHILD_SA on the same IKE SA") {
  GatewayOptions a = gateway_a();
  ChildOptions second = a.children[0];
  second.name = "lab";
  second.local_ts = "10.1.1.0/24";
  second.remote_ts = "10.2.1.0/24";
  second.esp_proposal = "aes256gcm16-ecp256";
  a.children.push_back(second);
  Ladder ladder(a);
  ladder.connect();
  const auto command = ladder.initiate(kB, "lab");
  ladder("b --> a  CREATE_CHILD_SA request");
  ladder("a --> b  CREATE_CHILD_SA response");
  ladder.silent();
  ladder.converged(2);
  CHECK(ladder.outcome(kB, command)->ok);
}

}  // namespace
}  // namespace culvert::ladder
