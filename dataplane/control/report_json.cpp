#include "dataplane/control/report_json.hpp"

#include <spdlog/fmt/fmt.h>

#include "wire/ip.hpp"

namespace culvert::dataplane::control {
namespace {

using nlohmann::json;

template <typename Item>
json text_array(const std::vector<Item>& items) {
  json result = json::array();
  for (const Item& item : items) result.push_back(item.to_string());
  return result;
}

template <typename Value>
json or_null(const std::optional<Value>& value) {
  return value ? json(*value) : json(nullptr);
}

json counts(const std::vector<std::pair<std::string, std::uint64_t>>& drops) {
  json result = json::object();
  for (const auto& [reason, packets] : drops) result[reason] = packets;
  return result;
}

json worker_json(const WorkerReport& worker) {
  return {{"id", worker.id},
          {"core", worker.core},
          {"numa_node", or_null(worker.numa_node)},
          {"idle_percent", worker.idle_percent},
          {"rx_packets", worker.rx_packets},
          {"tx_packets", worker.tx_packets},
          {"handed_over", worker.handed_over},
          {"fragments_handed_over", worker.fragments_handed_over}};
}

json worker_counters_json(const WorkerReport& worker) {
  return {{"id", worker.id},
          {"rx_packets", worker.rx_packets},
          {"tx_packets", worker.tx_packets},
          {"rx_bytes", worker.rx_bytes},
          {"tx_bytes", worker.tx_bytes},
          {"handed_over", worker.handed_over},
          {"fragments_handed_over", worker.fragments_handed_over},
          {"bursts", worker.bursts},
          {"busy_cycles", worker.busy_cycles},
          {"idle_cycles", worker.idle_cycles},
          {"long_iterations", worker.long_iterations}};
}

json placement_json(const ports::Placement& placement) {
  return {{"policy", to_string(placement.policy)},
          {"numa_nodes", placement.nodes},
          {"reason", placement.reason.empty() ? json(nullptr) : json(placement.reason)}};
}

/// null, an ID, or the outer and the inner one.
json vlan_json(const wire::vlan::Ids& vlan) {
  if (!vlan.any()) return nullptr;
  if (vlan.count() == 1) return vlan.id[0];
  return vlan.id;
}

/// null: there is one queue.
json steering_json(const SteeringReport& steering) {
  if (steering.has_one_queue) return nullptr;
  json refuses = json::object();
  for (const auto& [form, why] : steering.refuses) refuses[form] = why;
  return {{"sas_with_rule", steering.with_rule},
          {"sas_without_rule", steering.without_rule},
          {"takes", steering.takes},
          {"refuses", std::move(refuses)},
          {"last_refusal",
           steering.last_refusal.empty() ? json(nullptr) : json(steering.last_refusal)}};
}

json interface_json(const InterfaceReport& interface) {
  const ports::PortStatistics& statistics = interface.statistics;
  return {{"name", interface.name},
          {"device", interface.device},
          {"mac", interface.mac},
          {"mtu", interface.mtu},
          {"vlan", vlan_json(interface.vlan)},
          {"link", interface.link_is_up ? "up" : "down"},
          {"addresses", text_array(interface.addresses)},
          {"numa_node", or_null(interface.numa_node)},
          {"queues", interface.queues},
          {"spread", interface.spread.empty() ? json(nullptr) : json(interface.spread)},
          {"steering", steering_json(interface.steering)},
          {"rx_packets", statistics.rx_packets},
          {"rx_bytes", statistics.rx_bytes},
          {"tx_packets", statistics.tx_packets},
          {"tx_bytes", statistics.tx_bytes},
          {"rx_missed", statistics.rx_missed},
          {"rx_no_buffer", statistics.rx_no_buffer},
          {"rx_errors", statistics.rx_errors},
          {"tx_errors", statistics.tx_errors}};
}

json channel_json(const StatusReport& status) {
  const channel::ServerStatistics& statistics = status.channel;
  return {{"connected", status.channel_connected},
          {"connects", statistics.connects},
          {"requests", statistics.requests},
          {"invalid_requests", statistics.invalid_requests},
          {"torn_indices", statistics.torn_indices},
          {"datagrams_in", statistics.datagrams_in},
          {"datagrams_out", statistics.datagrams_out},
          {"events_lost", statistics.events_lost},
          {"datagrams_lost", statistics.datagrams_lost}};
}

/// Distances by the power of two below which they are.
json distances_json(const std::array<std::uint64_t, kLateBuckets>& buckets) {
  json result = json::object();
  for (std::size_t bucket = 0; bucket < buckets.size(); ++bucket) {
    if (buckets[bucket] == 0) continue;
    result[std::to_string(std::uint64_t{1} << bucket)] = buckets[bucket];
  }
  return result;
}

/// Ports, or type and code of ICMP (type << 8 | code in both); null where a packet has none, or a
/// later fragment does not show them.
json seen_json(const FlowKey& seen) {
  const wire::PortsAt at =
      seen.ports_known ? wire::kPortsOfProtocol[seen.protocol] : wire::PortsAt::none;
  json result = {{"source", seen.source.to_string()},
                 {"destination", seen.destination.to_string()},
                 {"protocol", wire::protocol::to_string(seen.protocol)},
                 {"source_port", nullptr},
                 {"destination_port", nullptr},
                 {"icmp_type", nullptr},
                 {"icmp_code", nullptr}};
  if (at == wire::PortsAt::ports) {
    result["source_port"] = seen.source_port;
    result["destination_port"] = seen.destination_port;
  } else if (at == wire::PortsAt::icmp) {
    result["icmp_type"] = seen.source_port >> 8U;
    result["icmp_code"] = seen.source_port & 0xffU;
  }
  return result;
}

json refusal_json(const std::optional<RefusalReport>& refusal) {
  if (!refusal) return nullptr;
  return {{"age_seconds", refusal->age_seconds},
          {"seen", seen_json(refusal->seen)},
          {"expected",
           {{"source", text_array(refusal->source)},
            {"destination", text_array(refusal->destination)}}}};
}

json unreachable_json(const std::optional<UnreachableReport>& unreachable) {
  if (!unreachable) return nullptr;
  return {{"from", unreachable->from},
          {"to", unreachable->to},
          {"udp_encapsulation", unreachable->is_in_udp},
          {"type", unreachable->type},
          {"code", unreachable->code},
          {"meaning", unreachable->meaning},
          {"remedy", unreachable->remedy},
          {"messages", unreachable->messages},
          {"age_seconds", unreachable->age_seconds}};
}

json child_traffic_json(const ChildTrafficReport& traffic) {
  return {{"ecn_alarms", counts(traffic.ecn_alarms)},
          {"late",
           {{"accepted", distances_json(traffic.late)},
            {"missed", distances_json(traffic.missed)},
            {"advised_window", traffic.advised_window}}},
          {"resynchronized", traffic.resynchronized},
          {"dummy_packets", traffic.dummies},
          {"packets", traffic.packets},
          {"bytes", traffic.bytes},
          {"last_packet_seconds", or_null(traffic.last_packet_age_seconds)},
          {"drops", counts(traffic.drops)},
          {"last_drop_seconds", or_null(traffic.last_drop_age_seconds)},
          {"last_refused", refusal_json(traffic.last_refused)}};
}

json lifetime_json(const channel::Lifetime& lifetime) {
  return {{"soft_seconds", lifetime.soft_seconds}, {"hard_seconds", lifetime.hard_seconds},
          {"soft_bytes", lifetime.soft_bytes},     {"hard_bytes", lifetime.hard_bytes},
          {"soft_packets", lifetime.soft_packets}, {"hard_packets", lifetime.hard_packets}};
}

std::string outer(const wire::Endpoint& endpoint, bool with_port) {
  return with_port ? endpoint.to_string() : endpoint.address.to_string();
}

template <typename Item, typename Render>
json list(std::string_view name, const std::vector<Item>& items, Render render) {
  json array = json::array();
  for (const Item& item : items) array.push_back(render(item));
  return {{std::string(name), std::move(array)}};
}

}  // namespace

std::string spi_text(channel::Spi spi) {
  return fmt::format("0x{:08x}", static_cast<std::uint32_t>(spi));
}

json to_json(const ChildReport& child) {
  json directions = json::array();
  if (child.has_in) directions.push_back("in");
  if (child.has_out) directions.push_back("out");
  return {{"connection", child.connection},
          {"child", child.child},
          {"id", fmt::format("{:016x}", static_cast<std::uint64_t>(child.id))},
          {"manual", child.manual},
          {"directions", std::move(directions)},
          {"started_by", to_string(child.started_by)},
          {"wanted", child.wanted},
          {"up", child.up},
          {"in", child_traffic_json(child.in)},
          {"out", child_traffic_json(child.out)},
          {"unreachable", unreachable_json(child.unreachable)}};
}

json to_json(const StatusReport& status) {
  json result = {
      {"version", status.version},
      {"instance", status.instance},
      {"pid", status.pid},
      {"uptime_seconds", status.uptime_seconds},
      {"config_version", status.config_version},
      {"engine", status.engine},
      {"engine_reason", status.engine_reason.empty() ? json(nullptr) : json(status.engine_reason)},
      {"suites", status.suites},
      {"huge_pages", status.huge_pages},
      {"tables_placed", placement_json(status.placement)},
      {"channel", channel_json(status)},
      {"sa_count", status.sas_in + status.sas_out},
      {"policy_count", status.policies},
      {"default_policy", status.default_policy}};
  result.update(list("workers", status.workers, worker_json));
  result.update(list("interfaces", status.interfaces, interface_json));
  result.update(
      list("children", status.children, [](const ChildReport& child) { return to_json(child); }));
  return result;
}

json to_json(const SaReport& sa) {
  return {{"id", sa.id},
          {"connection", sa.connection},
          {"child", sa.child},
          {"direction", sa.direction == channel::Direction::in ? "in" : "out"},
          {"spi", spi_text(sa.spi)},
          {"mode", sa.mode == channel::SaMode::tunnel ? "tunnel" : "transport"},
          {"local", outer(sa.local, sa.udp_encapsulation)},
          {"remote", outer(sa.remote, sa.udp_encapsulation)},
          {"udp_encapsulation", sa.udp_encapsulation},
          {"suite", sa.suite},
          {"esn", sa.esn},
          {"replay_window", sa.replay_window},
          {"path_mtu", or_null(sa.path_mtu)},
          {"packets", sa.packets},
          {"bytes", sa.bytes},
          {"sequence", sa.sequence},
          {"dummy_packets", sa.dummies},
          {"age_seconds", sa.age_seconds},
          {"last_packet_seconds", or_null(sa.last_packet_age_seconds)},
          {"lifetime", lifetime_json(sa.lifetime)},
          {"state", sa.live ? "live" : "expired"},
          {"local_ts", text_array(sa.local_ts)},
          {"remote_ts", text_array(sa.remote_ts)},
          {"drops", counts(sa.drops)},
          {"last_refused", refusal_json(sa.last_refused)}};
}

json to_json(const PolicyReport& policy, std::size_t position) {
  return {
      {"position", position},
      {"origin", policy.origin},
      {"action", policy.action},
      {"connection", policy.connection},
      {"child", policy.child},
      {"source", wire::to_string(policy.source)},
      {"destination", wire::to_string(policy.destination)},
      {"outbound_spi", policy.outbound_spi ? json(spi_text(*policy.outbound_spi)) : json(nullptr)},
      {"packets", policy.packets ? json(*policy.packets) : json(nullptr)}};
}

json to_json(const std::vector<RouteReport>& routes) {
  return list("routes", routes, [](const RouteReport& route) {
    return json{{"to", route.to.to_string()},
                {"via", route.via ? json(route.via->to_string()) : json(nullptr)},
                {"interface", route.interface},
                {"kind", route.kind}};
  });
}

json to_json(const std::vector<NeighborReport>& neighbors) {
  return list("neighbors", neighbors, [](const NeighborReport& neighbor) {
    return json{{"interface", neighbor.interface},
                {"address", neighbor.address},
                {"mac", neighbor.mac ? json(*neighbor.mac) : json(nullptr)},
                {"state", neighbor.state},
                {"age_seconds", neighbor.age_seconds}};
  });
}

json counters_json(const std::vector<DropReport>& drops, const TotalsReport& totals,
                   const std::vector<WorkerReport>& workers) {
  json result = list("drops", drops, [](const DropReport& drop) {
    return json{{"reason", drop.reason},     {"direction", drop.direction},
                {"severity", drop.severity}, {"packets", drop.packets},
                {"rfc", drop.rfc},           {"meaning", drop.meaning},
                {"remedy", drop.remedy}};
  });
  result["totals"] = {
      {"received", totals.received},       {"sent", totals.sent},
      {"delivered", totals.delivered},     {"dropped", totals.dropped},
      {"originated", totals.originated},   {"fragments_made", totals.fragments_made},
      {"reassembled", totals.reassembled}, {"mss_clamped", totals.mss_clamped}};
  result.update(list("workers", workers, worker_counters_json));
  return result;
}

}  // namespace culvert::dataplane::control
