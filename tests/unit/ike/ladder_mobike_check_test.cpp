// MOBIKE's return routability check (RFC 4555 §3.7) where the answer is wrong, or both move.
#include "tests/unit/ike/keyed_peer.hpp"

namespace culvert::ladder {
namespace {

std::set<std::string> ends_at(Ladder& ladder, int side) {
  std::set<std::string> ends;
  for (const auto& [id, sa] : ladder.gateway(side).data_plane.sas) {
    ends.insert(sa.sa.local.to_string() + " " + sa.sa.remote.to_string());
  }
  return ends;
}
GatewayOptions mover() {
  GatewayOptions a = gateway_a();
  a.mobike = config::Mobike::yes;
  a.names_address = false;
  a.other_addresses = {"192.0.2.9"};
  return a;
}

TEST_CASE("mobike: an IKE SA whose peer returns another COOKIE2 is closed and made anew (§3.7)") {
  const int asker = GENERATE(kA, kB);
  GatewayOptions a = mover();
  GatewayOptions b = mirrored(gateway_a());
  b.remote_address = "";
  Ladder ladder(a, b);
  ladder.connect();
  const auto before = ladder.ike_sa(kB);
  ladder.world.reconfigure(kA, moved_to(a, "192.0.2.9"));
  ladder("a --> b  INFORMATIONAL request");
  if (asker == kB) ladder("b --> a  INFORMATIONAL request");
  ladder.wire.clear();
  ask(ladder, asker, ExchangeType::informational, true, {});
  CHECK(ladder.reported(asker, "negotiation_failed") == 1);
  REQUIRE(ladder.wire.size() == 1);
  ladder.run();
  if (asker == kB) ladder.initiate(kA);  // only a can
  ladder.settle(10);
  CHECK(ladder.ike_sa(kB).initiator_spi != before.initiator_spi);
  ladder.converged();
}

TEST_CASE(
    "mobike: who decides sends from its new address though the peer's is not checked (§3.7)") {
  GatewayOptions b = mirrored(gateway_a());
  b.names_address = false;
  b.other_addresses = {"192.0.2.8"};
  Ladder ladder(mover(), b);
  ladder.connect();
  ladder.world.reconfigure(kB, moved_to(b, "192.0.2.8"));
  ladder("b --> a  INFORMATIONAL request");
  ladder.world.reconfigure(kA, moved_to(mover(), "192.0.2.9"));
  CHECK(ends_at(ladder, kA) == std::set<std::string>{"192.0.2.9:0 192.0.2.2:0"});
  ladder.wire.clear();  // what was sent from 192.0.2.1
  ladder.settle();
  CHECK(ends_at(ladder, kA) == std::set<std::string>{"192.0.2.9:0 192.0.2.8:0"});
}

TEST_CASE("mobike: a NAT that changes its mapping while the peer is asked makes it asked again") {
  GatewayOptions a = mover();
  a.encapsulation = config::Encapsulation::forced;  // looks like a NAT in front of it
  Ladder ladder(a, mirrored(gateway_a()));
  ladder.connect();
  REQUIRE(ends_at(ladder, kB) == std::set<std::string>{"192.0.2.2:4500 192.0.2.1:4500"});
  ladder.world.reconfigure(kA, moved_to(a, "192.0.2.9"));
  ladder("a --> b  INFORMATIONAL request");
  // Given its question is on its way, and ESP comes from yet another port
  channel::Event event;
  event.type = channel::EventType::peer_moved;
  event.body.peer_moved.sa = on_record(ladder, kB).children.front().inbound_sa;
  event.body.peer_moved.seen = {*wire::IpAddress::parse("192.0.2.9"), 1024};
  ladder.world.event(kB, event);
  // Then the answer to it moves nothing
  ladder("b --> a  INFORMATIONAL request");
  ladder("a --> b  INFORMATIONAL response");
  CHECK(ends_at(ladder, kB) == std::set<std::string>{"192.0.2.2:4500 192.0.2.1:4500"});
  ladder("b --> a  INFORMATIONAL request");
  ladder("a --> b  INFORMATIONAL response");
  CHECK(ends_at(ladder, kB) == std::set<std::string>{"192.0.2.2:4500 192.0.2.9:1024"});
}

TEST_CASE(
    "mobike: a child for the peer's own address is rekeyed when the new one is checked (§3.7)") {
  const bool is_for_address = GENERATE(true, false);
  GatewayOptions a = mover();
  GatewayOptions b = mirrored(gateway_a());
  if (is_for_address) a.children[0].local_ts = b.children[0].remote_ts = "";
  b.remote_address = "";
  Ladder ladder(a, b);
  ladder.connect();
  const auto before = ladder.ike_sa(kB).children.front().inbound;
  ladder.world.reconfigure(kA, moved_to(a, "192.0.2.9"));
  ladder("a --> b  INFORMATIONAL request");
  ladder("b --> a  INFORMATIONAL response");
  // Given b's COOKIE2 is on its way
  ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  // Then SAs from the one address to the other are not made, and others are
  CHECK(ladder.gateway(kB).data_plane.sas.size() == (is_for_address ? 2 : 4));
  CHECK(ladder.gateway(kB).machine->counters().child_rekeys_failed == 0);
  CHECK(ladder.reported(kB, "negotiation_failed") == 0);
  // Until it has come back
  ladder.settle();
  REQUIRE(ladder.ike_sa(kB).children.size() == 1);
  CHECK(ladder.ike_sa(kB).children.front().inbound != before);
  CHECK(ends_at(ladder, kB) == std::set<std::string>{"192.0.2.2:0 192.0.2.9:0"});
  if (!is_for_address) return;
  for (const auto& [id, sa] : ladder.gateway(kB).data_plane.sas) {
    CHECK(sa.sa.remote_selectors.items[0].to_string() == "192.0.2.9/32");
  }
}

}  // namespace
}  // namespace culvert::ladder
