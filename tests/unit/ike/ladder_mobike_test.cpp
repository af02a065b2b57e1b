// MOBIKE (RFC 4555): what is agreed upon, a path that dies, and the check that somebody is there.
#include <functional>

#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

using config::Mobike;

GatewayOptions mobile() {
  GatewayOptions options = gateway_a();
  options.mobike = Mobike::yes;
  options.other_addresses = {"192.0.2.9"};
  return options;
}
/// Delivers what does not touch a dead address, until the wire is silent.
void run_without(Ladder& ladder, const std::string& dead) {
  const auto address = *wire::IpAddress::parse(dead);
  while (!ladder.wire.empty()) {
    const Flying datagram = ladder.wire.front();
    ladder.wire.erase(ladder.wire.begin());
    if (datagram.local.address == address || datagram.remote.address == address) continue;
    ladder.world.deliver(datagram);
  }
}
/// Where the SAs of one side send and receive, apart from ports.
std::set<std::string> ends_of(Ladder& ladder, int side) {
  std::set<std::string> ends;
  for (const auto& [id, sa] : ladder.gateway(side).data_plane.sas) {
    ends.insert(sa.sa.local.address.to_string() + " " + sa.sa.remote.address.to_string());
  }
  return ends;
}

TEST_CASE("mobike: both must want it, and IKE moves to port 4500 (RFC 4555 §3.3)") {
  const auto [ours, theirs, agreed] = GENERATE(std::tuple{Mobike::yes, Mobike::accept, true},
                                               std::tuple{Mobike::yes, Mobike::no, false},
                                               std::tuple{Mobike::accept, Mobike::accept, false},
                                               std::tuple{Mobike::no, Mobike::yes, false});
  GatewayOptions a = gateway_a(), b = mirrored(a);
  a.mobike = ours;
  b.mobike = theirs;
  Ladder ladder(a, b);
  ladder.connect();
  CHECK(ladder.ike_sa(kA).mobike == agreed);
  CHECK(ladder.ike_sa(kB).mobike == agreed);
  CHECK(ladder.ike_sa(kA).local.port == (ours == Mobike::yes ? 4500 : 500));
  // There is no NAT: ESP goes without UDP all the same.
  CHECK_FALSE(ladder.ike_sa(kA).children.front().udp_encapsulation);
}

TEST_CASE("mobike: a path that dies is left for one that answers (RFC 4555 §3.5, §3.10)") {
  const bool rekeyed_before = GENERATE(false, true);
  GatewayOptions b = mirrored(gateway_a());
  Ladder ladder(mobile(), b);
  ladder.connect();
  if (rekeyed_before) {
    // Whoever rekeys the IKE SA: the initiator of the first one decides on addresses.
    ladder.rekey_ike(kB);
    ladder.run();
    ladder.pass(seconds(2));
    ladder.run();
  }
  const auto child = ladder.ike_sa(kA).children.front().inbound;
  ladder.world.command(kA, CommandVerb::rekey_ike, "branch");
  for (int i = 0; i < 80; ++i) {
    run_without(ladder, "192.0.2.1");
    ladder.pass(milliseconds(250));
  }
  run_without(ladder, "192.0.2.1");
  CHECK(ends_of(ladder, kA) == std::set<std::string>{"192.0.2.9 192.0.2.2"});
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.2 192.0.2.9"});
  CHECK(ladder.ike_sa(kA).local.address.to_string() == "192.0.2.9");
  CHECK(ladder.ike_sa(kB).remote.address.to_string() == "192.0.2.9");
  CHECK(ladder.ike_sa(kA).children.front().inbound == child);
  CHECK(ladder.reported(kA, "path_changed") == 1);
  ladder.converged();
}

