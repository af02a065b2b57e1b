// MOBIKE (RFC 4555): what is agreed upon, a path that dies, and the check that somebody is there.
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
