#include "ike/daemon/local_address.hpp"

#include <algorithm>

#include "config/next_hop.hpp"
#include "wire/neighbor_discovery.hpp"

namespace culvert::ike {
namespace {

std::optional<wire::IpAddress> connected(const config::Dataplane& dataplane,
                                         const wire::IpAddress& neighbor) {
  for (const config::Interface& interface : dataplane.interfaces) {
    for (const wire::Prefix& prefix : interface.addresses) {
      if (prefix.contains(neighbor)) return prefix.address;
    }
  }
  return std::nullopt;
}

std::optional<wire::IpAddress> wide_address_of(const config::Interface& interface) {
  for (const wire::Prefix& own : interface.addresses) {
    if (!own.address.is_v4() && !wire::is_link_local(own.address)) return own.address;
  }
  return std::nullopt;
}

/// A link-local router's network is nobody's: an address that peers can answer, of its interface if
/// it has one.
std::optional<wire::IpAddress> towards(const config::Dataplane& dataplane,
                                       const config::Route& route) {
  if (!wire::is_link_local(route.via)) return connected(dataplane, route.via);
  const auto interface = config::interface_of(dataplane, route);
  if (!interface) return std::nullopt;
  if (auto own = wide_address_of(dataplane.interfaces[*interface])) return own;
  for (const config::Interface& other : dataplane.interfaces) {
    if (auto own = wide_address_of(other)) return own;
  }
  return std::nullopt;
}

}  // namespace

std::optional<wire::IpAddress> local_address_for(const config::Dataplane& dataplane,
                                                 const wire::IpAddress& remote) {
  if (auto address = connected(dataplane, remote)) return address;
  const config::Route* best = nullptr;
  for (const config::Route& route : dataplane.routes) {
    if (!route.to.contains(remote)) continue;
    if (best == nullptr || route.to.length > best->to.length) best = &route;
  }
  return best == nullptr ? std::nullopt : towards(dataplane, *best);
}

bool is_own_address(const config::Dataplane& dataplane, const wire::IpAddress& address) {
  return std::ranges::any_of(dataplane.interfaces, [&](const config::Interface& interface) {
    return std::ranges::find(interface.addresses, address, &wire::Prefix::address) !=
           interface.addresses.end();
  });
}

std::vector<wire::IpAddress> local_addresses_for(const config::Dataplane& dataplane,
                                                 const wire::IpAddress& remote) {
  const auto first = local_address_for(dataplane, remote);
  std::vector<wire::IpAddress> addresses;
  for (const config::Interface& interface : dataplane.interfaces) {
    const bool leads_there = std::ranges::any_of(
        interface.addresses, [&](const auto& prefix) { return first && prefix.address == *first; });
    if (!leads_there) continue;
    for (const wire::Prefix& prefix : interface.addresses) {
      // A peer beyond the link could not answer it.
      if (!wire::is_link_local(prefix.address)) addresses.push_back(prefix.address);
    }
  }
  return addresses;
}

}  // namespace culvert::ike
