#include <algorithm>
#include <tuple>

#include "config/checks.hpp"
#include "config/limits.hpp"
#include "config/next_hop.hpp"
#include "wire/neighbor_discovery.hpp"

namespace culvert::config {
namespace {

using wire::IpAddress;
using wire::Prefix;

bool is_loopback(const IpAddress& address) {
  return address.is_v4() ? address.bytes[0] == 127 : address == *IpAddress::parse("::1");
}

/// "This host on this network" (RFC 1122 §3.2.1.3), groups, and every link's broadcast address too.
bool is_nobodys(const IpAddress& address) {
  if (address.is_unspecified() || wire::is_multicast(address) || is_loopback(address)) return true;
  return address.is_v4() && (address.bytes[0] == 0 || address == wire::highest(wire::Family::v4));
}

/// The network's own address or its broadcast address (IPv4, shorter than /31: RFC 3021).
bool is_network_or_broadcast(const Prefix& prefix) {
  if (!prefix.address.is_v4() || prefix.length >= 31) return false;
  return prefix.address == prefix.first() || prefix.address == prefix.last();
}

void check_interface_address(const Prefix& prefix, const std::string& path,
                             Diagnostics& diagnostics) {
  const IpAddress& address = prefix.address;
  if (is_nobodys(address)) {
    diagnostics.error(path, {quote(prefix.to_string()), "a unicast address of this gateway",
                             "write the gateway's address in the network"});
  } else if (is_network_or_broadcast(prefix)) {
    diagnostics.error(path, {quote(prefix.to_string()) + ", the network's " +
                                 (address == prefix.first() ? "own" : "broadcast") + " address",
                             "the gateway's address in the network",
                             "write one between " + prefix.first().to_string() + " and " +
                                 prefix.last().to_string()});
  }
}

struct Placed {
  Prefix prefix;
  std::string path;
  std::size_t interface;
};

/// Two interfaces in one subnet: neither says where a packet goes.
void check_overlaps(std::vector<Placed> placed, Diagnostics& diagnostics) {
  std::erase_if(placed, [](const Placed& one) { return wire::is_link_local(one.prefix.address); });
  for (std::size_t later = 0; later < placed.size(); ++later) {
    for (std::size_t earlier = 0; earlier < later; ++earlier) {
      const Placed& a = placed[earlier];
      const Placed& b = placed[later];
      const bool overlap =
          a.prefix.contains(b.prefix.first()) || b.prefix.contains(a.prefix.first());
      const bool same = a.prefix.address == b.prefix.address;
      if (!overlap || (a.interface == b.interface && !same)) continue;
      const Location place = diagnostics.place_of(a.path);
      diagnostics.error(b.path,
                        {quote(b.prefix.to_string()) + ", which overlaps " + a.prefix.to_string() +
                             " in line " + std::to_string(place.line),
                         same ? "each address once" : "a subnet of its own on each interface",
                         same ? "remove one" : "write another subnet, or a longer prefix"});
      break;
    }
  }
}

/// "net_tap0" of "net_tap0,iface=lan"; a PCI address with its domain, in lower case.
std::string device_name(const Interface& interface) {
  std::string name = interface.device.substr(0, interface.device.find(','));
  const bool is_without_domain = name.size() == 7 && name[2] == ':' && name[5] == '.';
  if (is_without_domain) name.insert(0, "0000:");
  const bool is_pci = name.size() == 12 && name[4] == ':' && name[7] == ':' && name[10] == '.';
  if (!is_pci) return name;
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'A' && c <= 'F' ? static_cast<char>(c | 0x20) : c;
  });
  return name;
}

std::string describe_vlan(const wire::vlan::Ids& vlan) {
  if (!vlan.any()) return "no vlan";
  std::string text = "vlan " + std::to_string(vlan.id[0]);
  if (vlan.count() == 2) text += " with " + std::to_string(vlan.id[1]) + " inside";
  return text;
}

