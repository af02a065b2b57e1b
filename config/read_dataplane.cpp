// dataplane: workers, interfaces, routes, neighbours, limits, idle, memory.
#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>

#include "config/limits.hpp"
#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace culvert::config {
namespace {

constexpr std::string_view kDeviceExpected =
    "a PCI address such as 0000:03:00.0 or a DPDK virtual device such as "
    "net_af_packet0,iface=eth0";

bool is_pci_address(std::string_view text) {
  // [domain:]bus:device.function, hexadecimal.
  const auto matches = [text](std::string_view shape) {
    return text.size() == shape.size() && std::ranges::equal(text, shape, [](char c, char wanted) {
             return wanted == 'x' ? std::isxdigit(static_cast<unsigned char>(c)) != 0 : c == wanted;
           });
  };
  return matches("xxxx:xx:xx.x") || matches("xx:xx.x");
}

/// "net_tap0,iface=lan": a driver of network devices, its number, and its arguments.
bool is_virtual_device(std::string_view text) {
  const std::string_view driver = text.substr(0, text.find(','));
  const bool word = std::ranges::all_of(
      driver, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
  return word && driver.size() > 5 && driver.starts_with("net_") &&
         text.find_first_of(" \t\n") == std::string_view::npos;
}

/// What to write for kernel interfaces that stand where a device belongs: packet sockets, each of a
/// number that no other device of the file has, so that all of the advice can be followed at once.
class PacketSockets {
 public:
  explicit PacketSockets(const Field& interfaces) {
    if (!interfaces.present()) return;
    for (const Node& item : interfaces.node->items) {
      const auto device = std::ranges::find(item.entries, "device", &Node::Entry::key);
      if (device == item.entries.end()) continue;
      const std::string& text = device->value.text;
      taken_.insert(text.substr(0, text.find(',')));
    }
  }

  std::string device_for(const std::string& interface) {
    std::string& name = names_[interface];
    for (std::size_t number = 0; name.empty(); ++number) {
      const std::string free = "net_af_packet" + std::to_string(number);
      if (taken_.insert(free).second) name = free;
    }
    return name + ",iface=" + interface;
  }

 private:
  std::set<std::string> taken_;
  std::map<std::string, std::string> names_;  ///< by the kernel's: VLANs of one share a device
};

std::optional<std::string> read_device(const Field& field, PacketSockets& packet_sockets) {
  auto text = read_text(field, kDeviceExpected);
  if (!text || is_pci_address(*text) || is_virtual_device(*text)) return text;
  const bool kernel_name = std::ranges::all_of(
      *text, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; });
  field.error({quote(*text), std::string(kDeviceExpected),
               kernel_name ? "write \"" + packet_sockets.device_for(*text) +
                                 "\" for a kernel interface, or the PCI address of the NIC"
                           : ""});
  return std::nullopt;
}

std::optional<std::uint16_t> read_vlan_id(const Field& field) {
  const auto id = read_number(field, {wire::vlan::kLeastId, wire::vlan::kMostId, ""});
  if (!id) return std::nullopt;
  return static_cast<std::uint16_t>(*id);
}

/// One VLAN ID, or the outer and the inner one of a frame with two tags.
wire::vlan::Ids read_vlan(const Field& field) {
  wire::vlan::Ids ids;
  if (!field.present()) return ids;
  if (field.node->kind != Node::Kind::list) {
    if (const auto id = read_vlan_id(field)) ids.add(*id);
    return ids;
  }
  const auto items = read_items(field, "VLAN IDs", wire::vlan::kMaxTags);
  if (items.empty()) {
    field.error({"an empty list", "one VLAN ID, or the outer and the inner one",
                 "write vlan: 100 or vlan: [200, 100], or leave it out for untagged frames"});
  }
  for (const Field& item : items) {
    if (const auto id = read_vlan_id(item)) ids.add(*id);
  }
  return ids;
}

void read_interface(const Field& field, PacketSockets& packet_sockets, Interface& interface) {
  MapReader map(field, "an interface: name, device and addresses");
  interface.location = field.location;
  set(interface.name,
      read_name(map.require("name", "a name", "write name: wan"), limits::kNameCharacters));
  set(interface.device,
      read_device(map.require("device", kDeviceExpected, "write the device's PCI address"),
                  packet_sockets));
  const Field addresses = map.require("addresses", "a list of addresses with their prefix lengths",
                                      "write addresses: [192.0.2.1/24]");
  for (const Field& item : read_items(addresses, "addresses", limits::kInterfaceAddresses)) {
    if (const auto prefix = read_interface_address(item)) interface.addresses.push_back(*prefix);
  }
  const auto mtu = read_number(map.take("mtu"), {limits::kMtuMin, limits::kMtuMax, "bytes"});
  if (mtu) interface.mtu = static_cast<std::uint16_t>(*mtu);
  interface.vlan = read_vlan(map.take("vlan"));
  map.finish();
}

void read_route(const Field& field, std::vector<Route>& routes) {
  MapReader map(field, "a route: {to: NETWORK, via: ADDRESS}, perhaps with interface: NAME");
  const auto to = read_network(
      map.require("to", "a network such as 10.2.0.0/16", "write to: 0.0.0.0/0 for everything"));
  const auto via = read_address(map.require("via", "the next hop's address", "write via: ADDRESS"));
  const Field interface = map.take("interface");
  std::optional<std::string> on;
  if (interface.present()) on = read_name(interface, limits::kNameCharacters);
  map.finish();
  if (!to || !via) return;
  if (to->address.family != via->family) {
    field.diagnostics->error(field.path + ".via",
                             {quote(via->to_string()),
                              std::string("an ") + (to->address.is_v4() ? "IPv4" : "IPv6") +
                                  " address, as the network is",
                              "write a next hop of the same family"});
    return;
  }
  routes.push_back({*to, *via, field.location, std::move(on)});
}

void read_neighbor(const Field& field, std::size_t entry, std::vector<StaticNeighbor>& neighbors) {
  MapReader map(field, "a neighbour: {interface: NAME, address: ADDRESS, mac: MAC}");
  const auto interface =
      read_name(map.require("interface", "the name of an interface", "write interface: wan"),
                limits::kNameCharacters);
  const auto address =
      read_address(map.require("address", "the neighbour's address", "write address: 192.0.2.2"));
  const auto mac = read_mac(
      map.require("mac", "the neighbour's MAC address", "write mac: \"02:00:00:00:00:01\""));
  map.finish();
  if (interface && address && mac)
    neighbors.push_back({*interface, *address, *mac, field.location, entry});
}

void read_workers(const Field& field, Dataplane& dataplane) {
  if (!field.present()) return;
  if (field.node->kind != Node::Kind::list) {
    const auto count = read_number(field, {1, limits::kWorkers, "workers"});
    if (count) dataplane.workers = static_cast<std::uint32_t>(*count);
    return;
  }
  for (const Field& item : read_items(field, "cores", limits::kWorkers)) {
    const auto core = read_number(item, {0, limits::kCore, ""});
    if (!core) continue;
    const auto number = static_cast<std::uint32_t>(*core);
    if (std::ranges::find(dataplane.cores, number) != dataplane.cores.end()) {
      item.error({"core " + std::to_string(number) + " a second time", "each core once",
                  "one worker runs on a core"});
    }
    dataplane.cores.push_back(number);
  }
  if (field.node->items.empty()) {
    field.error({"an empty list", "a number of workers or a list of cores", "write workers: 1"});
  }
  dataplane.workers =
      std::max<std::uint32_t>(1, static_cast<std::uint32_t>(dataplane.cores.size()));
}

void read_limits(const Field& field, Limits& table_limits) {
  MapReader map(field, "limits: {sas: NUMBER, policies: NUMBER, flows: NUMBER}");
  const auto sas = read_number(map.take("sas"), {2, limits::kSas, "SAs"});
  if (sas) table_limits.sas = static_cast<std::uint32_t>(*sas);
  const auto policies = read_number(map.take("policies"), {1, limits::kPolicies, "policies"});
  if (policies) table_limits.policies = static_cast<std::uint32_t>(*policies);
  const auto flows =
      read_number(map.take("flows"), {limits::kFlowsMin, limits::kFlowsMax, "flows"});
  if (flows) table_limits.flows = static_cast<std::uint32_t>(*flows);
  map.finish();
}

}  // namespace