TEST_CASE("mobike: traffic follows only when the peer was heard at its new address (§3.7)") {
  Ladder ladder(mobile(), mirrored(gateway_a()));
  ladder.connect();
  ladder.world.command(kA, CommandVerb::rekey_ike, "branch");
  // Given b heard of the move, but its own question at the new address is never answered
  bool asked = false;
  for (int i = 0; i < 80 && !asked; ++i) {
    std::vector<Flying> now = std::move(ladder.wire);
    ladder.wire.clear();
    for (const Flying& datagram : now) {
      const auto header = simulation::header_of(datagram);
      const bool dead = datagram.local.address.to_string() == "192.0.2.1" ||
                        datagram.remote.address.to_string() == "192.0.2.1";
      if (dead) continue;
      if (datagram.from == kB && !header.response &&
          header.exchange == wire::ike::ExchangeType::informational) {
        asked = true;
        continue;
      }
      ladder.world.deliver(datagram);
    }
    ladder.pass(milliseconds(250));
  }
  // Then its ESP still goes where it went
  REQUIRE(asked);
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.2 192.0.2.1"});
  // until the question gets through
  for (int i = 0; i < 40; ++i) {
    run_without(ladder, "192.0.2.1");
    ladder.pass(milliseconds(250));
  }
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.2 192.0.2.9"});
}

TEST_CASE("mobike: an address that another configuration takes away is left at once (§3.5)") {
  GatewayOptions options = mobile();
  options.names_address = false;
  Ladder ladder(options, mirrored(gateway_a()));
  ladder.connect();
  const auto before = ladder.ike_sa(kA);
  GatewayOptions moved = options;
  moved.address = "192.0.2.9";
  moved.other_addresses = {};
  ladder.world.reconfigure(kA, moved);
  // Nobody waits for a peer that does not answer: no time passes.
  run_without(ladder, "192.0.2.1");
  CHECK(ends_of(ladder, kA) == std::set<std::string>{"192.0.2.9 192.0.2.2"});
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.2 192.0.2.9"});
  CHECK(ladder.ike_sa(kA).initiator_spi == before.initiator_spi);
  CHECK(ladder.ike_sa(kA).children.front().inbound == before.children.front().inbound);
  CHECK(ladder.reported(kA, "address_lost") == 1);
  ladder.converged();
}

TEST_CASE("mobike: who follows says where it is when its address is taken away (§3.6)") {
  const bool has_others = GENERATE(false, true);
  GatewayOptions a = gateway_a();
  a.mobike = Mobike::yes;
  GatewayOptions b = mirrored(gateway_a());
  b.names_address = false;
  b.other_addresses = {"192.0.2.8"};
  Ladder ladder(a, b);
  ladder.connect();
  const auto before = ladder.ike_sa(kB);
  GatewayOptions moved = b;
  moved.address = "192.0.2.8";
  moved.other_addresses = {};
  if (has_others) moved.other_addresses = {"192.0.2.7"};
  ladder.world.reconfigure(kB, moved);
  run_without(ladder, "192.0.2.2");
  CHECK(ends_of(ladder, kA) == std::set<std::string>{"192.0.2.1 192.0.2.8"});
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.8 192.0.2.1"});
  CHECK(ladder.ike_sa(kB).initiator_spi == before.initiator_spi);
  CHECK(ladder.ike_sa(kB).children.front().inbound == before.children.front().inbound);
  CHECK(ladder.reported(kA, "path_changed") == 1);
  ladder.converged();
}

/// Delivers what `holds` does not keep back, until the wire is silent.
void run_but(Ladder& ladder, const std::function<bool(const Flying&)>& holds,
             std::vector<Flying>* held = nullptr) {
  while (!ladder.wire.empty()) {
    const Flying datagram = ladder.wire.front();
    ladder.wire.erase(ladder.wire.begin());
    if (!holds(datagram)) {
      ladder.world.deliver(datagram);
    } else if (held != nullptr) {
      held->push_back(datagram);
    }
  }
}
bool touches(const Flying& datagram, const std::string& address) {
  return datagram.local.address.to_string() == address ||
         datagram.remote.address.to_string() == address;
}
bool asks(const Flying& datagram, int side) {
  const auto header = simulation::header_of(datagram);
  return datagram.from == side && !header.response &&
         header.exchange == wire::ike::ExchangeType::informational;
}
/// A gateway that is b of `mobile`, at 192.0.2.8 too, and what it is without 192.0.2.2.
GatewayOptions following() {
  GatewayOptions b = mirrored(gateway_a());
  b.names_address = false;
  b.other_addresses = {"192.0.2.8"};
  return b;
}
GatewayOptions fixed() {
  GatewayOptions a = gateway_a();
  a.mobike = Mobike::yes;
  return a;
}

