#include "dataplane/control/port_directory.hpp"

#include <algorithm>

#include "dataplane/ports/eal_arguments.hpp"

namespace culvert::dataplane::control {
namespace {

std::string device_of(const config::Interface& interface) {
  return ports::parse_device(interface.device, 1, interface.mtu).name;
}

}  // namespace

PortDirectory::PortDirectory(const config::Dataplane& dataplane) {
  for (const config::Interface& interface : dataplane.interfaces) {
    const std::string device = device_of(interface);
    const auto known = std::ranges::find(devices_, device);
    const bool is_first = known == devices_.end();
    ports_.push_back(static_cast<PortId>(places_.size()));
    places_.push_back({.device = static_cast<std::size_t>(known - devices_.begin()),
                       .vlan = interface.vlan,
                       .is_used = true,
                       .receives = is_first});
    if (is_first) devices_.push_back(device);
  }
}

/// 1. interfaces that were there stay what they are; 2. what is left of the ports is used no more;
/// 3. new interfaces take numbers that nobody has; 4. each device is received from.
std::expected<PortDirectory, std::string> PortDirectory::changed(const config::Dataplane& wanted,
                                                                 Instant now) const {
  PortDirectory next = *this;
  next.ports_.assign(wanted.interfaces.size(), PortId{kMaxPorts});
  for (Place& place : next.places_) place.is_used = false;
  std::vector<std::size_t> devices;
  for (std::size_t index = 0; index < wanted.interfaces.size(); ++index) {
    const config::Interface& interface = wanted.interfaces[index];
    const auto device = std::ranges::find(devices_, device_of(interface));
    if (device == devices_.end()) {
      return std::unexpected("interface \"" + interface.name + "\" is on device " +
                             device_of(interface) + ", which was not opened at the start");
    }
    devices.push_back(static_cast<std::size_t>(device - devices_.begin()));
    const auto known = find(devices.back(), interface.vlan);
    if (!known) continue;
    next.ports_[index] = *known;
    next.places_[raw(*known)].is_used = true;
  }
  for (std::size_t port = 0; port < places_.size(); ++port) {
    Place& place = next.places_[port];
    if (place.is_used || !places_[port].is_used) continue;
    place.unused_since = now;
    place.is_quiet = false;
  }
  for (std::size_t index = 0; index < wanted.interfaces.size(); ++index) {
    if (next.ports_[index] != PortId{kMaxPorts}) continue;
    const auto taken = next.take(devices[index], wanted.interfaces[index].vlan, now);
    if (!taken) {
      return std::unexpected(
          "so many interfaces were removed lately that dataplane.interfaces finds no free number: "
          "reload again in " +
          std::to_string(std::chrono::duration_cast<std::chrono::seconds>(kRest).count()) +
          " seconds");
    }
    next.ports_[index] = *taken;
  }
  next.choose_receivers(now);
  return next;
}

std::optional<PortId> PortDirectory::find(std::size_t device, const wire::vlan::Ids& vlan) const {
  const auto found = std::ranges::find_if(
      places_, [&](const Place& place) { return place.device == device && place.vlan == vlan; });
  if (found == places_.end()) return std::nullopt;
  return static_cast<PortId>(found - places_.begin());
}

/// One that receives for a device without interfaces is not free: it is the only one that drains
/// the device.
std::optional<PortId> PortDirectory::find_rested(Instant now) const {
  const auto found = std::ranges::find_if(places_, [&](const Place& place) {
    return !place.is_used && !place.receives && place.is_quiet && place.unused_since + kRest <= now;
  });
  if (found == places_.end()) return std::nullopt;
  return static_cast<PortId>(found - places_.begin());
}

std::optional<PortId> PortDirectory::take(std::size_t device, const wire::vlan::Ids& vlan,
                                          Instant now) {
  auto free = find_rested(now);
  if (!free) {
    if (places_.size() == kMaxPorts) return std::nullopt;
    free = static_cast<PortId>(places_.size());
    places_.emplace_back();
  }
  places_[raw(*free)] = {.device = device, .vlan = vlan, .is_used = true};
  return free;
}

/// Who receives goes on as long as he is used. Of a device without interfaces the last one does, so
/// that what comes in is dropped and counted, and nothing old waits in its queues for an interface
/// to come.
void PortDirectory::choose_receivers(Instant now) {
  for (std::size_t device = 0; device < devices_.size(); ++device) {
    const auto before = std::ranges::find_if(
        places_, [&](const Place& place) { return place.device == device && place.receives; });
    if (before->is_used) continue;
    const auto next = std::ranges::find_if(
        places_, [&](const Place& place) { return place.device == device && place.is_used; });
    if (next == places_.end()) continue;
    next->receives = true;
    before->receives = false;
    before->unused_since = now;
    before->is_quiet = false;
  }
}

/// A number that had rested is the refused interface's from here on, which may come again.
void PortDirectory::take_back(const PortDirectory& refused, Instant now) {
  for (std::size_t port = 0; port < refused.places_.size(); ++port) {
    const Place& place = refused.places_[port];
    const bool is_known = port < places_.size();
    if (!place.is_used || (is_known && places_[port].is_used)) continue;
    if (!is_known) places_.resize(port + 1);
    places_[port] = {.device = place.device,
                     .vlan = place.vlan,
                     .receives = is_known && places_[port].receives,
                     .unused_since = now};
  }
}

std::vector<PortId> PortDirectory::not_quiet() const {
  std::vector<PortId> ports;
  for (std::size_t port = 0; port < places_.size(); ++port) {
    if (!places_[port].is_used && !places_[port].is_quiet) {
      ports.push_back(static_cast<PortId>(port));
    }
  }
  return ports;
}

void PortDirectory::has_become_quiet(PortId port, Instant unused_since) {
  Place& place = places_[raw(port)];
  if (!place.is_used && place.unused_since == unused_since) place.is_quiet = true;
}

std::optional<std::size_t> PortDirectory::interface_of(PortId port) const {
  const auto found = std::ranges::find(ports_, port);
  if (found == ports_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - ports_.begin());
}

bool PortDirectory::is_alone(PortId port) const {
  const Place& place = places_[raw(port)];
  const auto others = std::ranges::count_if(
      places_, [&](const Place& other) { return other.is_used && other.device == place.device; });
  return place.is_used && !place.vlan.any() && others == 1;
}

}  // namespace culvert::dataplane::control
