// The topology and the neighbours as workers read them: writes the FIB and its adjacencies.
#pragma once

#include <expected>
#include <map>
#include <optional>
#include <set>
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

  // The same in steps, for a topology that comes with other policies (change_over.hpp).

  /// All that may fail: there is room for `topology`. No packet goes another way yet; `commit` or
  /// `give_up` follows, with an error `give_up`.
  std::expected<void, std::string> reserve(const Topology& topology);
  /// What goes one way by the topology before and another by the one that was reserved, or by one
  /// of them alone, goes nowhere from now on. False: there is no such thing.
  bool withdraw();
  /// The topology that was reserved is in force; what workers found of flows before is looked for
  /// again.
  void commit();
  /// It is not to come.
  void give_up();

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
  using Ways = std::map<wire::Prefix, AdjacencyIndex>;
  /// A topology that was reserved.
  struct Coming {
    Topology topology;
    Ways ways;
    std::vector<wire::Prefix> added;   ///< to the FIB, to lead where they led without
    std::set<wire::Prefix> withdrawn;  ///< lead nowhere
  };
  std::expected<void, std::string> ways_of(const Topology& topology, Ways& ways);
  std::expected<void, std::string> make_room();
  [[nodiscard]] Ways with_neighbors() const;
  [[nodiscard]] Ways with_neighbors_to_come() const;
  void put(const wire::Prefix& to, AdjacencyIndex adjacency);
  std::expected<AdjacencyIndex, std::string> adjacency_of(const Route& route, const Topology& in);
  std::expected<Neighbor*, std::string> neighbor(const NeighborKey& key);
  std::expected<AdjacencyIndex, std::string> gateway(const NeighborKey& key, bool answers_nobody);
  void resolve(AdjacencyIndex adjacency, PortId port, const wire::MacAddress& mac);
  std::expected<AdjacencyIndex, std::string> connected(PortId port, wire::Family family,
                                                       bool answers_nobody);
  void point_routes(const NeighborKey& key, AdjacencyIndex from, AdjacencyIndex to);
  void lay_host_route(const NeighborKey& key, Neighbor& entry);
  void take_host_route(const NeighborKey& key, Neighbor& entry);
  void settle_neighbors();
  void forget(std::map<NeighborKey, Neighbor>::iterator known);
  void release_later(AdjacencyIndex adjacency);
  [[nodiscard]] bool is_gateway(const NeighborKey& key) const { return is_gateway(key, topology_); }
  [[nodiscard]] static bool is_gateway(const NeighborKey& key, const Topology& in);
  [[nodiscard]] bool is_known(const NeighborKey& key, const Neighbor& entry,
                              const Topology& in) const;
  [[nodiscard]] bool has_host_route(const NeighborKey& key) const {
    return has_host_route(key, topology_, installed_);
  }
  [[nodiscard]] static bool has_host_route(const NeighborKey& key, const Topology& in,
                                           const Ways& installed);

  Tables& tables_;
  std::map<NeighborKey, Neighbor> neighbors_;
  std::map<std::pair<PortId, wire::Family>, AdjacencyIndex> connected_;
  Topology topology_;  ///< the last that was installed
  Ways installed_;     ///< what the topology put into the FIB
  std::optional<Coming> coming_;
};

}  // namespace culvert::dataplane::control
