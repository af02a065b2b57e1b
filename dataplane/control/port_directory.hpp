// Which port each configured interface is, over reloads. An interface is its device and its VLAN:
// under another name or at another place in the file it stays the port that it was, with its
// neighbours, flows and counters. Pure; main thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "dataplane/tables/ids.hpp"
#include "runtime/event_loop.hpp"
#include "wire/vlan.hpp"

namespace culvert::dataplane::control {

using runtime::Instant;

class PortDirectory {
 public:
  /// How long the number of a removed interface is no other's: packets name their port where they
  /// wait, fragments for 60 seconds, what is held for an SA or goes through a ring for less.
  static constexpr Instant kRest = std::chrono::seconds(90);

  /// What has a PortId.
  struct Place {
    std::size_t device = 0;  ///< in the order of the first configuration
    wire::vlan::Ids vlan;
    bool is_used = false;   ///< an interface; false: it was one
    bool receives = false;  ///< all that its device has, for the device's others too
    /// Not used: since when, and whether no worker can be looking at it any more.
    Instant unused_since{};
    bool is_quiet = false;
  };

  /// The first configuration: its devices are open from now on, and no others.
  explicit PortDirectory(const config::Dataplane& dataplane);
  /// For another configuration. The error is a sentence: a device that is not open
  /// (config::restart_reasons says so before), or too many numbers rest.
  [[nodiscard]] std::expected<PortDirectory, std::string> changed(const config::Dataplane& wanted,
                                                                  Instant now) const;
  /// `refused` came of `changed` and was made known to workers, but is not in force after all: what
  /// had a number there alone rests like what was removed.
  void take_back(const PortDirectory& refused, Instant now);
  /// Ports that wait for a grace period to pass, to be told of it by `has_become_quiet`.
  [[nodiscard]] std::vector<PortId> not_quiet() const;
  /// A grace period has passed since `unused_since`, if that is what it was then.
  void has_become_quiet(PortId port, Instant unused_since);

  /// Of the interfaces, in their order.
  [[nodiscard]] std::span<const PortId> ports() const { return ports_; }
  [[nodiscard]] std::size_t size() const { return places_.size(); }
  [[nodiscard]] const Place& operator[](PortId port) const { return places_[raw(port)]; }
  /// Where in the file its interface stands; nullopt: it has none.
  [[nodiscard]] std::optional<std::size_t> interface_of(PortId port) const;
  /// Its device has no other interface and its frames no tag: what the device counts is the
  /// interface's, and its frames need no sorting.
  [[nodiscard]] bool is_alone(PortId port) const;

 private:
  [[nodiscard]] std::optional<PortId> find(std::size_t device, const wire::vlan::Ids& vlan) const;
  [[nodiscard]] std::optional<PortId> find_rested(Instant now) const;
  std::optional<PortId> take(std::size_t device, const wire::vlan::Ids& vlan, Instant now);
  void choose_receivers(Instant now);

  std::vector<std::string> devices_;  ///< names
  std::vector<Place> places_;         ///< by PortId
  std::vector<PortId> ports_;
};

}  // namespace culvert::dataplane::control
