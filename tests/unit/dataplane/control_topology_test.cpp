#include <catch2/catch.hpp>

#include "dataplane/control/topology.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control::topology_test {
namespace {

using test::address;
using test::prefix;

Topology topology_of_gateway() {
  config::Dataplane dataplane;
  config::Interface wan;
  wan.name = "wan";
  wan.addresses = {prefix("198.51.100.1/24"), prefix("2001:db8::1/64")};
  config::Interface lan;
  lan.name = "lan";
  lan.addresses = {prefix("10.1.0.1/24"), prefix("10.9.0.1/31")};
  dataplane.interfaces = {wan, lan};
  config::Route everything;
  everything.to = prefix("0.0.0.0/0");
  everything.via = address("198.51.100.254");
  dataplane.routes = {everything};
  return Topology(dataplane);
}

}  // namespace

TEST_CASE("topology: the longest prefix decides the next hop") {
  const Topology topology = topology_of_gateway();
  CHECK(topology.next_hop(address("10.1.0.5")) == NextHop{PortId{1}, address("10.1.0.5")});
  CHECK(topology.next_hop(address("203.0.113.7")) == NextHop{PortId{0}, address("198.51.100.254")});
  CHECK_FALSE(topology.next_hop(address("10.1.0.1")));          // that is us
  CHECK_FALSE(topology.next_hop(address("2001:db8:ffff::1")));  // no IPv6 default
}

TEST_CASE("topology: interfaces are the ports that they were given, wherever they stand") {
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[0].addresses = {prefix("198.51.100.1/24")};
  dataplane.interfaces[1].addresses = {prefix("10.1.0.1/24")};
  config::Route everything;
  everything.to = prefix("0.0.0.0/0");
  everything.via = address("198.51.100.254");
  dataplane.routes = {everything};
  const std::vector ports{PortId{7}, PortId{2}};
  const Topology topology(dataplane, ports);
  CHECK(topology.next_hop(address("10.1.0.5")) == NextHop{PortId{2}, address("10.1.0.5")});
  CHECK(topology.next_hop(address("203.0.113.7")) == NextHop{PortId{7}, address("198.51.100.254")});
  CHECK(topology.is_own_on(PortId{2}, address("10.1.0.1")));
  CHECK_FALSE(topology.is_own_on(PortId{1}, address("10.1.0.1")));
}

TEST_CASE("topology: own addresses, and which one a neighbour knows us by") {
  const Topology topology = topology_of_gateway();
  CHECK(topology.is_own(address("10.1.0.1")));
  CHECK_FALSE(topology.is_own(address("10.1.0.2")));
  CHECK(topology.is_own_on(PortId{1}, address("10.1.0.1")));
  CHECK_FALSE(topology.is_own_on(PortId{0}, address("10.1.0.1")));
  CHECK(topology.port_of(address("10.1.0.1")) == PortId{1});
  CHECK(topology.port_of(address("2001:db8::1")) == PortId{0});
  CHECK_FALSE(topology.port_of(address("10.1.0.2")));
  CHECK(topology.source_on(PortId{1}, address("10.9.0.0")) == address("10.9.0.1"));
  CHECK(topology.source_on(PortId{1}, address("192.0.2.1")) == address("10.1.0.1"));
  CHECK_FALSE(topology.source_on(PortId{1}, address("2001:db8::5")));
}

TEST_CASE("topology: neighbours that are written down, and links where nobody answers") {
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[0].name = "wan";
  dataplane.interfaces[0].device = "net_null0";
  dataplane.interfaces[1].name = "lan";
  dataplane.interfaces[1].device = "net_af_packet0,iface=lan";
  dataplane.neighbors.push_back({"lan", address("10.1.0.7"), {2, 0, 0, 0, 0, 7}, {}});
  const Topology topology(dataplane);
  CHECK(topology.answers_nobody(PortId{0}));
  CHECK_FALSE(topology.answers_nobody(PortId{1}));
  CHECK_FALSE(topology.answers_nobody(PortId{2}));
  REQUIRE(topology.static_neighbors().size() == 1);
  CHECK(topology.static_neighbors().at({PortId{1}, address("10.1.0.7")})[5] == 7);
}