/// Interfaces may share a device when their frames can be told apart by their VLAN tags.
void check_shared_device(const Dataplane& dataplane, std::size_t index,
                         const std::vector<bool>& is_read, Diagnostics& diagnostics) {
  const Interface& interface = dataplane.interfaces[index];
  const std::string path = indexed("dataplane.interfaces", index);
  for (std::size_t before = 0; before < index; ++before) {
    const Interface& other = dataplane.interfaces[before];
    if (!is_read[before]) continue;
    if (device_name(other) != device_name(interface) || device_name(interface).empty()) continue;
    if (other.device != interface.device) {
      const Location place =
          diagnostics.place_of(indexed("dataplane.interfaces", before) + ".device");
      diagnostics.error(path + ".device",
                        {quote(device_name(interface)) + " a second time, with other arguments",
                         "each device once, or the same text for every VLAN of it",
                         "it stands in line " + std::to_string(place.line) + " already"});
    } else if (other.vlan == interface.vlan) {
      diagnostics.error(
          interface.vlan.any() ? path + ".vlan" : path + ".device",
          {"device " + quote(interface.device) + " with " + describe_vlan(interface.vlan) +
               ", as interface " + quote(other.name) + " has it",
           "a VLAN of its own for each interface of a device",
           "write vlan: ID here, or name another device"});
    } else {
      continue;
    }
    return;
  }
}

void check_interfaces(const Dataplane& dataplane, Diagnostics& diagnostics) {
  std::vector<bool> is_read(dataplane.interfaces.size());
  for (std::size_t index = 0; index < is_read.size(); ++index) {
    is_read[index] = !diagnostics.has_error_under(indexed("dataplane.interfaces", index));
  }
  std::vector<Placed> placed;
  for (std::size_t index = 0; index < dataplane.interfaces.size(); ++index) {
    const Interface& interface = dataplane.interfaces[index];
    const std::string path = indexed("dataplane.interfaces", index);
    if (!is_read[index]) continue;
    check_shared_device(dataplane, index, is_read, diagnostics);
    bool has_v6 = false;
    for (std::size_t at = 0; at < interface.addresses.size(); ++at) {
      const Prefix& prefix = interface.addresses[at];
      has_v6 = has_v6 || !prefix.address.is_v4();
      placed.push_back({prefix, indexed(path + ".addresses", at), index});
      check_interface_address(prefix, placed.back().path, diagnostics);
    }
    if (has_v6 && interface.mtu < limits::kMtuMinV6) {
      diagnostics.error(path + ".mtu",
                        {std::to_string(interface.mtu),
                         "at least 1280, because the interface has IPv6 (RFC 8200 §5)",
                         "write mtu: 1280 or more"});
    }
  }
  check_overlaps(std::move(placed), diagnostics);
}

std::string list_addresses(const Dataplane& dataplane) {
  std::string text;
  for (const Interface& interface : dataplane.interfaces) {
    for (const Prefix& prefix : interface.addresses) {
      if (!text.empty()) text += ", ";
      text += prefix.address.to_string();
    }
  }
  return text;
}

bool is_on_link(const Dataplane& dataplane, const IpAddress& address) {
  return std::ranges::any_of(dataplane.interfaces, [&](const Interface& interface) {
    return reaches_directly(interface, address);
  });
}
bool has_address(const Interface& interface, const IpAddress& address) {
  return std::ranges::find(interface.addresses, address, &Prefix::address) !=
         interface.addresses.end();
}
bool is_ours(const Dataplane& dataplane, const IpAddress& address) {
  return std::ranges::any_of(dataplane.interfaces, [&](const Interface& interface) {
    return has_address(interface, address);
  });
}
/// The network of ours that the address is in.
std::optional<Prefix> own_network_of(const Dataplane& dataplane, const IpAddress& address) {
  for (const Interface& interface : dataplane.interfaces) {
    for (const Prefix& own : interface.addresses) {
      if (own.contains(address)) return own;
    }
  }
  return std::nullopt;
}
bool has_route(const Dataplane& dataplane, const IpAddress& address) {
  return is_on_link(dataplane, address) ||
         std::ranges::any_of(dataplane.routes,
                             [&](const Route& route) { return route.to.contains(address); });
}

/// Of interfaces, those that `are` so: as a message enumerates them, each behind `word`.
std::string enumerate(const Dataplane& dataplane, std::string_view word, auto are) {
  std::vector<std::string> names;
  for (const Interface& interface : dataplane.interfaces) {
    if (are(interface)) names.push_back(std::string(word) + interface.name);
  }
  return alternatives(std::vector<std::string_view>(names.begin(), names.end()));
}

