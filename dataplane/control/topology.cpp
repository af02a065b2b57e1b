#include "dataplane/control/topology.hpp"

#include <algorithm>

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

Topology::Topology(const config::Dataplane& dataplane) {
  for (std::size_t index = 0; index < dataplane.interfaces.size(); ++index) {
    const auto port = static_cast<PortId>(index);
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
    const auto owner = std::ranges::find_if(
        own_, [&](const OwnAddress& own) { return own.prefix.contains(route.via); });
    if (owner == own_.end()) continue;  // refused when the configuration was validated
    routes_.push_back(
        {{route.to.first(), route.to.length}, route.via, owner->port, RouteKind::fixed});
  }
  std::ranges::stable_sort(routes_, [](const Route& a, const Route& b) {
    if (a.to.length != b.to.length) return a.to.length > b.to.length;
    return a.kind < b.kind;
  });
}

bool Topology::is_own(const wire::IpAddress& address) const {
  return std::ranges::any_of(own_,
                             [&](const OwnAddress& own) { return own.prefix.address == address; });
}

bool Topology::is_own_on(PortId port, const wire::IpAddress& address) const {
  return std::ranges::any_of(own_, [&](const OwnAddress& own) {
    return own.port == port && own.prefix.address == address;
  });
}

std::optional<NextHop> Topology::next_hop(const wire::IpAddress& destination) const {
  const auto route = std::ranges::find_if(
      routes_, [&](const Route& candidate) { return candidate.to.contains(destination); });
  if (route == routes_.end() || route->kind == RouteKind::local) return std::nullopt;
  return NextHop{route->port, route->via.value_or(destination)};
}

std::optional<wire::IpAddress> Topology::source_on(PortId port,
                                                   const wire::IpAddress& neighbor) const {
  std::optional<wire::IpAddress> first;
  for (const OwnAddress& own : own_) {
    if (own.port != port || own.prefix.address.family != neighbor.family) continue;
    if (own.prefix.contains(neighbor)) return own.prefix.address;
    if (!first) first = own.prefix.address;
  }
  return first;
}

bool Topology::is_on_link(PortId port, const wire::IpAddress& address) const {
  if (wire::is_multicast(address) || address.is_unspecified()) return false;
  return std::ranges::any_of(own_, [&](const OwnAddress& own) {
    if (own.port != port || !own.prefix.contains(address)) return false;
    return !has_broadcast(own.prefix) ||
           (address != own.prefix.first() && address != own.prefix.last());
  });
}

}  // namespace culvert::dataplane::control
