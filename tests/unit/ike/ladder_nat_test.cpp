// Two peers behind one NAT, and the gateway they dial, which knows neither's address.
#include <deque>

#include "tests/simulator/nat.hpp"
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

constexpr int kHub = 0, kLeft = 1, kRight = 2;

GatewayOptions dials_hub(const std::string& address, const std::string& id,
                         const std::string& child) {
  GatewayOptions options = gateway_a();
  options.name = "to-" + child;
  options.address = address;
  options.id = id;
  options.children.front().name = child;
  options.children.front().local_ts = child == "left" ? "10.1.0.0/24" : "10.3.0.0/24";
  return options;
}
GatewayOptions left() { return dials_hub("10.99.0.1", "left.example.org", "left"); }
GatewayOptions right() { return dials_hub("10.99.0.2", "right.example.org", "right"); }
GatewayOptions expected_by_hub(const GatewayOptions& peer) {
  GatewayOptions options = mirrored(peer);
  options.remote_address.clear();  // %any
  return options;
}

/// A NAT, and a wire that delivers in order.
class BehindOneNat {
 public:
  BehindOneNat()
      : world({{expected_by_hub(left()), expected_by_hub(right())}, {left()}, {right()}}, 1,
              without_linger()) {
    world.send = [this](Flying datagram) {
      if (nat_.translate(datagram, datagram.from != kHub)) wire_.push_back(std::move(datagram));
    };
  }

  void up(int side, const std::string& child) {
    world.command(side, CommandVerb::initiate, child);
    run();
  }
  void run() {
    for (int i = 0; i < 500 && !wire_.empty(); ++i) {
      const Flying datagram = wire_.front();
      wire_.pop_front();
      world.deliver(datagram);
    }
    REQUIRE(wire_.empty());
  }
  void pass(seconds span) {
    for (seconds gone{0}; gone < span; gone += seconds(1)) {
      world.run_timers(world.now + seconds(1));
      run();
    }
  }
  /// The NAT restarts: what is sent from here on comes from other ports.
  void forget() { nat_.forget(); }

  [[nodiscard]] const wire::IpAddress& outside() const { return nat_.outside(); }
  [[nodiscard]] Gateway& gateway(int side) {
    return *world.gateways.at(static_cast<std::size_t>(side));
  }
  [[nodiscard]] ike::IkeSaStatus ike_sa(int side, const std::string& connection) {
    for (const auto& status : gateway(side).machine->ike_sas(world.now)) {
      if (status.connection == connection) return status;
    }
    FAIL("no IKE SA of " << connection);
    return {};
  }
  [[nodiscard]] bool has_ike_sa(int side, const std::string& connection) {
    return std::ranges::any_of(gateway(side).machine->ike_sas(world.now),
                               [&](const auto& status) { return status.connection == connection; });
  }
  /// Where the hub sends this child's ESP.
  [[nodiscard]] wire::Endpoint esp_to(const std::string& connection) {
    const auto outbound = ike_sa(kHub, connection).children.at(0).outbound_sa;
    return gateway(kHub).data_plane.find(outbound)->sa.remote;
  }

  simulation::World world;

 private:
  simulation::Nat nat_;
  std::deque<Flying> wire_;
};

TEST_CASE("NAT: two peers behind one address each have their tunnel (RFC 7296 §2.23)") {
  BehindOneNat net;
  net.up(kLeft, "left");
  net.up(kRight, "right");
  for (const auto& [side, connection] :
       {std::pair(kLeft, "to-left"), std::pair(kRight, "to-right")}) {
    INFO(connection);
    const auto here = net.ike_sa(side, connection), there = net.ike_sa(kHub, connection);
    CHECK(here.nat_local);
    CHECK_FALSE(here.nat_remote);
    CHECK(there.nat_remote);
    CHECK(there.remote.address == net.outside());
    CHECK(here.local.port == 4500);
    CHECK(there.remote_id == std::string(connection).substr(3) + ".example.org");
    REQUIRE(here.children.size() == 1);
    REQUIRE(there.children.size() == 1);
    CHECK(here.children[0].outbound == there.children[0].inbound);
    CHECK(here.children[0].inbound == there.children[0].outbound);
    // RFC 3948: ESP goes where IKE comes from.
    CHECK(net.esp_to(connection) == there.remote);
  }
  CHECK(net.esp_to("to-left") != net.esp_to("to-right"));
}

TEST_CASE("NAT: the one behind it keeps the mapping alive (RFC 3948 §4)") {
  BehindOneNat net;
  net.up(kLeft, "left");
  net.pass(seconds(105));
  CHECK(net.gateway(kLeft).keepalives == 5);  // one in 20 s: nothing else is sent
  CHECK(net.gateway(kHub).keepalives == 0);
}

TEST_CASE("NAT: of two peers behind it one is heard from another port, and is followed alone") {
  BehindOneNat net;
  net.up(kLeft, "left");
  net.up(kRight, "right");
  const auto left_before = net.esp_to("to-left"), right_before = net.esp_to("to-right");
  net.forget();
  // Only what is authentic moves a peer: its request for a rekey is.
  net.world.command(kLeft, CommandVerb::rekey_child, "left");
  net.run();
  net.pass(seconds(6));
  CHECK(net.esp_to("to-left") != left_before);
  CHECK(net.esp_to("to-left") == net.ike_sa(kHub, "to-left").remote);
  CHECK(net.esp_to("to-left").address == net.outside());
  CHECK(net.esp_to("to-right") == right_before);
  CHECK(net.ike_sa(kLeft, "to-left").children.size() == 1);
}

