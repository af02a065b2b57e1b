// Addresses that no router forwards from or to, whatever policies and routes say.
#include <catch2/catch.hpp>

#include "dataplane/control/forwarding.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

using Drops = std::map<DropReason, std::uint64_t>;

Result passed(Gateway& gateway, PortId port, const std::string& source,
              const std::string& destination) {
  return gateway.receive(port, frame(ip_packet({.source = source, .destination = destination})));
}

Gateway& open_to_all(Gateway& gateway) {
  gateway.policy(PolicyAction::bypass, "0.0.0.0/0", "0.0.0.0/0");
  gateway.policy(PolicyAction::bypass, "::/0", "::/0");
  return gateway;
}

void add_route(Gateway& gateway, const std::string& to, AdjacencyIndex adjacency) {
  REQUIRE(gateway.tables().fib->add(wire::Prefix::parse(to).value(), adjacency).has_value());
}

}  // namespace

TEST_CASE("worker: broadcast addresses of our networks, silently (RFC 1812 §4.3.2.7)") {
  Gateway made;
  Gateway& gateway = open_to_all(made);
  for (const char* const nobody : {"10.1.0.255", "10.1.0.0", "198.51.100.255", "198.51.100.0"}) {
    INFO(nobody);
    const Result to = passed(gateway, kWan, "198.51.100.2", nobody);
    CHECK(to.drops == Drops{{DropReason::destination_multicast, 1}});
    CHECK(to.punts.empty());
    const Result from = passed(gateway, kWan, nobody, "10.1.0.9");
    CHECK(from.drops == Drops{{DropReason::source_address_invalid, 1}});
    CHECK(from.lan.empty());
    // Nor is what we send there answered.
    const Result ours = gateway.inject(ip_packet({.source = "10.1.0.1", .destination = nobody}),
                                       {InjectKind::outbound_local, kWan, false});
    CHECK(ours.drops == Drops{{DropReason::destination_multicast, 1}});
    CHECK(ours.punts.empty());
  }
  // Else each host of the network would answer.
  CHECK(gateway.receive(kWan, frame(echo_request("198.51.100.2", "10.1.0.255"))).drops ==
        Drops{{DropReason::destination_multicast, 1}});
  // That of somebody else's network is an address like any other.
  CHECK(passed(gateway, kLan, "10.1.0.9", "10.2.0.255").wan.size() == 1);
}

TEST_CASE("forwarding: which addresses of an interface's network are nobody's") {
  Gateway gateway;
  config::Dataplane dataplane;
  dataplane.interfaces.resize(1);
  for (const char* const own : {"10.77.0.1/24", "10.78.0.0/31", "10.79.0.1/32", "fd00::1/64"}) {
    dataplane.interfaces[0].addresses.push_back(wire::Prefix::parse(own).value());
  }
  control::Forwarding forwarding(gateway.tables());
  REQUIRE(forwarding.install(control::Topology(dataplane)).has_value());
  const auto next_hop = [&](const char* text) {
    return gateway.tables().fib->lookup(wire::IpAddress::parse(text).value());
  };
  CHECK(next_hop("10.77.0.0") == Adjacencies::kBroadcast);
  CHECK(next_hop("10.77.0.255") == Adjacencies::kBroadcast);
  CHECK(next_hop("10.77.0.1") == Adjacencies::kLocal);
  for (const char* const somebody : {"10.77.0.254", "10.78.0.1", "fd00::", "fd00::ffff"}) {
    INFO(somebody);
    const AdjacencyIndex to = next_hop(somebody);
    CHECK((*gateway.tables().adjacencies)[to].kind.load() == AdjacencyKind::glean);
  }
}