TEST_CASE("mobike: a child made before the check goes where the peer was last heard (§3.7)") {
  GatewayOptions options = mobile();
  options.names_address = false;
  Ladder ladder(options, mirrored(gateway_a()));
  ladder.connect();
  // Given b has heard of the move, and its question is still on its way
  ladder.world.reconfigure(kA, moved_to(options, "192.0.2.9"));
  std::vector<Flying> questions;
  const auto holds = [](const Flying& one) { return touches(one, "192.0.2.1") || asks(one, kB); };
  run_but(ladder, holds, &questions);
  REQUIRE(ladder.ike_sa(kB).remote.address.to_string() == "192.0.2.9");
  // When a child is rekeyed
  ladder.rekey(kA);
  run_but(ladder, holds, &questions);
  REQUIRE(ladder.reported(kB, "child_rekeyed") == 1);
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.2 192.0.2.1"});
  // Then it follows with the others when a has answered from there
  for (const Flying& question : questions) {
    if (!touches(question, "192.0.2.1")) ladder.world.deliver(question);
  }
  run_without(ladder, "192.0.2.1");
  ladder.pass(seconds(6));  // what was rekeyed is gone
  run_without(ladder, "192.0.2.1");
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.2 192.0.2.9"});
}

TEST_CASE("mobike: who decides follows a source address when COOKIE2 comes back from it (§3.7)") {
  const GatewayOptions b = following();
  Ladder ladder(fixed(), b);
  ladder.connect();
  ladder.world.reconfigure(kB, moved_to(b, "192.0.2.8"));
  // b's word has come from its new address, or from one that somebody on the way wrote there
  std::vector<Flying> questions;
  const auto holds = [](const Flying& one) { return touches(one, "192.0.2.2") || asks(one, kA); };
  run_but(ladder, holds, &questions);
  REQUIRE(ladder.ike_sa(kA).remote.address.to_string() == "192.0.2.8");
  CHECK(ends_of(ladder, kA) == std::set<std::string>{"192.0.2.1 192.0.2.2"});
  REQUIRE(questions.size() == 1);
  ladder.world.deliver(questions.front());
  run_without(ladder, "192.0.2.2");
  CHECK(ends_of(ladder, kA) == std::set<std::string>{"192.0.2.1 192.0.2.8"});
  ladder.converged();
}

/// A router gives what b sends its old address: to a it is where it was, and ESP would be lost.
void pass_router(Ladder& ladder, int for_seconds, const std::string& there = "192.0.2.8") {
  for (int i = 0; i < for_seconds; ++i) {
    while (!ladder.wire.empty()) {
      Flying datagram = ladder.wire.front();
      ladder.wire.erase(ladder.wire.begin());
      if (datagram.from == kB) datagram.local.address = *wire::IpAddress::parse("192.0.2.2");
      if (datagram.from == kA) datagram.remote.address = *wire::IpAddress::parse(there);
      ladder.world.deliver(datagram);
    }
    ladder.pass(seconds(1));
  }
}

