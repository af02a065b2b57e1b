// As many routes, addresses and neighbours as a configuration and the link may have: each has its
// place, at a start and in a reload.
#include <catch2/catch.hpp>

#include "dataplane/control/forwarding.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::dataplane::control::full_routes {
namespace {

namespace limits = config::limits;

constexpr std::uint32_t kNeighbors = NeighborTable::kMaxNeighbors + limits::kNeighbors;
constexpr std::uint32_t kANetwork = 64;  ///< addresses: 26 bits
constexpr std::uint32_t kNeighborsOfOne = 48;

/// Every interface with as many networks as it may have, from `first` on, and as many routes
/// through the first network's first neighbour.
config::Dataplane largest(std::uint32_t first, std::uint32_t first_route) {
  config::Dataplane dataplane;
  for (std::uint32_t interface = 0; interface < limits::kInterfaces; ++interface) {
    config::Interface& added = dataplane.interfaces.emplace_back();
    added.name = "port" + std::to_string(interface);
    for (std::uint32_t network = 0; network < limits::kInterfaceAddresses; ++network) {
      const std::uint32_t number =
          interface * static_cast<std::uint32_t>(limits::kInterfaceAddresses) + network;
      added.addresses.push_back({wire::IpAddress::v4(first + number * kANetwork + 1), 26});
    }
  }
  for (std::uint32_t number = 0; number < limits::kRoutes; ++number) {
    config::Route& route = dataplane.routes.emplace_back();
    route.to = {wire::IpAddress::v4(first_route + number * 256), 24};
    route.via = wire::IpAddress::v4(first + 2);
  }
  return dataplane;
}

NeighborKey neighbor(std::uint32_t first, std::uint32_t number) {
  const std::uint32_t network = number / kNeighborsOfOne;
  const auto port = static_cast<std::uint16_t>(network / limits::kInterfaceAddresses);
  return {PortId{port},
          wire::IpAddress::v4(first + network * kANetwork + 2 + number % kNeighborsOfOne)};
}

void use_all_ports(test::Gateway& gateway) {
  std::vector<PortInfo> ports = gateway.tables().ports.copy();
  ports.resize(limits::kInterfaces, ports.front());
  gateway.tables().ports.publish(ports, *gateway.tables().reclaimer);
}

}  // namespace

TEST_CASE("forwarding: with as many of all as there may be, each route and neighbour is there") {
  constexpr std::uint32_t kFirst = 0x0b000000, kFirstRoute = 0x14000000;
  constexpr std::uint32_t kOtherFirst = 0x0c000000, kOtherRoute = 0x15000000;
  test::Gateway gateway;
  use_all_ports(gateway);
  Forwarding forwarding(gateway.tables());
  const auto way = [&](std::uint32_t to) {
    return (*gateway.tables().adjacencies)[gateway.tables().fib->lookup_v4(to)].kind.load();
  };
  REQUIRE(forwarding.install(Topology(largest(kFirst, kFirstRoute))));
  for (std::uint32_t number = 0; number < kNeighbors; ++number) {
    forwarding.neighbor_resolved(neighbor(kFirst, number), test::kTheirMac);
  }
  const auto resolved = [&](std::uint32_t first) {
    std::uint32_t count = 0;
    for (std::uint32_t number = 0; number < kNeighbors; ++number) {
      const auto address = neighbor(first, number).address.v4_host();
      count += way(address) == AdjacencyKind::resolved ? 1 : 0;
    }
    return count;
  };
  CHECK(resolved(kFirst) == kNeighbors);
  for (std::uint32_t number = 0; number < limits::kRoutes; ++number) {
    REQUIRE(way(kFirstRoute + number * 256) == AdjacencyKind::resolved);
  }

  // Both topologies' routes have to be there for a moment, and the neighbours.
  REQUIRE(forwarding.install(Topology(largest(kOtherFirst, kOtherRoute))));
  for (std::uint32_t number = 0; number < limits::kRoutes; ++number) {
    REQUIRE(way(kOtherRoute + number * 256) == AdjacencyKind::incomplete);
  }
  CHECK(way(kOtherFirst + 1) == AdjacencyKind::local);
  CHECK(way(kFirstRoute) == AdjacencyKind::drop);
}

}  // namespace culvert::dataplane::control::full_routes