TEST_CASE("forwarding: a route through a link-local router leads to its link, once it is known") {
  Gateway gateway;
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[0].addresses = {wire::Prefix::parse("2001:db8:1::1/64").value()};
  dataplane.interfaces[1].name = "wan";
  dataplane.interfaces[1].addresses = {wire::Prefix::parse("2001:db8:ff::1/64").value()};
  config::Route route;
  route.to = wire::Prefix::parse("2001:db8:9::/48").value();
  route.via = wire::IpAddress::parse("fe80::1").value();
  route.interface = "wan";
  dataplane.routes = {route};
  control::Forwarding forwarding(gateway.tables());
  REQUIRE(forwarding.install(control::Topology(dataplane)).has_value());
  open_to_all(gateway);

  const Result asked = passed(gateway, kLan, "2001:db8:1::9", "2001:db8:9::7");
  REQUIRE(asked.punts.size() == 1);
  CHECK(asked.punts[0].what.reason == PuntReason::resolve_neighbor);
  CHECK(asked.punts[0].what.next_hop == route.via);
  CHECK(asked.punts[0].what.link == kWan);
  const auto next_hop_of = [&](const char* text) {
    return gateway.tables().fib->lookup(wire::IpAddress::parse(text).value());
  };
  // Of the same name on another link: another station.
  forwarding.neighbor_resolved({kLan, route.via}, kOurMac);
  CHECK(passed(gateway, kLan, "2001:db8:1::9", "2001:db8:9::7").wan.empty());
  forwarding.neighbor_resolved({kWan, route.via}, kTheirMac);
  const Result sent = passed(gateway, kLan, "2001:db8:1::9", "2001:db8:9::7");
  REQUIRE(sent.wan.size() == 1);
  CHECK(std::equal(kTheirMac.begin(), kTheirMac.end(), sent.wan[0].begin()));
  CHECK(next_hop_of("fe80::1") == Adjacencies::kDrop);
  forwarding.neighbor_lost({kLan, route.via});
  CHECK(passed(gateway, kLan, "2001:db8:1::9", "2001:db8:9::7").wan.size() == 1);

  dataplane.routes[0].interface = "dmz";
  const auto refused = forwarding.install(control::Topology(dataplane));
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error() ==
        "no interface is known to reach fe80::1, through which dataplane.routes has "
        "2001:db8:9::/48");
}

TEST_CASE("forwarding: another MTU of a port is that of all ways over it, known flows' too") {
  Gateway gateway;
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[1].addresses = {wire::Prefix::parse("10.77.0.1/24").value()};
  control::Forwarding forwarding(gateway.tables());
  REQUIRE(forwarding.install(control::Topology(dataplane)).has_value());
  const std::string known = "10.77.0.5", unknown = "10.77.0.6";
  forwarding.neighbor_resolved({kWan, wire::IpAddress::parse(known).value()}, kTheirMac);
  open_to_all(gateway);
  const auto sent = [&](const std::string& to) {
    return gateway.receive(
        kLan,
        frame(ip_packet({.source = "10.1.0.9", .destination = to, .payload = Packet(1300, 7)})));
  };
  const auto change = [&](std::uint16_t mtu) {
    std::vector<PortInfo> ports = gateway.tables().ports.copy();
    ports[raw(kWan)].mtu = mtu;
    gateway.tables().ports.publish(ports, *gateway.tables().reclaimer);
    forwarding.ports_changed();
  };
  for (int time = 0; time < 3; ++time) REQUIRE(sent(known).wan.size() == 1);
  change(1300);
  for (const std::string& to : {known, unknown}) {
    const Result refused = sent(to);
    REQUIRE(refused.punts.size() == 1);
    CHECK(refused.punts[0].what.reason == PuntReason::packet_too_big);
    CHECK(refused.punts[0].what.mtu == 1300);
  }
  change(1400);
  CHECK(sent(known).wan.size() == 1);
  CHECK(sent(unknown).punts.at(0).what.reason == PuntReason::resolve_neighbor);
}