TEST_CASE("topology: who can be a neighbour") {
  const Topology topology = topology_of_gateway();
  CHECK(topology.is_on_link(PortId{1}, address("10.1.0.5")));
  CHECK_FALSE(topology.is_on_link(PortId{0}, address("10.1.0.5")));
  CHECK_FALSE(topology.is_on_link(PortId{1}, address("10.1.0.255")));  // broadcast
  CHECK_FALSE(topology.is_on_link(PortId{1}, address("10.1.0.0")));    // network
  CHECK(topology.is_on_link(PortId{1}, address("10.9.0.0")));          // RFC 3021
  CHECK_FALSE(topology.is_on_link(PortId{0}, address("ff02::1")));
}

namespace {

/// IPv6 on both; on the first, its link-local address stands in front.
Topology with_link_local_router(const std::optional<std::string>& interface) {
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[0].name = "wan";
  dataplane.interfaces[0].addresses = {prefix("fe80::5/64"), prefix("2001:db8::1/64")};
  dataplane.interfaces[1].name = "lan";
  dataplane.interfaces[1].addresses = {prefix("2001:db8:1::1/64"), prefix("10.1.0.1/24")};
  config::Route everything;
  everything.to = prefix("::/0");
  everything.via = address("fe80::1");
  everything.interface = interface;
  dataplane.routes = {everything};
  return Topology(dataplane);
}

}  // namespace

TEST_CASE("topology: a link-local router is on the link that the route names (RFC 4291 §2.5.6)") {
  const Topology topology = with_link_local_router("lan");
  CHECK(topology.unplaced().empty());
  CHECK(topology.next_hop(address("2001:db8:7::1")) == NextHop{PortId{1}, address("fe80::1")});
  // Else the one whose network has been given a prefix of them.
  CHECK(with_link_local_router({}).next_hop(address("2001:db8:7::1")) ==
        NextHop{PortId{0}, address("fe80::1")});
  // Solicited from what the port has, and nobody else is told a link-local address.
  CHECK(topology.source_on(PortId{0}, address("fe80::1")) == address("fe80::5"));
  CHECK(topology.source_on(PortId{1}, address("fe80::1")) == address("2001:db8:1::1"));
  CHECK(topology.source_on(PortId{0}, address("2001:db8:7::1")) == address("2001:db8::1"));
}

TEST_CASE("topology: who is further away is not told a link-local address where we have another") {
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[0].addresses = {prefix("fe80::5/64")};
  dataplane.interfaces[1].addresses = {prefix("10.1.0.1/24")};
  CHECK(Topology(dataplane).source_on(PortId{0}, address("2001:db8:7::1")) == address("fe80::5"));
  dataplane.interfaces[1].addresses.push_back(prefix("2001:db8:1::1/64"));
  const Topology topology(dataplane);
  CHECK(topology.source_on(PortId{0}, address("2001:db8:7::1")) == address("2001:db8:1::1"));
  CHECK(topology.source_on(PortId{0}, address("fe80::9")) == address("fe80::5"));
  CHECK_FALSE(topology.source_on(PortId{0}, address("10.1.0.9")));
}

TEST_CASE("topology: link-local addresses are on every link with IPv6 (RFC 4861 §5.1)") {
  const Topology topology = with_link_local_router("lan");
  CHECK(topology.is_on_link(PortId{0}, address("fe80::1")));
  CHECK(topology.is_on_link(PortId{1}, address("fe80::1")));
  CHECK_FALSE(topology_of_gateway().is_on_link(PortId{1}, address("fe80::1")));
}

TEST_CASE("topology: a route that leads to no interface is not lost silently") {
  const Topology topology = with_link_local_router("dmz");
  REQUIRE(topology.unplaced().size() == 1);
  CHECK(topology.unplaced()[0].to == prefix("::/0"));
}

}  // namespace culvert::dataplane::control::topology_test