/// Why it is not known which interface the next hop is on.
Finding unplaced(const Route& route, const Dataplane& dataplane) {
  const std::string via = "via " + quote(route.via.to_string());
  const auto is_named = [&](const Interface& one) { return one.name == route.interface; };
  if (route.interface && std::ranges::none_of(dataplane.interfaces, is_named)) {
    return {"interface " + quote(*route.interface),
            enumerate(dataplane, "", [](const Interface&) { return true; }),
            "write the interface that the next hop is on"};
  }
  if (!wire::is_link_local(route.via)) {
    if (!route.interface) {
      return {via + ", outside every interface's subnet",
              "an address that an interface reaches directly",
              "write the router in one of the interfaces' subnets"};
    }
    return {via + ", outside the subnets of interface " + quote(*route.interface),
            "an address that this interface reaches directly",
            "write a router in one of its subnets, or another interface"};
  }
  if (route.interface || std::ranges::none_of(dataplane.interfaces, has_ipv6)) {
    return {via + ", but " +
                (route.interface ? "interface " + quote(*route.interface) : "every interface") +
                " is without IPv6",
            "an interface with an IPv6 address",
            "add one to the addresses of the interface that the next hop is on"};
  }
  return {via + ", a link-local address, which may be on any interface with IPv6",
          "the interface that it is on",
          "add " + enumerate(dataplane, "interface: ", has_ipv6) + " to the route"};
}

std::optional<Finding> problem_of_next_hop(const Route& route, const Dataplane& dataplane) {
  const auto index = interface_of(dataplane, route);
  const bool is_own = wire::is_link_local(route.via)
                          ? index && has_address(dataplane.interfaces[*index], route.via)
                          : is_ours(dataplane, route.via);
  const std::string via = "via " + quote(route.via.to_string());
  if (is_own) {
    return Finding{via + ", the gateway's own address", "another router's address",
                   "write the next hop"};
  }
  if (!index) return unplaced(route, dataplane);
  for (const Prefix& own : dataplane.interfaces[*index].addresses) {
    if (!own.contains(route.via) || !is_network_or_broadcast({route.via, own.length})) continue;
    return Finding{via + ", the " + (route.via == own.first() ? "own" : "broadcast") +
                       " address of the network " + Prefix{own.first(), own.length}.to_string(),
                   "a router's address", "write the next hop"};
  }
  return std::nullopt;
}

/// What is reached without a router: the interface's address decides there, and the route would
/// never be used.
std::optional<Finding> problem_of_network(const Route& route, const Dataplane& dataplane) {
  for (const Interface& interface : dataplane.interfaces) {
    for (const Prefix& own : interface.addresses) {
      const bool is_own_address =
          route.to == Prefix{own.address, static_cast<std::uint8_t>(own.address.size() * 8)};
      if (!is_own_address && route.to != Prefix{own.first(), own.length}) continue;
      return Finding{
          "a route to " + route.to.to_string() +
              (is_own_address ? ", the gateway's own address"
                              : ", which interface " + quote(interface.name) + " reaches directly"),
          "a network behind a router", "remove the route, or write a longer prefix"};
    }
  }
  return std::nullopt;
}

/// The paths count the routes that stand in the file, and not all of them were read: the route's
/// own place serves.
void check_route(const Route& route, const Dataplane& dataplane, Diagnostics& diagnostics) {
  for (const auto& problem :
       {problem_of_next_hop(route, dataplane), problem_of_network(route, dataplane)}) {
    if (problem) diagnostics.error(route.location, "dataplane.routes", *problem);
  }
}

void check_routes(const Dataplane& dataplane, Diagnostics& diagnostics) {
  std::vector<const Route*> sorted;
  for (const Route& route : dataplane.routes) {
    check_route(route, dataplane, diagnostics);
    sorted.push_back(&route);
  }
  std::ranges::sort(sorted, {}, [](const Route* route) {
    return std::tuple(route->to, route->location.line, route->location.column);
  });
  for (std::size_t index = 1; index < sorted.size(); ++index) {
    if (sorted[index]->to != sorted[index - 1]->to) continue;
    diagnostics.error(sorted[index]->location, "dataplane.routes",
                      {"a second route to " + sorted[index]->to.to_string(), "one route a network",
                       "it stands in line " + std::to_string(sorted[index - 1]->location.line) +
                           " already; remove one"});
  }
}