void read_dataplane(const Field& field, Dataplane& dataplane) {
  static constexpr std::array kIdleWords{Word<IdleMode>{"busy", IdleMode::busy},
                                         Word<IdleMode>{"adaptive", IdleMode::adaptive},
                                         Word<IdleMode>{"interrupt", IdleMode::interrupt}};
  using crypto::esp::EngineWish;
  static constexpr std::array kEngineWords{Word<EngineWish>{"auto", EngineWish::automatic},
                                           Word<EngineWish>{"ipsec-mb", EngineWish::ipsec_mb},
                                           Word<EngineWish>{"openssl", EngineWish::openssl}};
  MapReader map(field, "a map: workers, interfaces, routes, neighbors, limits, idle, crypto");
  read_workers(map.take("workers"), dataplane);
  const Field interfaces = map.require("interfaces", "at least one interface",
                                       "write name, device and addresses of each");
  PacketSockets packet_sockets(interfaces);
  for (const Field& item : read_items(interfaces, "interfaces", limits::kInterfaces)) {
    read_interface(item, packet_sockets, dataplane.interfaces.emplace_back());
  }
  if (interfaces.present() && interfaces.node->kind == Node::Kind::list &&
      interfaces.node->items.empty()) {
    interfaces.error(
        {"an empty list", "at least one interface", "write name, device and addresses of each"});
  }
  for (const Field& item : read_items(map.take("routes"), "routes", limits::kRoutes)) {
    read_route(item, dataplane.routes);
  }
  std::size_t entry = 0;
  for (const Field& item : read_items(map.take("neighbors"), "neighbors", limits::kNeighbors)) {
    read_neighbor(item, entry++, dataplane.neighbors);
  }
  read_limits(map.take("limits"), dataplane.limits);
  set(dataplane.idle, read_choice(map.take("idle"), kIdleWords));
  set(dataplane.engine, read_choice(map.take("crypto"), kEngineWords));
  const auto memory =
      read_number(map.take("memory_mib"), {limits::kMemoryMibMin, limits::kMemoryMibMax, "MiB"});
  if (memory) dataplane.memory_mib = static_cast<std::uint32_t>(*memory);
  set(dataplane.huge_pages_required, read_boolean(map.take("huge_pages_required")));
  map.finish();
}

}  // namespace culvert::config
