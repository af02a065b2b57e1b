// Static neighbours: each on an interface of ours, at an address that may be there, once.
#include <algorithm>
#include <tuple>

#include "config/checks.hpp"
#include "config/next_hop.hpp"
#include "wire/neighbor_discovery.hpp"

namespace culvert::config {
namespace {

using wire::IpAddress;
using wire::Prefix;

std::string list_interfaces(const Dataplane& dataplane) {
  std::vector<std::string_view> names;
  names.reserve(dataplane.interfaces.size());
  for (const Interface& interface : dataplane.interfaces) names.push_back(interface.name);
  return alternatives(names);
}

/// "Network or broadcast": no host has it, by the first of the interface's networks that says so.
const Prefix* nobodys(const Interface& interface, const IpAddress& address) {
  const auto& own = interface.addresses;
  const auto found = std::ranges::find_if(own, [&](const Prefix& prefix) {
    return prefix.address.is_v4() && prefix.length < 31 && prefix.contains(address) &&
           (address == prefix.first() || address == prefix.last());
  });
  return found == own.end() ? nullptr : &*found;
}

std::optional<Finding> problem_of(const IpAddress& address, const Interface& interface) {
  const std::string found = quote(address.to_string());
  if (address.is_unspecified() || wire::is_multicast(address)) {
    return Finding{found, "one host's address", "write the neighbour's own address"};
  }
  if (std::ranges::find(interface.addresses, address, &Prefix::address) !=
      interface.addresses.end()) {
    return Finding{found + ", the gateway's own address", "another host's address",
                   "write the neighbour's"};
  }
  if (const Prefix* const network = nobodys(interface, address)) {
    return Finding{found + ", the " + (address == network->first() ? "own" : "broadcast") +
                       " address of the network " +
                       Prefix{network->first(), network->length}.to_string(),
                   "one host's address", "write the neighbour's own address"};
  }
  if (reaches_directly(interface, address)) return std::nullopt;
  // "The link-local prefix is considered to be on the prefix list" of each link (RFC 4861 §5.1).
  if (!address.is_v4() && wire::is_link_local(address)) {
    if (has_ipv6(interface)) return std::nullopt;
    return Finding{found + ", but interface " + quote(interface.name) + " is without IPv6",
                   "an interface with an IPv6 address", "give it one, or name another interface"};
  }
  return Finding{found + ", outside the subnets of interface " + quote(interface.name),
                 "an address that this interface reaches directly",
                 "write one in its subnets, or name another interface"};
}

void check_once(const Dataplane& dataplane, Diagnostics& diagnostics) {
  std::vector<std::size_t> order(dataplane.neighbors.size());
  for (std::size_t index = 0; index < order.size(); ++index) order[index] = index;
  const auto key = [&](std::size_t index) {
    const StaticNeighbor& one = dataplane.neighbors[index];
    return std::tie(one.interface, one.address);
  };
  std::ranges::stable_sort(order, {}, key);
  for (std::size_t at = 1; at < order.size(); ++at) {
    if (key(order[at]) != key(order[at - 1])) continue;
    const StaticNeighbor& earlier = dataplane.neighbors[order[at - 1]];
    diagnostics.error(
        indexed("dataplane.neighbors", dataplane.neighbors[order[at]].entry) + ".address",
        {quote(earlier.address.to_string()) + " on interface " + quote(earlier.interface) +
             " a second time",
         "each neighbour once",
         "it stands in line " + std::to_string(earlier.location.line) + " already; remove one"});
  }
}

}  // namespace

void check_neighbors(const Config& config, Diagnostics& diagnostics) {
  const Dataplane& dataplane = config.dataplane;
  if (!are_interfaces_read(config, diagnostics)) return;
  for (const StaticNeighbor& neighbor : dataplane.neighbors) {
    const std::string path = indexed("dataplane.neighbors", neighbor.entry);
    const auto interface =
        std::ranges::find(dataplane.interfaces, neighbor.interface, &Interface::name);
    if (interface == dataplane.interfaces.end()) {
      diagnostics.error(path + ".interface",
                        {"interface " + quote(neighbor.interface), list_interfaces(dataplane),
                         "write the interface that the neighbour is on"});
      continue;
    }
    const auto problem = problem_of(neighbor.address, *interface);
    if (problem) diagnostics.error(path + ".address", *problem);
  }
  check_once(dataplane, diagnostics);
}

}  // namespace culvert::config