TEST_CASE(
    "mobike: a peer that hears of a lost address and does not move gets a new IKE SA (§3.6)") {
  const bool is_killed = GENERATE(false, true);
  const bool knows_peer = GENERATE(false, true);
  GatewayOptions b = following();
  if (!knows_peer) b.remote_address = "";
  Ladder ladder(fixed(), b);
  ladder.connect();
  const auto before = ladder.ike_sa(kB);
  ladder.world.reconfigure(kB, moved_to(b, "192.0.2.8"));
  pass_router(ladder, 8);
  // The source address of what we send is ours
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.8 192.0.2.1"});
  if (is_killed) {
    // The peer may have moved meanwhile: it gets the time again
    ladder.world.kill(kB);
    ladder.pass(seconds(20));
    ladder.world.resume(kB);
    pass_router(ladder, 8);
  }
  CHECK(ladder.reported(kB, "negotiation_failed") == 0);
  pass_router(ladder, 4);
  CHECK(ladder.reported(kB, "negotiation_failed") == 1);
  if (!knows_peer) {
    // Only the peer can begin: when it has not by then it hears that this one is over
    pass_router(ladder, 50);
    CHECK(ladder.reported(kA, "ike_sa_deleted") == 0);
    pass_router(ladder, 12);
    CHECK(ladder.reported(kA, "ike_sa_deleted") == 1);
    return;
  }
  pass_router(ladder, 60);
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.8 192.0.2.1"});
  CHECK(ladder.ike_sa(kB).initiator_spi != before.initiator_spi);
  ladder.converged();
}

TEST_CASE("mobike: a peer whose requests come to the new address has moved, without a word") {
  const int after = GENERATE(5, 30);
  GatewayOptions b = following();
  b.remote_address = "";
  Ladder ladder(fixed(), b);
  ladder.connect();
  const auto before = ladder.ike_sa(kB);
  ladder.world.reconfigure(kB, moved_to(b, "192.0.2.8"));
  pass_router(ladder, after);
  ladder.rekey(kA);
  pass_router(ladder, 90);
  CHECK(ladder.ike_sa(kB).initiator_spi == before.initiator_spi);
  CHECK(ladder.reported(kB, "negotiation_failed") == (after > 10 ? 1 : 0));
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.8 192.0.2.1"});
  ladder.converged();
}

TEST_CASE("mobike: a second lost address gives the peer the time anew") {
  const GatewayOptions b = following();
  Ladder ladder(fixed(), b);
  ladder.connect();
  ladder.world.reconfigure(kB, moved_to(b, "192.0.2.8"));
  pass_router(ladder, 8);
  ladder.world.reconfigure(kB, moved_to(b, "192.0.2.7"));
  pass_router(ladder, 8, "192.0.2.7");
  CHECK(ladder.reported(kB, "negotiation_failed") == 0);
  pass_router(ladder, 4, "192.0.2.7");
  CHECK(ladder.reported(kB, "negotiation_failed") == 1);
}

TEST_CASE("mobike: a check on its way when the peer rekeys the IKE SA goes on in its successor") {
  GatewayOptions options = mobile();
  options.names_address = false;
  Ladder ladder(options, mirrored(gateway_a()));
  ladder.connect();
  ladder.world.reconfigure(kA, moved_to(options, "192.0.2.9"));
  // Given b's question is lost with the old IKE SA
  run_but(ladder, [](const Flying& one) { return touches(one, "192.0.2.1") || asks(one, kB); });
  ladder.rekey_ike(kA);
  run_but(ladder, [](const Flying& one) { return asks(one, kB); });
  ladder.settle();
  CHECK(ends_of(ladder, kB) == std::set<std::string>{"192.0.2.2 192.0.2.9"});
  ladder.converged();
}

TEST_CASE("mobike: what a peer has not heard of a lost address its next IKE SA says (§3.6)") {
  const GatewayOptions b = following();
  Ladder ladder(fixed(), b);
  ladder.connect();
  ladder.rekey_ike(kA);
  ladder.world.reconfigure(kB, moved_to(b, "192.0.2.8"));
  run_but(ladder, [](const Flying& one) { return asks(one, kB); });
  ladder.settle();
  CHECK(ends_of(ladder, kA) == std::set<std::string>{"192.0.2.1 192.0.2.8"});
  CHECK(ladder.reported(kB, "negotiation_failed") == 0);
  ladder.converged();
}

TEST_CASE("mobike: one that moves in time keeps its IKE SA") {
  const GatewayOptions b = following();
  Ladder ladder(fixed(), b);
  ladder.connect();
  const auto before = ladder.ike_sa(kB);
  ladder.world.reconfigure(kB, moved_to(b, "192.0.2.8"));
  for (int i = 0; i < 30; ++i) {
    run_without(ladder, "192.0.2.2");
    ladder.pass(seconds(1));
  }
  CHECK(ladder.ike_sa(kB).initiator_spi == before.initiator_spi);
  CHECK(ladder.reported(kB, "reauthenticating") == 0);
  ladder.converged();
}

