#include "dataplane/control/forwarding.hpp"

#include <algorithm>
#include <utility>

#include "runtime/log.hpp"
#include "wire/neighbor_discovery.hpp"

namespace culvert::dataplane::control {
namespace {

// What the check takes finds its place here, and every neighbour beside it: at a start, and in a
// reload after months, which has the old topology's routes and the new one's for a moment.
/// Those that the link told, and those that the operator wrote down beside them.
constexpr std::size_t kMostNeighbors = NeighborTable::kMaxNeighbors + config::limits::kNeighbors;
constexpr std::size_t kMostOwn = config::limits::kInterfaces * config::limits::kInterfaceAddresses;
/// Of each address of ours: itself, its network, and that one's two addresses that are nobody's.
constexpr std::size_t kMostRoutes = config::limits::kRoutes + 4 * kMostOwn;
static_assert(2 * kMostRoutes + kMostNeighbors <= kMaxRoutes);
/// A neighbour, and a next hop, may have an old and a new adjacency for a moment; a network is one
/// of its port and family.
constexpr std::size_t kMostNetworks = 2 * kMaxPorts;
static_assert(2 * (kMostNeighbors + config::limits::kRoutes) + kMostNetworks <= kMaxAdjacencies);

constexpr std::string_view kTableFull = "the adjacency table is full";

wire::Prefix host(const wire::IpAddress& address) {
  return {address, static_cast<std::uint8_t>(address.size() * 8)};
}

void log_failure(const wire::Prefix& prefix, const std::string& error) {
  runtime::log(runtime::Level::error, "route_not_installed",
               {{"to", prefix.to_string()}, {"error", error}});
}

/// Where the longest that holds all of `to` leads.
AdjacencyIndex way_of(const std::map<wire::Prefix, AdjacencyIndex>& ways, const wire::Prefix& to) {
  for (unsigned length = to.length + 1U; length-- > 0;) {
    const wire::Prefix shorter{to.address, static_cast<std::uint8_t>(length)};
    const auto found = ways.find({shorter.first(), shorter.length});
    if (found != ways.end()) return found->second;
  }
  return Adjacencies::kDrop;
}

}  // namespace

std::expected<void, std::string> Forwarding::install(const Topology& topology) {
  if (auto done = reserve(topology); !done) {
    give_up();
    return done;
  }
  commit();
  return {};
}

std::expected<void, std::string> Forwarding::reserve(const Topology& topology) {
  if (!topology.unplaced().empty()) {
    const config::Route& route = topology.unplaced().front();
    return std::unexpected("no interface is known to reach " + route.via.to_string() +
                           ", through which dataplane.routes has " + route.to.to_string());
  }
  coming_.emplace();
  coming_->topology = topology;
  if (auto done = ways_of(topology, coming_->ways); !done) return done;
  return make_room();
}

std::expected<void, std::string> Forwarding::ways_of(const Topology& topology, Ways& ways) {
  for (const Route& route : topology.routes()) {
    const auto adjacency = adjacency_of(route, topology);
    if (!adjacency) return std::unexpected(adjacency.error());
    // Longest first, own addresses before networks: the first route for a prefix is the one meant.
    if (!ways.emplace(route.to, *adjacency).second) continue;
    if (route.kind == RouteKind::connected && has_broadcast(route.to)) {
      ways.emplace(host(route.to.first()), Adjacencies::kBroadcast);
      ways.emplace(host(route.to.last()), Adjacencies::kBroadcast);
    }
  }
  return {};
}

/// A place in the FIB for each that has none. What is there can lead elsewhere without room.
std::expected<void, std::string> Forwarding::make_room() {
  const Ways before = with_neighbors();
  for (const auto& [prefix, adjacency] : coming_->ways) {
    if (before.contains(prefix)) continue;
    if (auto done = tables_.fib->add(prefix, way_of(before, prefix)); !done) return done;
    coming_->added.push_back(prefix);
  }
  return {};
}

bool Forwarding::withdraw() {
  const Ways before = with_neighbors(), after = with_neighbors_to_come();
  for (const Ways* const ways : {&before, &std::as_const(coming_->ways)}) {
    for (const auto& [prefix, adjacency] : *ways) {
      if (way_of(before, prefix) != way_of(after, prefix)) coming_->withdrawn.insert(prefix);
    }
  }
  // All at once: they lead nowhere only as long as they have to.
  for (const wire::Prefix& prefix : coming_->withdrawn) put(prefix, Adjacencies::kWithdrawn);
  return !coming_->withdrawn.empty();
}

void Forwarding::commit() {
  const Ways before = std::exchange(installed_, std::move(coming_->ways));
  topology_ = std::move(coming_->topology);
  for (const auto& [prefix, adjacency] : installed_) {
    const auto known = before.find(prefix);
    const bool is_there =
        known != before.end() && known->second == adjacency && !coming_->withdrawn.contains(prefix);
    if (!is_there) put(prefix, adjacency);
  }
  // Behind the others: what is shorter steps in.
  for (const auto& [prefix, adjacency] : before) {
    if (!installed_.contains(prefix)) tables_.fib->remove(prefix);
  }
  coming_.reset();
  settle_neighbors();
  // What came to an address of ours meanwhile met no route that was ours, and was taken for
  // transit.
  tables_.spd->outdate();
}

void Forwarding::give_up() {
  if (!coming_) return;
  for (const wire::Prefix& prefix : coming_->added) tables_.fib->remove(prefix);
  coming_.reset();
  settle_neighbors();
}

/// What the FIB holds of ours.
Forwarding::Ways Forwarding::with_neighbors() const {
  Ways ways = installed_;
  for (const auto& [key, entry] : neighbors_) {
    if (entry.has_route) ways.emplace(host(key.address), entry.adjacency);
  }
  return ways;
}

Forwarding::Ways Forwarding::with_neighbors_to_come() const {
  Ways ways = coming_->ways;
  for (const auto& [key, entry] : neighbors_) {
    const bool stays = is_known(key, entry, coming_->topology) ||
                       (entry.has_route && is_gateway(key, coming_->topology));
    if (stays && has_host_route(key, coming_->topology, coming_->ways)) {
      ways.emplace(host(key.address), entry.adjacency);
    }
  }
  return ways;
}

void Forwarding::put(const wire::Prefix& to, AdjacencyIndex adjacency) {
  if (auto done = tables_.fib->add(to, adjacency); !done) log_failure(to, done.error());
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
    if (!is_known(key, entry, topology_) && !is_gateway(key)) {
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

/// A host route that the operator wrote for the neighbour's address stands, and who is on the link
/// no more has none. A link-local address may be another neighbour's on each link: it leads to the
/// one on the link that a connected network says, if one does.
bool Forwarding::has_host_route(const NeighborKey& key, const Topology& in, const Ways& installed) {
  if (installed.contains(host(key.address))) return false;
  if (!in.is_on_link(key.port, key.address)) return false;
  if (!wire::is_link_local(key.address)) return true;
  const auto& routes = in.routes();
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

bool Forwarding::is_gateway(const NeighborKey& key, const Topology& in) {
  return std::ranges::any_of(in.routes(), [&](const Route& route) {
    return route.kind == RouteKind::fixed && route.port == key.port && route.via == key.address;
  });
}

/// Nobody loses an assumed one of an interface that is gone.
bool Forwarding::is_known(const NeighborKey& key, const Neighbor& entry, const Topology& in) const {
  const bool is_assumed = in.answers_nobody(key.port) && !in.static_neighbors().contains(key);
  return entry.resolved && !is_assumed && tables_.ports[raw(key.port)].is_used;
}

void Forwarding::release_later(AdjacencyIndex adjacency) {
  tables_.reclaimer->retire(
      [adjacencies = tables_.adjacencies.get(), adjacency] { adjacencies->release(adjacency); });
}

}  // namespace culvert::dataplane::control
