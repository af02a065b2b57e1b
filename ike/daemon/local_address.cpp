#include "ike/daemon/local_address.hpp"

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

}  // namespace

std::optional<wire::IpAddress> local_address_for(const config::Dataplane& dataplane,
                                                 const wire::IpAddress& remote) {
  if (auto address = connected(dataplane, remote)) return address;
  const config::Route* best = nullptr;
  for (const config::Route& route : dataplane.routes) {
    if (!route.to.contains(remote)) continue;
    if (best == nullptr || route.to.length > best->to.length) best = &route;
  }
  return best == nullptr ? std::nullopt : connected(dataplane, best->via);
}

}  // namespace culvert::ike
