#include "config/next_hop.hpp"

#include <algorithm>

#include "wire/neighbor_discovery.hpp"

namespace culvert::config {
namespace {

/// The first interface of which `is_it` says so.
std::optional<std::size_t> first(const Dataplane& dataplane, auto is_it) {
  const auto& all = dataplane.interfaces;
  const auto found = std::ranges::find_if(all, is_it);
  if (found == all.end()) return std::nullopt;
  return static_cast<std::size_t>(found - all.begin());
}
std::optional<std::size_t> only_one(const Dataplane& dataplane, auto is_it) {
  if (std::ranges::count_if(dataplane.interfaces, is_it) != 1) return std::nullopt;
  return first(dataplane, is_it);
}

}  // namespace

bool has_ipv6(const Interface& interface) {
  return std::ranges::any_of(interface.addresses,
                             [](const wire::Prefix& own) { return !own.address.is_v4(); });
}

bool reaches_directly(const Interface& interface, const wire::IpAddress& address) {
  return std::ranges::any_of(interface.addresses,
                             [&](const wire::Prefix& own) { return own.contains(address); });
}

std::optional<std::size_t> interface_of(const Dataplane& dataplane, const Route& route) {
  // "The link-local prefix is considered to be on the prefix list … regardless" (RFC 4861 §5.1).
  const bool is_anywhere = wire::is_link_local(route.via);
  const auto reaches = [&](const Interface& one) { return reaches_directly(one, route.via); };
  if (route.interface) {
    return only_one(dataplane, [&](const Interface& one) {
      return one.name == *route.interface && (is_anywhere ? has_ipv6(one) : reaches(one));
    });
  }
  if (!is_anywhere) return first(dataplane, reaches);  // subnets that overlap are refused
  const auto index = only_one(dataplane, reaches);
  return index ? index : only_one(dataplane, has_ipv6);
}

}  // namespace culvert::config