TEST_CASE(
    "forwarding: an address that becomes ours is ours for flows that were met meanwhile, too") {
  Gateway gateway;
  open_to_all(gateway);
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  control::Forwarding forwarding(gateway.tables());
  REQUIRE(forwarding.install(control::Topology(dataplane)).has_value());
  const bool is_v6 = GENERATE(false, true);
  const std::string client = is_v6 ? "2001:db8:1::9" : "10.1.0.9";
  const std::string own = is_v6 ? "fd00::1" : "10.77.0.1";
  const auto asked = [&] { return gateway.receive(kLan, frame(echo_request(client, own))); };

  dataplane.interfaces[1].addresses = {wire::Prefix::parse(own + (is_v6 ? "/64" : "/24")).value()};
  REQUIRE(forwarding.reserve(control::Topology(dataplane)).has_value());
  REQUIRE(forwarding.withdraw());
  CHECK(asked().lan.empty());
  forwarding.commit();
  CHECK(asked().lan.size() == 1);
  // And is nobody's whose packets come from it.
  CHECK(passed(gateway, kLan, own, client).drops == Drops{{DropReason::source_address_invalid, 1}});

  REQUIRE(forwarding.reserve(control::Topology(config::Dataplane{})).has_value());
  REQUIRE(forwarding.withdraw());
  forwarding.commit();
  CHECK(asked().lan.empty());
}

TEST_CASE("forwarding: a topology that finds no room leaves the one before whole") {
  Gateway gateway;
  config::Dataplane before;
  before.interfaces.resize(2);
  before.interfaces[1].addresses = {wire::Prefix::parse("10.77.0.1/24").value()};
  control::Forwarding forwarding(gateway.tables());
  REQUIRE(forwarding.install(control::Topology(before)).has_value());
  const auto next_hop = [&](const char* text) {
    return gateway.tables().fib->lookup(wire::IpAddress::parse(text).value());
  };
  const auto neighbor = wire::IpAddress::parse("10.77.0.5").value();
  forwarding.neighbor_resolved({kWan, neighbor}, kTheirMac);
  const AdjacencyIndex to_neighbor = next_hop("10.77.0.5");
  const AdjacencyIndex to_network = next_hop("10.77.0.9");
  while (gateway.tables().adjacencies->add_glean(kWan, 1500)) {
  }
  config::Dataplane wanted = before;
  wanted.interfaces[0].addresses = {wire::Prefix::parse("10.78.0.1/24").value(),
                                    wire::Prefix::parse("10.77.0.5/32").value()};
  const auto refused = forwarding.install(control::Topology(wanted));
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error() == "the adjacency table is full");
  CHECK(next_hop("10.78.0.1") == Adjacencies::kDrop);
  CHECK(next_hop("10.77.0.5") == to_neighbor);
  CHECK(next_hop("10.77.0.9") == to_network);
}

TEST_CASE("forwarding: a neighbour's host route comes and goes with what a reload says of it") {
  Gateway gateway;
  config::Dataplane with, without;
  with.interfaces.resize(2);
  with.interfaces[0].addresses = {wire::Prefix::parse("2001:db8:1::1/64").value()};
  with.interfaces[1].addresses = {wire::Prefix::parse("2001:db8:ff::1/64").value()};
  without = with;
  with.interfaces[1].addresses.push_back(wire::Prefix::parse("fe80::1/64").value());
  control::Forwarding forwarding(gateway.tables());
  const auto kind_of = [&](const char* text) {
    const Tables& tables = gateway.tables();
    const AdjacencyIndex to = tables.fib->lookup(wire::IpAddress::parse(text).value());
    return (*tables.adjacencies)[to].kind.load();
  };
  const control::NeighborKey neighbor{kWan, wire::IpAddress::parse("fe80::2").value()};
  // Which link fe80::2 is on is known, then not, then known again.
  REQUIRE(forwarding.install(control::Topology(with)).has_value());
  forwarding.neighbor_resolved(neighbor, kTheirMac);
  CHECK(kind_of("fe80::2") == AdjacencyKind::resolved);
  REQUIRE(forwarding.install(control::Topology(without)).has_value());
  CHECK(kind_of("fe80::2") == AdjacencyKind::drop);
  REQUIRE(forwarding.install(control::Topology(with)).has_value());
  CHECK(kind_of("fe80::2") == AdjacencyKind::resolved);
  forwarding.neighbor_lost(neighbor);
  CHECK(kind_of("fe80::2") == AdjacencyKind::glean);

  // The operator's route for a neighbour's address, while it is there.
  const control::NeighborKey other{kWan, wire::IpAddress::parse("2001:db8:ff::9").value()};
  forwarding.neighbor_resolved(other, kTheirMac);
  config::Dataplane routed = with;
  config::Route route;
  route.to = wire::Prefix::parse("2001:db8:ff::9/128").value();
  route.via = wire::IpAddress::parse("2001:db8:ff::7").value();
  routed.routes = {route};
  REQUIRE(forwarding.install(control::Topology(routed)).has_value());
  CHECK(kind_of("2001:db8:ff::9") == AdjacencyKind::incomplete);
  REQUIRE(forwarding.install(control::Topology(with)).has_value());
  CHECK(kind_of("2001:db8:ff::9") == AdjacencyKind::resolved);

  // A gateway that was lost, and is nobody's gateway any more.
  const control::NeighborKey gone{kWan, route.via};
  REQUIRE(forwarding.install(control::Topology(routed)).has_value());
  forwarding.neighbor_resolved(gone, kTheirMac);
  forwarding.neighbor_lost(gone);
  CHECK(kind_of("2001:db8:ff::7") == AdjacencyKind::incomplete);
  REQUIRE(forwarding.install(control::Topology(with)).has_value());
  CHECK(kind_of("2001:db8:ff::7") == AdjacencyKind::glean);
}

