#include "dataplane/control/report_metrics.hpp"

namespace culvert::dataplane::control {
namespace {

using runtime::Family;
using runtime::Labels;

double number(std::uint64_t value) { return static_cast<double>(value); }

/// Of `kLongIterations`.
constexpr std::array<const char*, kLongIterations.size()> kLongerThan{"100us", "1ms", "10ms"};

void add_workers(runtime::MetricFamilies& families, const std::vector<WorkerReport>& workers) {
  auto packets = Family::counter("culvert_worker_packets_total", "Packets a worker moved");
  auto bytes = Family::counter("culvert_worker_bytes_total", "Bytes of frames a worker moved");
  auto busy = Family::counter("culvert_worker_busy_cycles_total", "TSC cycles with packets");
  auto idle = Family::counter("culvert_worker_idle_cycles_total", "TSC cycles without packets");
  auto lasted = Family::counter("culvert_worker_long_iterations_total",
                                "Times a worker came back to its ports that late");
  auto handed_over = Family::counter("culvert_worker_handed_over_packets_total",
                                     "ESP handed to the worker whose SA it is for");
  auto fragments = Family::counter("culvert_worker_handed_over_fragments_total",
                                   "Fragments handed to the worker where those of their flow meet");
  auto bursts = Family::histogram("culvert_worker_burst_packets", "Packets in a receive burst");
  for (const WorkerReport& worker : workers) {
    const std::string id = std::to_string(worker.id);
    packets.add({{"worker", id}, {"direction", "rx"}}, number(worker.rx_packets));
    packets.add({{"worker", id}, {"direction", "tx"}}, number(worker.tx_packets));
    bytes.add({{"worker", id}, {"direction", "rx"}}, number(worker.rx_bytes));
    bytes.add({{"worker", id}, {"direction", "tx"}}, number(worker.tx_bytes));
    busy.add({{"worker", id}}, number(worker.busy_cycles));
    idle.add({{"worker", id}}, number(worker.idle_cycles));
    for (std::size_t bound = 0; bound < kLongerThan.size(); ++bound) {
      lasted.add({{"worker", id}, {"longer_than", kLongerThan[bound]}},
                 number(worker.long_iterations[bound]));
    }
    handed_over.add({{"worker", id}}, number(worker.handed_over));
    fragments.add({{"worker", id}}, number(worker.fragments_handed_over));
    bursts.add({{"worker", id}}, kBurstBounds, worker.burst_sizes, number(worker.rx_packets));
  }
  families.push_back(packets.take());
  families.push_back(bytes.take());
  families.push_back(busy.take());
  families.push_back(idle.take());
  families.push_back(lasted.take());
  families.push_back(handed_over.take());
  families.push_back(fragments.take());
  families.push_back(bursts.take());
}

void add_interfaces(runtime::MetricFamilies& families,
                    const std::vector<InterfaceReport>& interfaces) {
  auto packets = Family::counter("culvert_interface_packets_total", "Packets of a port");
  auto bytes = Family::counter("culvert_interface_bytes_total", "Bytes of a port");
  auto missed = Family::counter("culvert_interface_missed_total",
                                "Packets lost because the receive queue was full");
  auto no_buffer = Family::counter("culvert_interface_no_buffer_total",
                                   "Packets lost because the packet pool was empty");
  auto errors = Family::counter("culvert_interface_errors_total", "Packets the device failed on");
  auto up = Family::gauge("culvert_interface_up", "1 while the device has a link");
  auto steering = Family::gauge("culvert_interface_steering_sas",
                                "Inbound SAs by whether the device has a rule that brings their "
                                "packets to their worker's queue");
  for (const InterfaceReport& interface : interfaces) {
    const std::string& name = interface.name;
    if (!interface.steering.has_one_queue) {
      steering.add({{"interface", name}, {"rule", "yes"}}, number(interface.steering.with_rule));
      steering.add({{"interface", name}, {"rule", "no"}}, number(interface.steering.without_rule));
    }
    up.add({{"interface", name}}, interface.link_is_up ? 1 : 0);
    const ports::PortStatistics& statistics = interface.statistics;
    packets.add({{"interface", name}, {"direction", "rx"}}, number(statistics.rx_packets));
    packets.add({{"interface", name}, {"direction", "tx"}}, number(statistics.tx_packets));
    bytes.add({{"interface", name}, {"direction", "rx"}}, number(statistics.rx_bytes));
    bytes.add({{"interface", name}, {"direction", "tx"}}, number(statistics.tx_bytes));
    missed.add({{"interface", name}}, number(statistics.rx_missed));
    no_buffer.add({{"interface", name}}, number(statistics.rx_no_buffer));
    errors.add({{"interface", name}, {"direction", "rx"}}, number(statistics.rx_errors));
    errors.add({{"interface", name}, {"direction", "tx"}}, number(statistics.tx_errors));
  }
  families.push_back(packets.take());
  families.push_back(bytes.take());
  families.push_back(missed.take());
  families.push_back(no_buffer.take());
  families.push_back(errors.take());
  families.push_back(up.take());
  families.push_back(steering.take());
}

struct ChildFamilies {
  Family packets = Family::counter("culvert_child_packets_total", "Packets through a child's SAs");
  Family bytes = Family::counter("culvert_child_bytes_total",
                                 "Bytes of inner packets, with what hides their size");
  Family drops = Family::counter("culvert_child_drops_total", "Packets a child's SAs dropped");
  Family last = Family::gauge("culvert_child_last_packet_timestamp_seconds",
                              "When the last packet passed, since the epoch");
  Family alarms = Family::counter(
      "culvert_child_ecn_alarms_total",
      "Packets whose inner and outer ECN fields no honest path combines (RFC 6040)");
  Family late = Family::histogram("culvert_child_replay_distance_packets",
                                  "How far behind the newest packet others came, those left of the "
                                  "window included");
  Family window = Family::gauge("culvert_child_replay_window_advised_packets",
                                "The smallest replay window that would have dropped nothing; 0: "
                                "nothing came late");
  Family resynchronized = Family::counter(
      "culvert_child_resynchronized_total",
      "How often an SA came back into step after 2^32 lost packets or more (RFC 4303 appendix A3)");
  Family dummies = Family::counter("culvert_child_dummy_packets_total",
                                   "Packets through a child's SAs that had no contents");
  Family up =
      Family::gauge("culvert_child_up", "1 when each direction that is to have one has a live SA");
  Family wanted = Family::gauge("culvert_child_wanted",
                                "1 when the child should be up: the configuration starts it, or "
                                "packets waited for it within the last minute");
  Family age = Family::gauge("culvert_child_sa_age_seconds", "Age of the youngest live SA");
  Family remaining = Family::gauge("culvert_child_sa_remaining_seconds",
                                   "Until the last live SA's hard lifetime in time");
};

/// Bucket k of the report holds distances from 2^(k-1) to 2^k - 1.
constexpr auto kDistanceBounds = [] {
  std::array<double, kLateBuckets - 1> bounds{};
  for (std::size_t k = 0; k < bounds.size(); ++k) {
    bounds[k] = static_cast<double>((std::uint64_t{1} << k) - 1);
  }
  return bounds;
}();

void add_arrival(ChildFamilies& families, const Labels& child, const ChildTrafficReport& traffic) {
  for (const auto& [combination, packets] : traffic.ecn_alarms) {
    Labels labels = child;
    labels.emplace_back("combination", combination);
    families.alarms.add(labels, number(packets));
  }
  std::array<std::uint64_t, kLateBuckets> all{};
  double sum = 0;  // of the buckets' lower ends: the distances themselves are not kept
  for (std::size_t k = 1; k < kLateBuckets; ++k) {
    all[k] = traffic.late[k] + traffic.missed[k];
    sum += number(all[k]) * number(std::uint64_t{1} << (k - 1));
  }
  families.late.add(child, kDistanceBounds, all, sum);
  families.window.add(child, traffic.advised_window);
  families.resynchronized.add(child, number(traffic.resynchronized));
}

void add_child_direction(ChildFamilies& families, const Labels& labels,
                         const ChildTrafficReport& traffic, double wall_seconds) {
  families.packets.add(labels, number(traffic.packets));
  families.bytes.add(labels, number(traffic.bytes));
  families.dummies.add(labels, number(traffic.dummies));
  if (traffic.sa_age_seconds) families.age.add(labels, *traffic.sa_age_seconds);
  if (traffic.sa_remaining_seconds) families.remaining.add(labels, *traffic.sa_remaining_seconds);
  if (traffic.last_packet_age_seconds) {
    families.last.add(labels, wall_seconds - *traffic.last_packet_age_seconds);
  }
  for (const auto& [reason, packets] : traffic.drops) {
    Labels with_reason = labels;
    with_reason.emplace_back("reason", reason);
    families.drops.add(with_reason, number(packets));
  }
}

void add_children(runtime::MetricFamilies& families, const std::vector<ChildReport>& children,
                  double wall_seconds) {
  ChildFamilies child_families;
  for (const ChildReport& child : children) {
    Labels labels{{"connection", child.connection}, {"child", child.child}};
    child_families.up.add(labels, child.up ? 1 : 0);
    child_families.wanted.add(labels, child.wanted ? 1 : 0);
    add_arrival(child_families, labels, child.in);
    labels.emplace_back("direction", "in");
    add_child_direction(child_families, labels, child.in, wall_seconds);
    labels.back().second = "out";
    add_child_direction(child_families, labels, child.out, wall_seconds);
  }
  families.push_back(child_families.packets.take());
  families.push_back(child_families.bytes.take());
  families.push_back(child_families.drops.take());
  families.push_back(child_families.last.take());
  families.push_back(child_families.alarms.take());
  families.push_back(child_families.late.take());
  families.push_back(child_families.window.take());
  families.push_back(child_families.resynchronized.take());
  families.push_back(child_families.dummies.take());
  families.push_back(child_families.up.take());
  families.push_back(child_families.wanted.take());
  families.push_back(child_families.age.take());
  families.push_back(child_families.remaining.take());
}

}  // namespace

runtime::MetricFamilies to_metrics(const StatusReport& status, const std::vector<DropReport>& drops,
                                   double wall_seconds) {
  runtime::MetricFamilies families;
  add_workers(families, status.workers);
  auto dropped = Family::counter("culvert_drops_total", "Packets that ended, by reason");
  for (const DropReport& drop : drops) {
    dropped.add({{"reason", drop.reason}, {"direction", drop.direction}}, number(drop.packets));
  }
  families.push_back(dropped.take());
  add_interfaces(families, status.interfaces);
  add_children(families, status.children, wall_seconds);

  auto sas = Family::gauge("culvert_sas", "Security associations that pass packets");
  sas.add({{"direction", "in"}}, number(status.sas_in));
  sas.add({{"direction", "out"}}, number(status.sas_out));
  families.push_back(sas.take());
  families.push_back(Family::gauge("culvert_channel_connected", "1 while the key daemon is there")
                         .add({}, status.channel_connected ? 1 : 0)
                         .take());
  families.push_back(Family::gauge("culvert_config_info", "The configuration in force")
                         .add({{"version", status.config_version}}, 1)
                         .take());
  families.push_back(Family::gauge("culvert_config_last_reload_successful",
                                   "0 from a refused reload to the next one that is not")
                         .add({}, status.last_reload_ok ? 1 : 0)
                         .take());
  families.push_back(Family::gauge("culvert_build_info", "What runs")
                         .add({{"version", status.version},
                               {"engine", status.engine},
                               {"gateway", status.instance}},
                              1)
                         .take());
  families.push_back(runtime::process_start_time());
  families.push_back(runtime::process_memory());
  return families;
}

}  // namespace culvert::dataplane::control
