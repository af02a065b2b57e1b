#include "dataplane/control/list_reports.hpp"

#include <chrono>

#include <rte_cycles.h>
#include <spdlog/fmt/fmt.h>

#include "dataplane/control/child_reports.hpp"
#include "dataplane/control/policy_list.hpp"

namespace culvert::dataplane::control {
namespace {

std::string_view origin_name(PolicyOrigin origin) {
  switch (origin) {
    case PolicyOrigin::configured:
      return "configured";
    case PolicyOrigin::negotiated:
      return "negotiated";
    case PolicyOrigin::trap:
      return "trap";
    case PolicyOrigin::manual:
      return "manual";
  }
  return "";
}

std::string_view action_name(PolicyAction action) {
  switch (action) {
    case PolicyAction::bypass:
      return "bypass";
    case PolicyAction::discard:
      return "discard";
    case PolicyAction::protect:
      return "protect";
  }
  return "";
}

/// Packets that no policy names, of all workers.
std::uint64_t refused_by_default(const Tables& tables) {
  std::uint64_t packets = 0;
  for (std::uint32_t worker = 0; worker <= tables.workers; ++worker) {
    for (const auto& drops : tables.counters[worker].drops) {
      packets += drops[static_cast<std::size_t>(DropReason::no_policy_match)].read();
    }
  }
  return packets;
}

}  // namespace

std::string_view action_name(config::PolicyAction action) {
  return action == config::PolicyAction::bypass ? "bypass" : "discard";
}

SaReport sa_report(const SaRecord& record, const ListSources& sources, Instant now) {
  const channel::InstallSa& spec = record.spec;
  const SaTraffic traffic = sources.tables.sad->traffic(record);
  SaReport report;
  report.id = fmt::format("{:016x}", static_cast<std::uint64_t>(spec.sa));
  report.connection = sources.children.name(spec.child_id).connection;
  report.child = sources.children.name(spec.child_id).child;
  report.direction = spec.direction;
  report.spi = spec.spi;
  report.mode = spec.mode;
  report.local = spec.local;
  report.remote = spec.remote;
  report.udp_encapsulation = spec.udp_encapsulation;
  report.esn = spec.esn;
  report.live = sources.associations.is_live(record);
  report.suite = spec.suite.name();
  report.replay_window = spec.replay_window;
  const std::uint16_t path_mtu = sources.tables.sad->path_mtu(record);
  const bool is_out = spec.direction == channel::Direction::out;
  if (is_out && path_mtu != kNoPathMtu) report.path_mtu = path_mtu;
  report.packets = traffic.packets;
  report.bytes = traffic.bytes;
  report.sequence = traffic.sequence;
  report.dummies =
      traffic.dummies + traffic.drops[static_cast<std::size_t>(DropReason::dummy_packet)];
  const Instant age = now - sources.associations.installed(spec.sa).value_or(now);
  report.age_seconds = std::chrono::duration<double>(age).count();
  report.last_packet_age_seconds = seconds_since(traffic.last_packet_tsc);
  report.lifetime = spec.lifetime;
  report.local_ts = selectors_of(spec.local_selectors);
  report.remote_ts = selectors_of(spec.remote_selectors);
  report.drops = named_drops(traffic.drops);
  report.last_refused = refusal_report(traffic.last_refusal, rte_get_tsc_cycles());
  return report;
}

PolicyReport policy_report(const PolicyEntry& entry, const ListSources& sources) {
  PolicyReport report;
  report.origin = origin_name(entry.origin);
  report.action = action_name(entry.action);
  if (entry.action == PolicyAction::protect) {
    report.connection = sources.children.name(entry.child_id).connection;
    report.child = sources.children.name(entry.child_id).child;
  }
  report.source = entry.local;
  report.destination = entry.remote;
  const SaRecord* const outbound = sources.tables.sad->find_outbound(entry.outbound);
  if (outbound != nullptr) report.outbound_spi = outbound->spec.spi;
  report.packets = entry.packets;
  return report;
}

PolicyReport default_policy_report(const Tables& tables) {
  PolicyReport report;
  report.origin = "default";
  report.action = action_name(tables.spd->default_policy());
  if (tables.spd->default_policy() == config::PolicyAction::discard)
    report.packets = refused_by_default(tables);
  for (const wire::Family family : {wire::Family::v4, wire::Family::v6}) {
    report.source.push_back(wire::TrafficSelector::everything(family));
  }
  report.destination = report.source;
  return report;
}

}  // namespace culvert::dataplane::control