void check_local(const IpAddress& address, const std::string& path, const Dataplane& dataplane,
                 Diagnostics& diagnostics) {
  if (is_ours(dataplane, address)) return;
  const std::string ours = list_addresses(dataplane);
  diagnostics.error(path, {quote(address.to_string()) + ", which no interface has",
                           ours.empty() ? "an address of an interface" : "one of " + ours,
                           "write one of them, or add it to an interface"});
}

void check_remote(const IpAddress& address, const std::string& path, const Dataplane& dataplane,
                  bool are_routes_read, Diagnostics& diagnostics) {
  const auto network = own_network_of(dataplane, address);
  if (is_ours(dataplane, address)) {
    diagnostics.error(path, {quote(address.to_string()) + ", the gateway's own address",
                             "the peer's address", "local and remote may be swapped"});
  } else if (network && is_network_or_broadcast({address, network->length})) {
    diagnostics.error(path, {quote(address.to_string()) + ", the " +
                                 (address == network->first() ? "own" : "broadcast") +
                                 " address of the network " +
                                 Prefix{network->first(), network->length}.to_string(),
                             "the address of a gateway", "write the peer's own address"});
  } else if (are_routes_read && !has_route(dataplane, address)) {
    diagnostics.warning(
        path, {quote(address.to_string()) + ", to which no route leads", "an address with a route",
               "add a route {to: " +
                   Prefix{address, static_cast<std::uint8_t>(address.size() * 8)}.to_string() +
                   ", via: …}"});
  }
}

void check_peer_families(const std::optional<IpAddress>& local,
                         const std::optional<IpAddress>& remote, const std::string& path,
                         Diagnostics& diagnostics) {
  if (!local || !remote || local->family == remote->family) return;
  diagnostics.error(
      path, {quote(remote->to_string()),
             std::string(local->is_v4() ? "an IPv4" : "an IPv6") + " address, as the local one is",
             "write both of one family"});
}

}  // namespace

bool are_interfaces_read(const Config& config, const Diagnostics& diagnostics) {
  return !config.dataplane.interfaces.empty() &&
         !diagnostics.has_error_under("dataplane.interfaces");
}

namespace {

/// What could be read of the file: with part of it missing all that needs it would look wrong.
struct WhatWasRead {
  const Dataplane* dataplane = nullptr;  ///< nullptr: not all interfaces
  bool routes = false;
};

/// The outer addresses of a connection or a manual SA; nullopt: left open, or refused before.
void check_peers(const std::optional<IpAddress>& local, const std::optional<IpAddress>& remote,
                 const std::string& local_path, const std::string& remote_path,
                 const WhatWasRead& known, Diagnostics& diagnostics) {
  const Dataplane* const dataplane = known.dataplane;
  if (local && dataplane != nullptr) check_local(*local, local_path, *dataplane, diagnostics);
  if (remote && is_nobodys(*remote)) {
    diagnostics.error(remote_path, {quote(remote->to_string()), "the address of a gateway",
                                    "write the peer's own address"});
  } else if (remote && dataplane != nullptr) {
    check_remote(*remote, remote_path, *dataplane, known.routes, diagnostics);
  }
  check_peer_families(local, remote, remote_path, diagnostics);
}

}  // namespace

void check_addresses(const Config& config, Diagnostics& diagnostics) {
  const WhatWasRead known{are_interfaces_read(config, diagnostics) ? &config.dataplane : nullptr,
                          !diagnostics.has_error_under("dataplane.routes")};
  check_interfaces(config.dataplane, diagnostics);
  if (known.dataplane != nullptr) check_routes(config.dataplane, diagnostics);
  const auto if_given = [](const std::optional<IpAddress>& address) {
    return address && address->is_unspecified() ? std::nullopt : address;
  };
  for (std::size_t index = 0; index < config.connections.size(); ++index) {
    const Connection& connection = config.connections[index];
    const std::string path = indexed("connections", index);
    check_peers(if_given(connection.local.address), if_given(connection.remote.address),
                path + ".local.address", path + ".remote.address", known, diagnostics);
  }
  for (std::size_t index = 0; index < config.manual_sas.size(); ++index) {
    const ManualSa& sa = config.manual_sas[index];
    const std::string path = indexed("manual_sas", index);
    check_peers(if_given(sa.local), if_given(sa.remote), path + ".local", path + ".remote", known,
                diagnostics);
  }
}

}  // namespace culvert::config
