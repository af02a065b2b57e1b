// Gathers reports from the tables, ports and counters. Main thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "channel/server.hpp"
#include "config/config.hpp"
#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/control/interfaces.hpp"
#include "dataplane/control/list_reports.hpp"
#include "dataplane/control/neighbors.hpp"
#include "dataplane/control/policy_book.hpp"
#include "dataplane/control/report.hpp"
#include "dataplane/control/steering.hpp"
#include "dataplane/control/workers.hpp"
#include "runtime/control_server.hpp"

namespace culvert::dataplane::control {

/// "02:00:00:00:00:01"
std::string mac_text(const wire::MacAddress& mac);

class Reporter {
 public:
  /// What it reads; all outlive it.
  struct Sources {
    const config::Config& config;
    Tables& tables;
    const Interfaces& interfaces;
    const Workers& workers;
    const channel::Server& channel;
    const Topology& topology;
    const ChildDirectory& children;
    Associations& associations;
    const PolicyBook& policies;
    const Neighbors& neighbors;
    const Steering& steering;
    const Acquires* acquires;
  };
  Reporter(const Sources& sources, const Hardware& hardware, Instant started);

  /// Names the configuration in force, for `config_version`.
  void configuration_changed(std::string version) { config_version_ = std::move(version); }
  void reload_ended(bool ok) { last_reload_ok_ = ok; }

  /// Answers that tell of every child, SA or policy. They read what this reads, in slices.
  [[nodiscard]] std::unique_ptr<runtime::SlicedResult> status(Instant now) const;
  [[nodiscard]] std::unique_ptr<runtime::SlicedResult> sas() const;
  [[nodiscard]] std::unique_ptr<runtime::SlicedResult> policies() const;
  /// The status without the children.
  [[nodiscard]] StatusReport gateway(Instant now) const;
  [[nodiscard]] std::vector<RouteReport> routes() const;
  [[nodiscard]] std::vector<NeighborReport> neighbors(Instant now) const;
  /// By reason and direction; those without packets only with `all`.
  [[nodiscard]] std::vector<DropReport> drops(bool all) const;
  /// Packets that ended for this reason, whichever way they went.
  [[nodiscard]] std::uint64_t dropped(DropReason reason) const;
  [[nodiscard]] TotalsReport totals() const;
  [[nodiscard]] std::vector<WorkerReport> workers() const;
  /// A worker's idle time is reported since the call of this before the last: a second or two, when
  /// it is called each second, whoever asks how often.
  void take_cycles();

 private:
  struct Cycles {
    std::uint64_t busy = 0, idle = 0;
  };
  [[nodiscard]] Cycles cycles_of(std::uint32_t worker) const;
  [[nodiscard]] std::vector<InterfaceReport> interfaces() const;
  [[nodiscard]] std::string interface_name(PortId port) const;

  Sources sources_;
  ListSources lists_;
  std::string engine_, engine_reason_;
  std::vector<std::string> suites_;
  ports::Placement placement_;
  bool huge_pages_;
  Instant started_;
  std::string config_version_;
  bool last_reload_ok_ = true;
  std::vector<Cycles> last_cycles_, cycles_before_;  ///< by worker, at take_cycles
};

}  // namespace culvert::dataplane::control