TEST_CASE("NAT: the data plane restarts during a rekey of ours, and only the peer can begin anew") {
  BehindOneNat net;
  net.up(kLeft, "left");
  net.world.command(kHub, CommandVerb::rekey_child, "left");
  net.world.restart_data_plane(kHub);
  net.run();  // the answer to the rekey, then our Delete
  CHECK_FALSE(net.has_ike_sa(kHub, "to-left"));
  net.up(kLeft, "left");
  CHECK(net.ike_sa(kHub, "to-left").children.size() == 1);
  CHECK(net.world.violations() == std::vector<std::string>{});
}

TEST_CASE("NAT: who is to prove something else now has a minute to come before the old one ends") {
  GatewayOptions changed = left();
  changed.id = "new-left.example.org";
  const bool comes = GENERATE(true, false);
  BehindOneNat net;
  net.up(kLeft, "left");
  net.up(kRight, "right");
  const auto old = net.ike_sa(kHub, "to-left").initiator_spi;
  net.world.reconfigure(kHub, simulation::Site{expected_by_hub(changed), expected_by_hub(right())});
  net.run();
  net.pass(seconds(3));
  CHECK(net.ike_sa(kHub, "to-left").initiator_spi == old);
  CHECK(net.ike_sa(kHub, "to-left").children.size() == 1);
  if (comes) {
    net.world.reconfigure(kLeft, changed);
    net.run();
  }
  net.pass(seconds(50));
  CHECK(net.has_ike_sa(kHub, "to-left"));
  net.pass(seconds(30));
  REQUIRE(net.has_ike_sa(kHub, "to-left") == comes);
  CHECK(net.has_ike_sa(kLeft, "to-left") == comes);
  CHECK(net.has_ike_sa(kHub, "to-right"));
  if (!comes) return;
  CHECK(net.ike_sa(kHub, "to-left").initiator_spi != old);
  CHECK(net.ike_sa(kHub, "to-left").remote_id == "new-left.example.org");
  CHECK(net.gateway(kHub).machine->ike_sas(net.world.now).size() == 2);
  CHECK(net.gateway(kHub).data_plane.sas.size() == 4);
}

/// A peer whose IKE_AUTH stays on port 500 although there is a NAT between.
void on_first_port(Ladder& ladder) {
  for (Flying& datagram : ladder.wire) datagram.local.port = datagram.remote.port = 500;
}
/// Where b's SAs have their ends.
void esp_is_on_4500(Ladder& ladder) {
  REQUIRE(ladder.gateway(kB).data_plane.sas.size() == 2);
  for (const auto& [id, installed] : ladder.gateway(kB).data_plane.sas) {
    CHECK(installed.sa.udp_encapsulation);
    CHECK(installed.sa.local.port == 4500);
    CHECK(installed.sa.remote.port == 4500);
  }
}

TEST_CASE("NAT: ESP in UDP is on port 4500, whatever port the peer has IKE on (RFC 7296 §2.23)") {
  GatewayOptions a = gateway_a();
  a.encapsulation = config::Encapsulation::forced;
  a.mobike = config::Mobike::no;
  Ladder ladder(a, mirrored(gateway_a()));
  ladder.initiate(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  on_first_port(ladder);
  ladder("a --> b  IKE_AUTH request");
  REQUIRE(ladder.wire.size() == 1);
  CHECK(ladder.wire[0].local.port == 500);  // where it asked
  ladder("b --> a  IKE_AUTH response");
  esp_is_on_4500(ladder);
  // Nor does a later message from there move it.
  ladder.rekey(kA);
  ladder("a --> b  CREATE_CHILD_SA request");
  ladder("b --> a  CREATE_CHILD_SA response");
  on_first_port(ladder);
  ladder("a --> b  INFORMATIONAL request");
  ladder("b --> a  INFORMATIONAL response");
  ladder.pass(seconds(10));
  ladder.run();
  esp_is_on_4500(ladder);
}

TEST_CASE("NAT: what it has for the peer's port 500 gets no ESP, nor IKE once ESP has come") {
  GatewayOptions a = gateway_a();
  a.encapsulation = config::Encapsulation::forced;
  a.mobike = config::Mobike::no;
  Ladder ladder(a, mirrored(gateway_a()));
  ladder.initiate(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  REQUIRE(ladder.wire.size() == 1);
  ladder.wire[0].local.port = 61000;
  ladder.wire[0].remote.port = 500;
  ladder("a --> b  IKE_AUTH request");
  ladder("b --> a  IKE_AUTH response");
  esp_is_on_4500(ladder);

  channel::Event event;
  event.type = channel::EventType::peer_moved;
  event.body.peer_moved.sa = ladder.ike_sa(kB).children.at(0).inbound_sa;
  event.body.peer_moved.seen = {ladder.ike_sa(kB).remote.address, 62000};
  ladder.world.event(kB, event);
  for (const auto& [id, installed] : ladder.gateway(kB).data_plane.sas) {
    CHECK(installed.sa.local.port == 4500);
    CHECK(installed.sa.remote.port == 62000);
  }
  ladder.rekey(kB);
  REQUIRE(ladder.wire.size() == 1);
  CHECK(ladder.wire[0].local.port == 4500);
  CHECK(ladder.wire[0].remote.port == 62000);
  ladder.run();
}

}  // namespace
}  // namespace culvert::ladder
