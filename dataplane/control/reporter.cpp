#include "dataplane/control/reporter.hpp"

#include <span>
#include <utility>

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include "crypto/esp/transform.hpp"
#include "dataplane/control/hardware.hpp"
#include "dataplane/control/long_answers.hpp"

namespace culvert::dataplane::control {
namespace {

double seconds(Instant time) { return std::chrono::duration<double>(time).count(); }

std::vector<std::string> suites_of(const crypto::esp::Engine& engine) {
  std::vector<std::string> names;
  for (const auto& [suite, form] : crypto::esp::kTransforms) {
    if (engine.supports(suite)) names.push_back(suite.name());
  }
  return names;
}

}  // namespace

std::string mac_text(const wire::MacAddress& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3],
                     mac[4], mac[5]);
}

Reporter::Reporter(const Sources& sources, const Hardware& hardware, Instant started)
    : sources_(sources),
      lists_{sources.tables, sources.associations, sources.children, sources.acquires},
      engine_(hardware.engine->name()),
      engine_reason_(hardware.engine_choice.reason),
      suites_(suites_of(*hardware.engine)),
      placement_(hardware.placement),
      huge_pages_(hardware.huge_pages),
      started_(started) {}

std::unique_ptr<runtime::SlicedResult> Reporter::status(Instant now) const {
  return std::make_unique<StatusAnswer>(lists_, gateway(now));
}

std::unique_ptr<runtime::SlicedResult> Reporter::sas() const {
  return std::make_unique<SasAnswer>(lists_);
}

std::unique_ptr<runtime::SlicedResult> Reporter::policies() const {
  return std::make_unique<PoliciesAnswer>(lists_);
}

StatusReport Reporter::gateway(Instant now) const {
  StatusReport report;
  report.version = CULVERT_VERSION;
  report.instance = sources_.config.instance;
  report.config_version = config_version_;
  report.last_reload_ok = last_reload_ok_;
  report.engine = engine_;
  report.engine_reason = engine_reason_;
  report.suites = suites_;
  report.default_policy = action_name(sources_.tables.spd->default_policy());
  report.pid = getpid();
  report.uptime_seconds = seconds(now - started_);
  report.huge_pages = huge_pages_;
  report.placement = placement_;
  report.channel_connected = sources_.channel.connected();
  report.channel = sources_.channel.statistics();
  report.sas_in = sources_.associations.live(channel::Direction::in);
  report.sas_out = sources_.associations.live(channel::Direction::out);
  report.policies = sources_.policies.size();
  report.workers = workers();
  report.interfaces = interfaces();
  return report;
}

Reporter::Cycles Reporter::cycles_of(std::uint32_t worker) const {
  const WorkerCounters& counters = sources_.tables.counters[worker];
  return {counters.busy_cycles.read(), counters.idle_cycles.read()};
}

void Reporter::take_cycles() {
  cycles_before_ = std::move(last_cycles_);
  last_cycles_.clear();
  for (std::uint32_t worker = 0; worker < sources_.tables.workers; ++worker) {
    last_cycles_.push_back(cycles_of(worker));
  }
}

