#include "dataplane/control/interfaces.hpp"

#include <algorithm>
#include <array>
#include <ranges>
#include <utility>

namespace culvert::dataplane::control {
namespace {

using ports::PortStatistics;

constexpr std::array kCounted{&PortStatistics::rx_packets, &PortStatistics::rx_bytes,
                              &PortStatistics::tx_packets, &PortStatistics::tx_bytes,
                              &PortStatistics::rx_missed,  &PortStatistics::rx_no_buffer,
                              &PortStatistics::rx_errors,  &PortStatistics::tx_errors};
static_assert(sizeof(PortStatistics) == kCounted.size() * sizeof(std::uint64_t));

}  // namespace

Interfaces::Interfaces(const config::Dataplane& dataplane, Hardware& hardware)
    : hardware_(hardware), directory_(dataplane) {
  for (const PortId port : directory_.ports()) {
    accounts_.push_back({.is_of_device = directory_.is_alone(port)});
  }
  publish(directory_, dataplane);
}

std::expected<PortDirectory, std::string> Interfaces::plan(const config::Dataplane& wanted,
                                                           Instant now) const {
  return directory_.changed(wanted, now);
}

/// A device takes what the largest of its interfaces needs. It is never made smaller: what a
/// neighbour sends that is larger than an interface's MTU is taken as it was.
std::expected<Interfaces::Raised, std::string> Interfaces::fit_devices(
    const PortDirectory& next, const config::Dataplane& wanted) {
  Raised raised;
  for (std::size_t index = 0; index < wanted.interfaces.size(); ++index) {
    const config::Interface& interface = wanted.interfaces[index];
    ports::Port& device = *hardware_.ports[next[next.ports()[index]].device];
    const std::uint16_t before = device.mtu();
    if (interface.mtu <= before) continue;
    if (auto done = device.set_mtu(interface.mtu); !done) {
      take_back(raised);
      return std::unexpected("interface \"" + interface.name + "\": mtu is " +
                             std::to_string(interface.mtu) + ", its device was set up for " +
                             std::to_string(before) + ", and " + done.error());
    }
    raised.emplace_back(&device, before);
  }
  return raised;
}

/// The last first: two interfaces may have raised the same device.
void Interfaces::take_back(const Raised& raised) {
  for (const auto& [device, had] : std::views::reverse(raised)) (void)device->set_mtu(had);
}

void Interfaces::publish(const PortDirectory& directory, const config::Dataplane& dataplane) {
  Tables& tables = *hardware_.tables;
  std::vector<PortInfo> infos = tables.ports.copy();
  infos.resize(std::max(infos.size(), directory.size()));
  for (PortInfo& info : infos) {
    info.is_used = false;
    info.queues = 0;
  }
  const auto workers = static_cast<std::uint16_t>(tables.workers);
  for (std::size_t index = 0; index < directory.size(); ++index) {
    const auto port = static_cast<PortId>(index);
    const PortDirectory::Place& place = directory[port];
    const ports::Port& device = *hardware_.ports[place.device];
    const auto interface = directory.interface_of(port);
    infos[index] = {.dpdk_port = device.dpdk_port(),
                    .queues = place.receives ? workers : std::uint16_t{0},
                    .mtu = interface ? dataplane.interfaces[*interface].mtu : infos[index].mtu,
                    .mac = device.mac(),
                    .vlan = place.vlan,
                    .shares_device = !directory.is_alone(port),
                    .is_used = place.is_used};
  }
  tables.ports.publish(infos, *tables.reclaimer);
}

void Interfaces::adopt(PortDirectory next) {
  accounts_.resize(next.size());
  for (const PortId port : next.ports()) {
    Account& account = accounts_[raw(port)];
    const bool is_of_device = next.is_alone(port);
    const bool stays = directory_.interface_of(port).has_value();
    if (stays && account.is_of_device == is_of_device) continue;
    account.carried = stays ? statistics(port) : PortStatistics{};
    account.since = read(port, next[port].device, is_of_device);
    account.is_of_device = is_of_device;
  }
  directory_ = std::move(next);
  await_quiet();
}

void Interfaces::refuse(const PortDirectory& next, const config::Dataplane& running, Instant now) {
  directory_.take_back(next, now);
  accounts_.resize(directory_.size());
  publish(directory_, running);
  await_quiet();
}

/// What workers began with the ports as they were ends within a grace period.
void Interfaces::await_quiet() {
  for (const PortId port : directory_.not_quiet()) {
    hardware_.tables->reclaimer->retire(
        [this, lives = std::weak_ptr(lives_), port, since = directory_[port].unused_since] {
          if (!lives.expired()) directory_.has_become_quiet(port, since);
        });
  }
}

const ports::Port& Interfaces::device_of(PortId port) const {
  return *hardware_.ports[directory_[port].device];
}

PortStatistics Interfaces::statistics(PortId port) const {
  const Account& account = accounts_[raw(port)];
  PortStatistics now = read(port, directory_[port].device, account.is_of_device);
  for (const auto counted : kCounted) {
    now.*counted += account.carried.*counted - account.since.*counted;
  }
  return now;
}

PortStatistics Interfaces::read(PortId port, std::size_t device, bool is_of_device) const {
  PortStatistics statistics = hardware_.ports[device]->statistics();
  if (is_of_device) return statistics;
  // What the device missed or failed on is of no VLAN that it could tell, and stays with each.
  statistics.rx_packets = statistics.rx_bytes = statistics.tx_packets = statistics.tx_bytes = 0;
  const Tables& tables = *hardware_.tables;
  for (std::uint32_t worker = 0; worker < tables.workers; ++worker) {
    const PortCounters& counters = tables.counters[worker].ports[raw(port)];
    statistics.rx_packets += counters.received.read();
    statistics.rx_bytes += counters.received_bytes.read();
    statistics.tx_packets += counters.sent.read();
    statistics.tx_bytes += counters.sent_bytes.read();
  }
  return statistics;
}

}  // namespace culvert::dataplane::control