TEST_CASE("mobike: an address that went while the key daemon was away is left after its return") {
  const int killed = GENERATE(kA, kB);
  GatewayOptions a = fixed();
  a.names_address = killed == kB;
  const GatewayOptions b = killed == kB ? following() : mirrored(gateway_a());
  Ladder ladder(a, b);
  ladder.connect();
  const auto before = ladder.ike_sa(killed);
  const std::string was = killed == kA ? "192.0.2.1" : "192.0.2.2";
  const std::string now = killed == kA ? "192.0.2.9" : "192.0.2.8";
  ladder.world.kill(killed);
  ladder.gateway(killed).take_addresses(moved_to(killed == kA ? a : b, now));
  ladder.world.resume(killed);
  run_without(ladder, was);
  const std::string peer = killed == kA ? "192.0.2.2" : "192.0.2.1";
  CHECK(ends_of(ladder, killed) == std::set<std::string>{now + " " + peer});
  CHECK(ends_of(ladder, 1 - killed) == std::set<std::string>{peer + " " + now});
  CHECK(ladder.ike_sa(killed).initiator_spi == before.initiator_spi);
  CHECK(ladder.reported(killed, "address_lost") == 1);
  ladder.converged();
}

TEST_CASE("mobike: an address that the data plane still has is left when it is gone there") {
  const int early = GENERATE(kA, kB);
  const bool is_restart = GENERATE(true, false);
  GatewayOptions a = fixed();
  a.names_address = early == kB;
  const GatewayOptions b = early == kB ? following() : mirrored(gateway_a());
  Ladder ladder(a, b);
  ladder.connect();
  const auto before = ends_of(ladder, early);
  const std::string was = early == kA ? "192.0.2.1" : "192.0.2.2";
  const std::string now = early == kA ? "192.0.2.9" : "192.0.2.8";
  const GatewayOptions edited = moved_to(early == kA ? a : b, now);
  auto& gone = ladder.gateway(early).data_plane.gone_addresses;
  // The file was written, and the key daemon alone has read it.
  ladder.expect_no_loss();
  if (is_restart) {
    ladder.world.kill(early);
    ladder.gateway(early).take_addresses(edited);
    gone.clear();
    ladder.world.resume(early);
  } else {
    ladder.world.reconfigure(early, edited, true);
  }
  ladder.settle(25);
  CHECK(ends_of(ladder, early) == before);
  CHECK(ladder.reported(early, "address_lost") == 0);
  CHECK(ladder.reported(early, "address_kept") == 1);
  if (GENERATE(false, true)) {
    ladder.rekey_ike(early);  // what it is asked by is another one
    ladder.settle(5);
  }
  gone.insert(*wire::IpAddress::parse(was));
  ladder.pass(seconds(10));
  run_without(ladder, was);
  ladder.settle(5);
  CHECK(ladder.reported(early, "address_lost") == 1);
  CHECK(ladder.reported(early, "address_kept") == 1);
  const std::string peer = early == kA ? "192.0.2.2" : "192.0.2.1";
  CHECK(ends_of(ladder, early) == std::set<std::string>{now + " " + peer});
  CHECK(ends_of(ladder, 1 - early) == std::set<std::string>{peer + " " + now});
  ladder.converged();
}

TEST_CASE("mobike: an address that stays is not left when others come and go") {
  GatewayOptions options = mobile();
  options.names_address = false;
  Ladder ladder(options, mirrored(gateway_a()));
  ladder.connect();
  SECTION("on another interface than the one that leads to the peer") {
    options.address_elsewhere = options.address;
    options.address = "192.0.2.12";
  }
  options.other_addresses = {"192.0.2.10", "192.0.2.11"};
  ladder.world.reconfigure(kA, options);
  ladder.silent();
}

}  // namespace
}  // namespace culvert::ladder