namespace {

std::array<std::uint8_t, 6> to_mac(const Packet& frame) {
  std::array<std::uint8_t, 6> mac{};
  std::copy_n(frame.begin(), mac.size(), mac.begin());
  return mac;
}

}  // namespace

TEST_CASE("forwarding: where nobody can answer, every neighbour is there at once") {
  Gateway made;
  Gateway& gateway = open_to_all(made);
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[1].device = "net_null0";
  dataplane.interfaces[1].name = "wan";
  for (const char* const own : {"10.77.0.1/24", "2001:db8:77::1/64"}) {
    dataplane.interfaces[1].addresses.push_back(wire::Prefix::parse(own).value());
  }
  for (const auto& [to, via] :
       {std::pair{"10.78.0.0/16", "10.77.0.2"}, std::pair{"2001:db8:78::/48", "fe80::2"}}) {
    config::Route route;
    route.to = wire::Prefix::parse(to).value();
    route.via = wire::IpAddress::parse(via).value();
    route.interface = "wan";
    dataplane.routes.push_back(route);
  }
  control::Forwarding forwarding(gateway.tables());
  REQUIRE(forwarding.install(control::Topology(dataplane)).has_value());

  const auto mac_to = [&](const char* source, const char* destination) {
    const Result sent = passed(gateway, kLan, source, destination);
    CHECK(sent.punts.empty());
    return sent.wan.size() == 1 ? to_mac(sent.wan[0]) : std::array<std::uint8_t, 6>{};
  };
  CHECK(mac_to("10.1.0.9", "10.77.0.5") == control::kAssumedMac);
  CHECK(mac_to("10.1.0.9", "10.78.3.4") == control::kAssumedMac);
  CHECK(mac_to("2001:db8:1::9", "2001:db8:77::5") == control::kAssumedMac);
  const Result by_gateway = passed(gateway, kLan, "2001:db8:1::9", "2001:db8:78::5");
  REQUIRE(by_gateway.wan.size() == 1);
  CHECK(to_mac(by_gateway.wan[0]) == control::kAssumedMac);
  CHECK(by_gateway.wan[0][12] == 0x86);  // each family has its own header

  // What the operator wrote down goes before it, and it comes back behind it.
  for (const char* const written : {"10.77.0.2", "10.77.0.5"}) {
    dataplane.neighbors.push_back({"wan", wire::IpAddress::parse(written).value(), kTheirMac, {}});
    REQUIRE(forwarding.install(control::Topology(dataplane)).has_value());
    forwarding.neighbor_resolved({kWan, wire::IpAddress::parse(written).value()}, kTheirMac);
  }
  CHECK(mac_to("10.1.0.9", "10.77.0.5") == kTheirMac);
  CHECK(mac_to("10.1.0.9", "10.78.3.4") == kTheirMac);
  CHECK(mac_to("10.1.0.9", "10.77.0.6") == control::kAssumedMac);
  const auto written = std::exchange(dataplane.neighbors, {});
  REQUIRE(forwarding.install(control::Topology(dataplane)).has_value());
  for (const auto& one : written) forwarding.neighbor_lost({kWan, one.address});
  CHECK(mac_to("10.1.0.9", "10.77.0.5") == control::kAssumedMac);
  CHECK(mac_to("10.1.0.9", "10.78.3.4") == control::kAssumedMac);
}