std::vector<WorkerReport> Reporter::workers() const {
  std::vector<WorkerReport> reports;
  for (std::uint32_t worker = 0; worker < sources_.tables.workers; ++worker) {
    const WorkerCounters& counters = sources_.tables.counters[worker];
    WorkerReport report;
    report.id = worker;
    report.core = sources_.workers.cores_of(worker);
    report.numa_node = sources_.workers.numa_node_of(worker);
    report.rx_packets = counters.received.read();
    report.rx_bytes = counters.received_bytes.read();
    report.tx_packets = counters.sent.read();
    report.tx_bytes = counters.sent_bytes.read();
    report.handed_over = counters.handed_over.read();
    report.fragments_handed_over = counters.fragments_handed_over.read();
    report.bursts = counters.bursts.read();
    const Cycles cycles = cycles_of(worker);
    report.busy_cycles = cycles.busy;
    report.idle_cycles = cycles.idle;
    for (std::size_t size = 0; size < report.burst_sizes.size(); ++size) {
      report.burst_sizes[size] = counters.burst_sizes[size].read();
    }
    for (std::size_t bound = 0; bound < report.long_iterations.size(); ++bound) {
      report.long_iterations[bound] = counters.long_iterations[bound].read();
    }
    const Cycles since = worker < cycles_before_.size() ? cycles_before_[worker] : Cycles{};
    const std::uint64_t busy = report.busy_cycles - since.busy;
    const std::uint64_t idle = report.idle_cycles - since.idle;
    if (busy + idle != 0) {
      report.idle_percent = 100.0 * static_cast<double>(idle) / static_cast<double>(busy + idle);
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

std::vector<InterfaceReport> Reporter::interfaces() const {
  std::vector<InterfaceReport> reports;
  const std::span<const PortId> of = sources_.interfaces.directory().ports();
  for (std::size_t index = 0; index < of.size(); ++index) {
    const config::Interface& interface = sources_.config.dataplane.interfaces[index];
    const ports::Port& device = sources_.interfaces.device_of(of[index]);
    reports.push_back({interface.name, interface.device, mac_text(device.mac()), interface.mtu,
                       interface.vlan, device.link_is_up(), interface.addresses,
                       sources_.interfaces.statistics(of[index]), device.queues(),
                       ports::hashed_fields(device.queue_hash()), device.numa_node(),
                       sources_.steering.report(of[index])});
  }
  return reports;
}

std::string Reporter::interface_name(PortId port) const {
  const auto index = sources_.interfaces.directory().interface_of(port);
  return index ? sources_.config.dataplane.interfaces[*index].name : std::string("removed");
}

std::vector<RouteReport> Reporter::routes() const {
  std::vector<RouteReport> reports;
  for (const Route& route : sources_.topology.routes()) {
    reports.push_back(
        {route.to, route.via, interface_name(route.port), std::string(to_string(route.kind))});
  }
  return reports;
}

std::vector<NeighborReport> Reporter::neighbors(Instant now) const {
  std::vector<NeighborReport> reports;
  const auto& interfaces = sources_.config.dataplane.interfaces;
  for (std::size_t index = 0; index < interfaces.size(); ++index) {
    const PortId port = sources_.interfaces.directory().ports()[index];
    if (!sources_.topology.answers_nobody(port)) continue;
    reports.push_back(
        {interfaces[index].name, "any", mac_text(kAssumedMac), "assumed", seconds(now - started_)});
  }
  for (const auto& [key, entry] : sources_.neighbors.table().entries()) {
    NeighborReport report;
    report.interface = interface_name(key.port);
    report.address = key.address.to_string();
    if (entry.mac) report.mac = mac_text(*entry.mac);
    report.state = to_string(entry.state);
    report.age_seconds = seconds(now - entry.since);
    reports.push_back(std::move(report));
  }
  return reports;
}

std::uint64_t Reporter::dropped(DropReason reason) const {
  std::uint64_t packets = 0;
  for (std::uint32_t writer = 0; writer <= sources_.tables.workers; ++writer) {
    for (const auto& direction : sources_.tables.counters[writer].drops) {
      packets += direction[static_cast<std::size_t>(reason)].read();
    }
  }
  return packets;
}

std::vector<DropReport> Reporter::drops(bool all) const {
  std::vector<DropReport> reports;
  for (const DropReasonInfo& reason : all_drop_reasons()) {
    for (std::size_t direction = 0; direction < kDropDirections; ++direction) {
      std::uint64_t packets = 0;
      for (std::uint32_t writer = 0; writer <= sources_.tables.workers; ++writer) {
        packets += sources_.tables.counters[writer]
                       .drops[direction][static_cast<std::size_t>(reason.reason)]
                       .read();
      }
      if (packets == 0 && !all) continue;
      reports.push_back({std::string(reason.name),
                         std::string(to_string(static_cast<DropDirection>(direction))),
                         std::string(to_string(reason.severity)), std::string(reason.rfc),
                         std::string(reason.meaning), std::string(reason.remedy), packets});
    }
  }
  return reports;
}

TotalsReport Reporter::totals() const {
  TotalsReport report;
  for (std::uint32_t writer = 0; writer <= sources_.tables.workers; ++writer) {
    const WorkerCounters& counters = sources_.tables.counters[writer];
    report.received += counters.received.read();
    report.sent += counters.sent.read();
    report.delivered += counters.delivered.read();
    report.originated += counters.originated.read();
    report.fragments_made += counters.fragments_made.read();
    report.reassembled += counters.reassembled.read();
    report.mss_clamped += counters.mss_clamped.read();
    for (const auto& direction : counters.drops) {
      for (const Counter& drops : direction) report.dropped += drops.read();
    }
  }
  return report;
}

}  // namespace culvert::dataplane::control
