#include "dataplane/control/forwarding.hpp"

#include <algorithm>

#include "runtime/log.hpp"
#include "wire/neighbor_discovery.hpp"

namespace culvert::dataplane::control {
namespace {

constexpr std::string_view kTableFull = "the adjacency table is full";

wire::Prefix host(const wire::IpAddress& address) {
  return {address, static_cast<std::uint8_t>(address.size() * 8)};
}

void log_failure(const wire::Prefix& prefix, const std::string& error) {
  runtime::log(runtime::Level::error, "route_not_installed",
               {{"to", prefix.to_string()}, {"error", error}});
}

}  // namespace

std::expected<void, std::string> Forwarding::install(const Topology& topology) {
  if (!topology.unplaced().empty()) {
    const config::Route& route = topology.unplaced().front();
    return std::unexpected("no interface is known to reach " + route.via.to_string() +
                           ", through which dataplane.routes has " + route.to.to_string());
  }
  std::map<wire::Prefix, AdjacencyIndex> installed;
  if (auto done = lay(topology, installed); !done) {
    take_back(installed);
    return done;
  }
  for (const auto& [prefix, adjacency] : installed_) {
    if (!installed.contains(prefix)) tables_.fib->remove(prefix);
  }
  installed_ = std::move(installed);
  topology_ = topology;
  settle_neighbors();
  return {};
}

std::expected<void, std::string> Forwarding::lay(
    const Topology& topology, std::map<wire::Prefix, AdjacencyIndex>& installed) {
  for (const Route& route : topology.routes()) {
    const auto adjacency = adjacency_of(route, topology);
    if (!adjacency) return std::unexpected(adjacency.error());
    // Longest first, own addresses before networks: the first route for a prefix is the one meant.
    if (installed.contains(route.to)) continue;
    if (auto done = add(route.to, *adjacency, installed); !done) return done;
    if (route.kind == RouteKind::connected && has_broadcast(route.to)) {
      for (const wire::IpAddress& nobody : {route.to.first(), route.to.last()}) {
        if (installed.contains(host(nobody))) continue;
        if (auto done = add(host(nobody), Adjacencies::kBroadcast, installed); !done) return done;
      }
    }
  }
  return {};
}

/// What a topology that found no room has put into the FIB makes place for what was there.
void Forwarding::take_back(const std::map<wire::Prefix, AdjacencyIndex>& installed) {
  const auto put = [&](const wire::Prefix& to, AdjacencyIndex adjacency) {
    if (auto done = tables_.fib->add(to, adjacency); !done) log_failure(to, done.error());
  };
  for (const auto& [prefix, adjacency] : installed) {
    const auto before = installed_.find(prefix);
    if (before == installed_.end()) {
      tables_.fib->remove(prefix);
    } else if (before->second != adjacency) {
      put(prefix, before->second);
    }
  }
  for (const auto& [key, entry] : neighbors_) {
    if (entry.has_route && installed.contains(host(key.address))) {
      put(host(key.address), entry.adjacency);
    }
  }
  settle_neighbors();
}

void Forwarding::ports_changed() {
  std::erase_if(connected_, [&](const auto& network) {
    const PortInfo& port = tables_.ports[raw(network.first.first)];
    if (!port.is_used) release_later(network.second);
    return !port.is_used;
  });
  for (const auto& [network, adjacency] : connected_) {
    tables_.adjacencies->set_mtu(adjacency, tables_.ports[raw(network.first)].mtu);
  }
  for (const auto& [key, entry] : neighbors_) {
    tables_.adjacencies->set_mtu(entry.adjacency, tables_.ports[raw(key.port)].mtu);
  }
  tables_.reclaimer->outdate();
}

/// A new topology may say something else of a neighbour that is known: whether it has a host route,
/// and whether it is anybody's gateway.
void Forwarding::settle_neighbors() {
  for (auto next = neighbors_.begin(); next != neighbors_.end();) {
    const auto known = next++;
    auto& [key, entry] = *known;
    // Nobody loses an assumed one of an interface that is gone.
    const bool is_known =
        entry.resolved && !is_assumed(key) && tables_.ports[raw(key.port)].is_used;
    if (!is_known && !is_gateway(key)) {
      tables_.adjacencies->unresolve(entry.adjacency);
      forget(known);
    } else if (!has_host_route(key)) {
      take_host_route(key, entry);
    }
  }
  // Behind the others, for one address may have been another port's.
  for (auto& [key, entry] : neighbors_) {
    if (entry.resolved && !entry.has_route && has_host_route(key)) lay_host_route(key, entry);
  }
}

void Forwarding::forget(std::map<NeighborKey, Neighbor>::iterator known) {
  take_host_route(known->first, known->second);
  release_later(known->second.adjacency);
  neighbors_.erase(known);
}

void Forwarding::lay_host_route(const NeighborKey& key, Neighbor& entry) {
  if (auto done = tables_.fib->add(host(key.address), entry.adjacency); !done) {
    return log_failure(host(key.address), done.error());
  }
  entry.has_route = true;
}

/// What the topology has for its address by now stays.
void Forwarding::take_host_route(const NeighborKey& key, Neighbor& entry) {
  if (entry.has_route && !installed_.contains(host(key.address))) {
    tables_.fib->remove(host(key.address));
  }
  entry.has_route = false;
}

std::expected<void, std::string> Forwarding::add(
    const wire::Prefix& to, AdjacencyIndex adjacency,
    std::map<wire::Prefix, AdjacencyIndex>& installed) {
  const auto before = installed_.find(to);
  if (before == installed_.end() || before->second != adjacency) {
    if (auto done = tables_.fib->add(to, adjacency); !done) return done;
  }
  installed[to] = adjacency;
  return {};
}

std::expected<AdjacencyIndex, std::string> Forwarding::adjacency_of(const Route& route,
                                                                    const Topology& in) {
  const bool answers_nobody = in.answers_nobody(route.port);
  switch (route.kind) {
    case RouteKind::local:
      return Adjacencies::kLocal;
    case RouteKind::connected:
      return connected(route.port, route.to.address.family, answers_nobody);
    case RouteKind::fixed:
      return gateway({route.port, *route.via}, answers_nobody);
  }
  return Adjacencies::kDrop;
}

/// Where nobody answers, whoever is on the network is one neighbour: not even the first packet for
/// each has to come to the main thread.
std::expected<AdjacencyIndex, std::string> Forwarding::connected(PortId port, wire::Family family,
                                                                 bool answers_nobody) {
  const std::pair key{port, family};
  if (const auto known = connected_.find(key); known != connected_.end()) return known->second;
  const std::uint16_t mtu = tables_.ports[raw(port)].mtu;
  const auto index = answers_nobody
                         ? tables_.adjacencies->add_neighbor(port, wire::lowest(family), mtu)
                         : tables_.adjacencies->add_glean(port, mtu);
  if (!index) return std::unexpected(std::string(kTableFull));
  if (answers_nobody) resolve(*index, port, kAssumedMac);
  connected_[key] = *index;
  return *index;
}

std::expected<AdjacencyIndex, std::string> Forwarding::gateway(const NeighborKey& key,
                                                               bool answers_nobody) {
  const auto known = neighbor(key);
  if (!known) return std::unexpected(known.error());
  Neighbor& entry = **known;
  if (answers_nobody && !entry.was_resolved) {
    resolve(entry.adjacency, key.port, kAssumedMac);
    entry.resolved = entry.was_resolved = true;
    entry.mac = kAssumedMac;
  }
  return entry.adjacency;
}

void Forwarding::resolve(AdjacencyIndex adjacency, PortId port, const wire::MacAddress& mac) {
  tables_.adjacencies->resolve(adjacency, mac, tables_.ports[raw(port)].mac);
}

std::expected<Forwarding::Neighbor*, std::string> Forwarding::neighbor(const NeighborKey& key) {
  if (const auto known = neighbors_.find(key); known != neighbors_.end()) return &known->second;
  const auto index =
      tables_.adjacencies->add_neighbor(key.port, key.address, tables_.ports[raw(key.port)].mtu);
  if (!index) return std::unexpected(std::string(kTableFull));
  return &(neighbors_[key] = {*index});
}

void Forwarding::neighbor_resolved(const NeighborKey& key, const wire::MacAddress& mac) {
  const auto known = neighbor(key);
  if (!known) {
    log_failure(host(key.address), known.error());
    return;
  }
  Neighbor& entry = **known;
  if (entry.resolved && entry.mac == mac) return;
  const AdjacencyIndex old = entry.adjacency;
  // A header that workers may be copying is not written again: what was resolved once gets another
  // adjacency.
  if (entry.was_resolved) {
    const auto fresh =
        tables_.adjacencies->add_neighbor(key.port, key.address, tables_.ports[raw(key.port)].mtu);
    if (!fresh) {
      log_failure(host(key.address), std::string(kTableFull));
      return;
    }
    entry.adjacency = *fresh;
  }
  resolve(entry.adjacency, key.port, mac);
  entry.resolved = entry.was_resolved = true;
  entry.mac = mac;
  point_routes(key, old, entry.adjacency);
  if (old != entry.adjacency) release_later(old);
}

/// A host route that the operator wrote for the neighbour's address stands. A link-local address
/// may be another neighbour's on each link: it leads to the one on the link that a connected
/// network says, if one does.
bool Forwarding::has_host_route(const NeighborKey& key) const {
  if (installed_.contains(host(key.address))) return false;
  if (!wire::is_link_local(key.address)) return true;
  const auto& routes = topology_.routes();
  const auto route = std::ranges::find_if(
      routes, [&](const Route& candidate) { return candidate.to.contains(key.address); });
  return route != routes.end() && route->kind == RouteKind::connected && route->port == key.port;
}

/// The neighbour's host route, and the routes through it.
void Forwarding::point_routes(const NeighborKey& key, AdjacencyIndex from, AdjacencyIndex to) {
  if (has_host_route(key)) lay_host_route(key, neighbors_.at(key));
  if (from == to) return;
  for (auto& [prefix, adjacency] : installed_) {
    if (adjacency != from) continue;
    if (auto done = tables_.fib->add(prefix, to); !done) log_failure(prefix, done.error());
    adjacency = to;
  }
}

void Forwarding::neighbor_lost(const NeighborKey& key) {
  const auto known = neighbors_.find(key);
  if (known == neighbors_.end()) return;
  if (is_gateway(key) && topology_.answers_nobody(key.port)) {
    return neighbor_resolved(key, kAssumedMac);
  }
  tables_.adjacencies->unresolve(known->second.adjacency);
  known->second.resolved = false;
  if (is_gateway(key)) return;
  forget(known);
}

bool Forwarding::is_gateway(const NeighborKey& key) const {
  return std::ranges::any_of(topology_.routes(), [&](const Route& route) {
    return route.kind == RouteKind::fixed && route.port == key.port && route.via == key.address;
  });
}

bool Forwarding::is_assumed(const NeighborKey& key) const {
  return topology_.answers_nobody(key.port) && !topology_.static_neighbors().contains(key);
}

void Forwarding::release_later(AdjacencyIndex adjacency) {
  tables_.reclaimer->retire(
      [adjacencies = tables_.adjacencies.get(), adjacency] { adjacencies->release(adjacency); });
}

}  // namespace culvert::dataplane::control