TEST_CASE("worker: what is for a broadcast address goes into no tunnel") {
  SaOptions any;
  any.local_selectors = any.remote_selectors = {"0.0.0.0/0"};
  Pair pair({}, any);
  CHECK(passed(pair.left, kLan, "10.1.0.9", "198.51.100.255").drops ==
        Drops{{DropReason::destination_multicast, 1}});
}

TEST_CASE("worker: nothing goes to loopback, unspecified and this network (RFC 1812 §5.3.7)") {
  Gateway made;
  Gateway& gateway = open_to_all(made);
  const bool is_v4 = GENERATE(true, false);
  const char* const client = is_v4 ? "10.1.0.9" : "2001:db8:1::9";
  const char* const peer = is_v4 ? "198.51.100.2" : "2001:db8:ff::2";
  add_route(gateway, is_v4 ? "0.0.0.0/0" : "::/0",
            gateway.tables().fib->lookup(wire::IpAddress::parse(peer).value()));
  const auto nobodys = is_v4 ? std::vector{"127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3"}
                             : std::vector{"::1", "::"};
  for (int time = 0; time < 2; ++time) {
    for (const char* const nobody : nobodys) {
      INFO(nobody);
      const Result result = passed(gateway, kLan, client, nobody);
      CHECK(result.drops == Drops{{DropReason::destination_address_invalid, 1}});
      CHECK(result.punts.empty());
    }
    // What stands beside them does, and after it such flows are known ones.
    for (const char* const beside : is_v4 ? std::vector{"126.255.255.255", "128.0.0.0", "1.0.0.0"}
                                          : std::vector{"::2", "1::1", "::1:0"}) {
      INFO(beside);
      CHECK(passed(gateway, kLan, client, beside).wan.size() == 1);
    }
  }
}

TEST_CASE("worker: loopback and unspecified addresses are in no tunnel (RFC 4291 §2.5.2, §2.5.3)") {
  const bool is_v4 = GENERATE(true, false);
  SaOptions any;
  any.local_selectors = any.remote_selectors = {is_v4 ? "0.0.0.0/0" : "::/0"};
  Pair pair({}, any);
  open_to_all(pair.right);
  const std::string client = is_v4 ? "10.1.0.9" : "2001:db8:1::9";
  const std::string far = is_v4 ? "10.2.0.7" : "2001:db8:2::7";
  for (const char* const nobody :
       is_v4 ? std::vector{"127.0.0.1", "0.1.2.3"} : std::vector{"::1", "::"}) {
    INFO(nobody);
    CHECK(passed(pair.left, kLan, client, far).wan.size() == 1);
    CHECK(passed(pair.left, kLan, client, nobody).drops ==
          Drops{{DropReason::destination_address_invalid, 1}});
    // A peer that has not heard of the rule: there, it is its own.
    const Result sealed = pair.left.inject(ip_packet({.source = client, .destination = nobody}),
                                           {InjectKind::outbound_local, kWan, false});
    REQUIRE(sealed.wan.size() == 1);
    CHECK(pair.right.receive(kWan, sealed.wan).drops ==
          Drops{{DropReason::destination_address_invalid, 1}});
  }
}

