// The topology and the neighbours as workers read them: writes the FIB and its adjacencies.
#pragma once

#include <expected>
#include <map>
#include <string>
#include <vector>

#include "dataplane/control/neighbor_table.hpp"
#include "dataplane/control/topology.hpp"
#include "dataplane/tables/tables.hpp"
#include "wire/arp.hpp"

namespace culvert::dataplane::control {

class Forwarding {
 public:
  explicit Forwarding(Tables& tables) : tables_(tables) {}

  /// Installs all of `topology`'s routes and takes out those it installed before and that are no
  /// longer there. The error is a sentence; what was there before stays.
  std::expected<void, std::string> install(const Topology& topology);
  /// Ports are others than before, or have other MTUs: so have adjacencies, and what workers
  /// remember of flows is out of date. Behind `install`, that of a topology without ports that are
  /// not used any more.
  void ports_changed();

  /// Packets for the neighbour and for routes through it go to `mac` from now on.
  void neighbor_resolved(const NeighborKey& key, const wire::MacAddress& mac);
  /// The next packet for it comes to the main thread; where nobody could answer it, packets go to
  /// kAssumedMac.
  void neighbor_lost(const NeighborKey& key);

 private:
  struct Neighbor {
    AdjacencyIndex adjacency{};
    bool resolved = false;
    bool was_resolved = false;  ///< ever: its header has been read
    wire::MacAddress mac{};
    bool has_route = false;  ///< its host route is in the FIB, ours to take out
  };
  std::expected<void, std::string> lay(const Topology& topology,
                                       std::map<wire::Prefix, AdjacencyIndex>& installed);
  void take_back(const std::map<wire::Prefix, AdjacencyIndex>& installed);
  std::expected<AdjacencyIndex, std::string> adjacency_of(const Route& route, const Topology& in);
  std::expected<Neighbor*, std::string> neighbor(const NeighborKey& key);
  std::expected<AdjacencyIndex, std::string> gateway(const NeighborKey& key, bool answers_nobody);
  void resolve(AdjacencyIndex adjacency, PortId port, const wire::MacAddress& mac);
  std::expected<AdjacencyIndex, std::string> connected(PortId port, wire::Family family,
                                                       bool answers_nobody);
  std::expected<void, std::string> add(const wire::Prefix& to, AdjacencyIndex adjacency,
                                       std::map<wire::Prefix, AdjacencyIndex>& installed);
  void point_routes(const NeighborKey& key, AdjacencyIndex from, AdjacencyIndex to);
  void lay_host_route(const NeighborKey& key, Neighbor& entry);
  void take_host_route(const NeighborKey& key, Neighbor& entry);
  void settle_neighbors();
  void forget(std::map<NeighborKey, Neighbor>::iterator known);
  void release_later(AdjacencyIndex adjacency);
  [[nodiscard]] bool is_gateway(const NeighborKey& key) const;
  [[nodiscard]] bool is_assumed(const NeighborKey& key) const;
  [[nodiscard]] bool has_host_route(const NeighborKey& key) const;

  Tables& tables_;
  std::map<NeighborKey, Neighbor> neighbors_;
  std::map<std::pair<PortId, wire::Family>, AdjacencyIndex> connected_;
  Topology topology_;                                 ///< the last that was installed
  std::map<wire::Prefix, AdjacencyIndex> installed_;  ///< what the topology put into the FIB
};

}  // namespace culvert::dataplane::control
