// The gateway's own addresses and the routes it was configured with, as the main thread asks about
// them: where does a packet of ours go, is this address ours, which address do we speak from. Pure;
// workers have the FIB.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "config/config.hpp"
#include "dataplane/control/route_index.hpp"
#include "dataplane/tables/ids.hpp"
#include "wire/arp.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane::control {

enum class RouteKind : std::uint8_t { local, connected, fixed };
/// "local", "connected", "static".
std::string_view to_string(RouteKind kind);

struct Route {
  wire::Prefix to;
  std::optional<wire::IpAddress> via;  ///< fixed only
  PortId port{};
  RouteKind kind = RouteKind::connected;
  friend bool operator==(const Route&, const Route&) = default;
};

/// A neighbour's name: an address on a port's link.
struct NeighborKey {
  PortId port{};
  wire::IpAddress address;
  friend auto operator<=>(const NeighborKey&, const NeighborKey&) = default;
};

/// What frames are addressed to where nobody can say his MAC. Locally administered (IEEE 802
/// §8.2.2), so that it is no manufacturer's; "noone" in ASCII.
inline constexpr wire::MacAddress kAssumedMac{0x02, 'n', 'o', 'o', 'n', 'e'};

struct NextHop {
  PortId port{};
  wire::IpAddress address;  ///< the neighbour: the destination itself on a connected network
  friend bool operator==(const NextHop&, const NextHop&) = default;
};

class Topology {
 public:
  Topology() = default;
  /// `ports`: of the interfaces, in their order. Without: as they stand.
  explicit Topology(const config::Dataplane& dataplane, std::span<const PortId> ports = {});

  /// Longest prefix first; own addresses are host routes.
  [[nodiscard]] const std::vector<Route>& routes() const { return routes_; }
  /// Configured routes of which nobody knows by which port they leave: a configuration that was
  /// checked has none.
  [[nodiscard]] const std::vector<config::Route>& unplaced() const { return unplaced_; }
  [[nodiscard]] bool is_own(const wire::IpAddress& address) const;
  [[nodiscard]] bool is_own_on(PortId port, const wire::IpAddress& address) const;
  /// The same addresses on the same ports.
  [[nodiscard]] bool has_addresses_of(const Topology& other) const { return own_ == other.own_; }
  /// Which port has an address of ours.
  [[nodiscard]] std::optional<PortId> port_of(const wire::IpAddress& own) const;
  /// Where a packet goes; nullopt: no route, or it is for us.
  [[nodiscard]] std::optional<NextHop> next_hop(const wire::IpAddress& destination) const;
  /// Whether a configured route leads to the neighbour.
  [[nodiscard]] bool is_gateway(const NeighborKey& neighbor) const {
    return gateways_.contains(neighbor);
  }
  /// Our address on a port that a neighbour should know us by: the one whose network holds it,
  /// else the first of its family that is link-local as it is, else the first.
  [[nodiscard]] std::optional<wire::IpAddress> source_on(PortId port,
                                                         const wire::IpAddress& neighbor) const;
  /// Whether a neighbour may be on the port's link: inside one of its networks, and not their
  /// network or broadcast address; or link-local, where the port has IPv6.
  [[nodiscard]] bool is_on_link(PortId port, const wire::IpAddress& address) const;
  /// Whether nobody on the port's link can answer (ports::answers_nobody): every neighbour there is
  /// taken to have kAssumedMac.
  [[nodiscard]] bool answers_nobody(PortId port) const;
  /// The neighbours whose MAC the operator wrote down.
  [[nodiscard]] const std::map<NeighborKey, wire::MacAddress>& static_neighbors() const {
    return static_neighbors_;
  }

 private:
  struct OwnAddress {
    PortId port{};
    wire::Prefix prefix;  ///< with host bits
    friend bool operator==(const OwnAddress&, const OwnAddress&) = default;
  };
  std::vector<OwnAddress> own_;
  std::set<PortId> silent_;  ///< nobody answers there
  std::map<NeighborKey, wire::MacAddress> static_neighbors_;
  std::set<NeighborKey> gateways_;
  std::vector<Route> routes_;
  RouteIndex index_;  ///< of them
  std::vector<config::Route> unplaced_;
};

/// IPv4 networks of up to 30 bits have a network and a broadcast address that no host has
/// (RFC 922; RFC 3021 for /31).
[[nodiscard]] bool has_broadcast(const wire::Prefix& network);

}  // namespace culvert::dataplane::control