TEST_CASE("worker: link-local addresses go no further (RFC 4291 §2.5.6, RFC 3927 §2.7)") {
  Gateway made;
  Gateway& gateway = open_to_all(made);
  const Drops refused = {{DropReason::link_local_address, 1}};
  for (const char* const v4 : {"169.254.0.0", "169.254.255.255"}) {
    CHECK(passed(gateway, kLan, v4, "10.2.0.7").drops == refused);
    CHECK(passed(gateway, kLan, "10.1.0.9", v4).drops == refused);
  }
  for (const char* const v6 : {"fe80::9", "febf:ffff::9"}) {
    CHECK(passed(gateway, kLan, v6, "2001:db8:2::7").drops == refused);
    CHECK(passed(gateway, kLan, "2001:db8:1::9", v6).drops == refused);
  }
  // What stands beside them does.
  CHECK(passed(gateway, kLan, "169.253.255.255", "10.2.0.7").wan.size() == 1);
  CHECK(passed(gateway, kLan, "169.255.0.0", "10.2.0.7").wan.size() == 1);
  CHECK(passed(gateway, kLan, "fe7f::9", "2001:db8:2::7").wan.size() == 1);
  CHECK(passed(gateway, kLan, "fec0::9", "2001:db8:2::7").wan.size() == 1);
}

TEST_CASE("worker: link-local addresses go into no tunnel, and come out of none") {
  SaOptions any;
  any.local_selectors = any.remote_selectors = {"0.0.0.0/0"};
  Pair pair({}, any);
  open_to_all(pair.right);
  CHECK(passed(pair.left, kLan, "169.254.1.1", "10.2.0.7").drops ==
        Drops{{DropReason::link_local_address, 1}});
  // A peer that has not heard of the rule: there, it is its own.
  const Result sealed =
      pair.left.inject(ip_packet({.source = "169.254.1.1", .destination = "10.2.0.7"}),
                       {InjectKind::outbound_local, kWan, false});
  REQUIRE(sealed.wan.size() == 1);
  CHECK(pair.right.receive(kWan, sealed.wan).drops == Drops{{DropReason::link_local_address, 1}});
}

TEST_CASE("worker: link-local addresses of our own are served on their link") {
  Gateway gateway;
  add_route(gateway, "fe80::1/128", Adjacencies::kLocal);
  add_route(gateway, "169.254.3.1/32", Adjacencies::kLocal);
  const Result closed = gateway.receive(
      kLan,
      frame(ip_packet({.source = "fe80::9", .destination = "fe80::1", .payload = udp(1, 2, {})})));
  REQUIRE(closed.punts.size() == 1);
  CHECK(closed.punts[0].what.reason == PuntReason::port_unreachable);
  const auto client = wire::IpAddress::parse("10.1.0.9").value();
  add_route(gateway, "169.254.0.0/16", gateway.tables().fib->lookup(client));
  CHECK(gateway.receive(kLan, frame(echo_request("169.254.3.9", "169.254.3.1"))).lan.size() == 1);
}

TEST_CASE(
    "addresses: IKE on either port is nobody's whose source no host has (RFC 1122 §3.2.1.3)") {
  Gateway gateway;
  const std::uint16_t port = GENERATE(std::uint16_t{500}, std::uint16_t{4500});
  Packet request(28, 0x11);
  std::fill_n(request.begin() + 8, 8, std::uint8_t{0});  // the responder's SPI
  if (port == 4500) request.insert(request.begin(), 4, 0);
  const auto arrived = [&](const std::string& source, const std::string& destination) {
    return gateway.receive(kWan, frame(ip_packet({.source = source,
                                                  .destination = destination,
                                                  .payload = udp(port, port, request)})));
  };
  for (const char* const nobody : {"224.0.0.5", "127.0.0.1", "198.51.100.255", "198.51.100.1"}) {
    INFO(nobody);
    const Result refused = arrived(nobody, "198.51.100.1");
    CHECK(refused.punts.empty());
    CHECK(refused.drops == Drops{{DropReason::source_address_invalid, 1}});
  }
  CHECK(arrived("::1", "2001:db8:ff::1").drops == Drops{{DropReason::source_address_invalid, 1}});
  const Result taken = arrived("198.51.100.2", "198.51.100.1");
  REQUIRE(taken.punts.size() == 1);
  CHECK(taken.punts[0].what.reason == PuntReason::ike_newcomer);
}
