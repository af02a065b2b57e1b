// What the gateway says about itself, as plain values: gathered from tables, ports and counters by
// the main thread, rendered to JSON for the control socket (report_json.cpp) and to metrics
// (report_metrics.cpp).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "channel/server.hpp"
#include "dataplane/control/child_directory.hpp"
#include "dataplane/control/steering_report.hpp"
#include "dataplane/ports/memory_placement.hpp"
#include "dataplane/ports/port.hpp"
#include "dataplane/tables/counters.hpp"
#include "dataplane/tables/sad.hpp"
#include "wire/ip_address.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane::control {

/// As reports and the log have it: 0x and eight digits.
[[nodiscard]] std::string spi_text(channel::Spi spi);

/// Upper bounds of the burst histogram's buckets but the last.
inline constexpr std::array<double, 7> kBurstBounds{1, 2, 4, 8, 16, 32, 64};

struct WorkerReport {
  std::uint32_t id = 0;
  std::string core;                        ///< "2", or "0,1" when it floats
  std::optional<std::uint32_t> numa_node;  ///< none: it floats over several
  std::uint64_t rx_packets = 0, rx_bytes = 0, tx_packets = 0, tx_bytes = 0;
  std::uint64_t handed_over = 0;            ///< ESP, to the worker whose SA it is for
  std::uint64_t fragments_handed_over = 0;  ///< to the worker where those of their flow meet
  std::uint64_t bursts = 0, busy_cycles = 0, idle_cycles = 0;
  std::array<std::uint64_t, kBurstBounds.size() + 1> burst_sizes{};
  std::array<std::uint64_t, kLongIterations.size()> long_iterations{};
  double idle_percent = 100;  ///< of the past second or two
};

struct InterfaceReport {
  std::string name, device, mac;
  std::uint16_t mtu = 0;
  wire::vlan::Ids vlan;
  bool link_is_up = false;
  std::vector<wire::Prefix> addresses;
  ports::PortStatistics statistics;
  std::uint16_t queues = 0;                ///< one a worker
  std::vector<std::string> spread;         ///< what its device hashes; empty: its own way
  std::optional<std::uint32_t> numa_node;  ///< none: it does not tell
  SteeringReport steering;
};

/// Packets that ended for one reason.
struct DropReport {
  std::string reason, direction, severity, rfc, meaning, remedy;
  std::uint64_t packets = 0;
};

struct TotalsReport {
  std::uint64_t fragments_made = 0, reassembled = 0, mss_clamped = 0;
  std::uint64_t received = 0, sent = 0, delivered = 0, dropped = 0, originated = 0;
};

/// The last packet that came out of an SA and was not for it, and what would have been.
struct RefusalReport {
  double age_seconds = 0;
  FlowKey seen;
  std::vector<wire::TrafficSelector> source, destination;
};

/// One direction of a child's traffic over all its SAs, present and past (SaUsage).
struct ChildTrafficReport {
  std::uint64_t packets = 0, bytes = 0;
  std::optional<double> last_packet_age_seconds;
  std::vector<std::pair<std::string, std::uint64_t>> drops;  ///< by reason
  std::optional<double> last_drop_age_seconds;
  std::vector<std::pair<std::string, std::uint64_t>> ecn_alarms;
  /// In: packets that came less than 2^k behind the newest, at place k, and how many of them were
  /// left of the window.
  std::array<std::uint64_t, kLateBuckets> late{}, missed{};
  std::uint32_t advised_window = 0;  ///< 0: nothing came late
  std::optional<RefusalReport> last_refused;
  /// In: how often an SA came back into step after 2^32 lost packets (RFC 4303 appendix A3).
  std::uint64_t resynchronized = 0;
  std::uint64_t dummies = 0;  ///< of `packets`, without contents (RFC 4303 §2.6)
  /// Of the youngest live SA, and until the last one's hard lifetime; nullopt: there is none.
  std::optional<double> sa_age_seconds, sa_remaining_seconds;
};

/// Who said last that the child's ESP does not get through (Unreachable).
struct UnreachableReport {
  std::string from, to, meaning, remedy;
  bool is_in_udp = false;
  std::uint8_t type = 0, code = 0;
  std::uint64_t messages = 0;
  double age_seconds = 0;
};

struct ChildReport {
  std::string connection, child;
  channel::ChildId id{};
  bool manual = false;                 ///< without IKE
  bool has_in = true, has_out = true;  ///< the directions that have SAs when it is up
  StartedBy started_by = StartedBy::configuration;
  bool up = false;     ///< a live SA in each of them
  bool wanted = true;  ///< it should be: an SA is configured to be there, or traffic asks for one
  ChildTrafficReport in, out;
  std::optional<UnreachableReport> unreachable;
};

struct SaReport {
  std::string id, connection, child;
  channel::Direction direction{};
  channel::Spi spi{};
  channel::SaMode mode{};
  wire::Endpoint local, remote;
  bool udp_encapsulation = false, esn = false, live = true;
  std::string suite;
  std::uint32_t replay_window = 0;
  std::optional<std::uint16_t> path_mtu;  ///< outbound: learnt or configured
  std::uint64_t packets = 0, bytes = 0, sequence = 0;
  std::uint64_t dummies = 0;  ///< of `packets`
  double age_seconds = 0;
  std::optional<double> last_packet_age_seconds;
  channel::Lifetime lifetime;
  std::vector<wire::TrafficSelector> local_ts, remote_ts;
  std::vector<std::pair<std::string, std::uint64_t>> drops;
  std::optional<RefusalReport> last_refused;
};

struct PolicyReport {
  std::string origin, action, connection, child;
  std::vector<wire::TrafficSelector> source, destination;
  std::optional<channel::Spi> outbound_spi;
  std::optional<std::uint64_t> packets;  ///< nullopt: they are not counted
};

struct RouteReport {
  wire::Prefix to;
  std::optional<wire::IpAddress> via;
  std::string interface, kind;
};

struct NeighborReport {
  std::string interface;
  std::string address;  ///< "any": whoever is on the interface's networks
  std::optional<std::string> mac;
  std::string state;
  double age_seconds = 0;
};

struct StatusReport {
  std::string version, instance, config_version, engine, default_policy;
  std::string engine_reason;        ///< why another than usual; empty: it is the usual one
  std::vector<std::string> suites;  ///< ESP suites that the engine runs
  std::int64_t pid = 0;
  double uptime_seconds = 0;
  ports::Placement placement;
  bool huge_pages = false, channel_connected = false;
  bool last_reload_ok = true;  ///< or there was none
  channel::ServerStatistics channel;
  std::uint64_t sas_in = 0, sas_out = 0, policies = 0;
  std::vector<WorkerReport> workers;
  std::vector<InterfaceReport> interfaces;
  std::vector<ChildReport> children;
};

}  // namespace culvert::dataplane::control
