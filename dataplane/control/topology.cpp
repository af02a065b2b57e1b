#include "dataplane/control/topology.hpp"

#include <algorithm>

#include "config/next_hop.hpp"
#include "dataplane/ports/eal_arguments.hpp"
#include "wire/neighbor_discovery.hpp"

namespace culvert::dataplane::control {

std::string_view to_string(RouteKind kind) {
  switch (kind) {
    case RouteKind::local:
      return "local";
    case RouteKind::connected:
      return "connected";
    case RouteKind::fixed:
      return "static";
  }
  return "static";
}

bool has_broadcast(const wire::Prefix& network) {
  return network.address.is_v4() && network.length <= 30;
}

Topology::Topology(const config::Dataplane& dataplane, std::span<const PortId> ports) {
  const auto port_of = [&](std::size_t interface) {
    return ports.empty() ? static_cast<PortId>(interface) : ports[interface];
  };
  for (std::size_t index = 0; index < dataplane.interfaces.size(); ++index) {
    const PortId port = port_of(index);
    if (ports::answers_nobody(dataplane.interfaces[index].device)) silent_.insert(port);
    for (const wire::Prefix& prefix : dataplane.interfaces[index].addresses) {
      own_.push_back({port, prefix});
      const auto host_bits = static_cast<std::uint8_t>(prefix.address.size() * 8);
      routes_.push_back({{prefix.address, host_bits}, std::nullopt, port, RouteKind::local});
      if (prefix.length == host_bits) continue;
      routes_.push_back(
          {{prefix.first(), prefix.length}, std::nullopt, port, RouteKind::connected});
    }
  }
  for (const config::Route& route : dataplane.routes) {
    const auto interface = config::interface_of(dataplane, route);
    if (!interface) {
      unplaced_.push_back(route);
      continue;
    }
    const PortId port = port_of(*interface);
    routes_.push_back({{route.to.first(), route.to.length}, route.via, port, RouteKind::fixed});
    gateways_.insert({port, route.via});
  }
  for (const config::StaticNeighbor& neighbor : dataplane.neighbors) {
    const auto interface =
        std::ranges::find(dataplane.interfaces, neighbor.interface, &config::Interface::name);
    if (interface == dataplane.interfaces.end()) continue;
    const PortId port = port_of(static_cast<std::size_t>(interface - dataplane.interfaces.begin()));
    static_neighbors_[{port, neighbor.address}] = neighbor.mac;
  }
  std::ranges::stable_sort(routes_, [](const Route& a, const Route& b) {
    if (a.to.length != b.to.length) return a.to.length > b.to.length;
    return a.kind < b.kind;
  });
  std::vector<wire::Prefix> networks;
  networks.reserve(routes_.size());
  for (const Route& route : routes_) networks.push_back(route.to);
  index_ = RouteIndex(networks);
}

bool Topology::is_own(const wire::IpAddress& address) const {
  return std::ranges::any_of(own_,
                             [&](const OwnAddress& own) { return own.prefix.address == address; });
}

std::optional<PortId> Topology::port_of(const wire::IpAddress& own) const {
  const auto found = std::ranges::find_if(
      own_, [&](const OwnAddress& candidate) { return candidate.prefix.address == own; });
  if (found == own_.end()) return std::nullopt;
  return found->port;
}

bool Topology::is_own_on(PortId port, const wire::IpAddress& address) const {
  return std::ranges::any_of(own_, [&](const OwnAddress& own) {
    return own.port == port && own.prefix.address == address;
  });
}

bool Topology::answers_nobody(PortId port) const { return silent_.contains(port); }

std::optional<NextHop> Topology::next_hop(const wire::IpAddress& destination) const {
  const auto place = index_.find(destination);
  if (!place || routes_[*place].kind == RouteKind::local) return std::nullopt;
  return NextHop{routes_[*place].port, routes_[*place].via.value_or(destination)};
}

std::optional<wire::IpAddress> Topology::source_on(PortId port,
                                                   const wire::IpAddress& neighbor) const {
  // RFC 6724 §5, rule 2: of an appropriate scope.
  const auto is_as_wide = [&](const wire::IpAddress& own) {
    return wire::is_link_local(own) == wire::is_link_local(neighbor);
  };
  std::optional<wire::IpAddress> first;
  for (const OwnAddress& own : own_) {
    const wire::IpAddress& address = own.prefix.address;
    if (own.port != port || address.family != neighbor.family) continue;
    if (own.prefix.contains(neighbor)) return address;
    if (!first || (is_as_wide(address) && !is_as_wide(*first))) first = address;
  }
  const bool is_too_narrow = first && !is_as_wide(*first) && wire::is_link_local(*first);
  if (!is_too_narrow) return first;
  // The port has a link-local address alone: one of another port's is ours as well.
  const auto other = std::ranges::find_if(own_, [&](const OwnAddress& own) {
    const wire::IpAddress& address = own.prefix.address;
    return address.family == neighbor.family && is_as_wide(address);
  });
  return other == own_.end() ? first : other->prefix.address;
}

bool Topology::is_on_link(PortId port, const wire::IpAddress& address) const {
  if (wire::is_multicast(address) || address.is_unspecified()) return false;
  const bool is_everywhere = wire::is_link_local(address);
  return std::ranges::any_of(own_, [&](const OwnAddress& own) {
    if (own.port != port) return false;
    // "The link-local prefix is considered to be on the prefix list" of each link (RFC 4861 §5.1).
    if (is_everywhere && !own.prefix.address.is_v4()) return true;
    if (!own.prefix.contains(address)) return false;
    return !has_broadcast(own.prefix) ||
           (address != own.prefix.first() && address != own.prefix.last());
  });
}

}  // namespace culvert::dataplane::control
