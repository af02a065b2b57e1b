// The key daemon's life before this one, and the next: reads what an earlier process recorded, and
// keeps the record that a later one will read. Nothing leaves before it is on record.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "channel/client.hpp"
#include "channel/held_memory.hpp"
#include "ike/daemon/checkpoint.hpp"
#include "ike/daemon/spi_stock.hpp"
#include "ike/machine/machine.hpp"
#include "runtime/metrics_endpoint.hpp"

namespace culvert::ike {

class Recovery {
 public:
  /// A data plane is there, with the memory that it holds for us. `afresh`: this process has a
  /// state of its own already, and whatever the memory says is not asked.
  void connected(const channel::Descriptor& held, bool afresh);
  void disconnected();

  /// Requests for the SPIs that records name; to be sent before the first lease.
  [[nodiscard]] std::vector<channel::Request> requests() const;
  /// True: the completion was of one of these.
  [[nodiscard]] bool handle(const channel::Completion& completion);
  /// Whether some are not answered yet.
  [[nodiscard]] bool waits() const { return open_requests_ > 0; }

  /// Goes on from the records or, without any, begins beside what the data plane holds.
  void begin(Machine& machine, const std::vector<channel::SnapshotSa>& sas,
             const std::vector<channel::SnapshotPolicy>& policies, SpiStock& spis, Instant now,
             std::vector<Action>& actions);

  /// Puts on record what changed. Before what it led to leaves.
  void record(Machine& machine, Instant now);

  [[nodiscard]] nlohmann::json status() const;
  void add_metrics(runtime::MetricFamilies& families) const;

 private:
  void open(const channel::Descriptor& held);
  void look_back();
  void warn_unless_locked();

  std::optional<channel::HeldMapping> mapping_;
  std::optional<Checkpoint> checkpoint_;
  Records records_;  ///< of an earlier life, until `begin`
  std::vector<channel::Spi> spis_;
  std::set<channel::Spi> held_;
  std::size_t open_requests_ = 0;
  bool record_all_ = false;
  bool warned_ = false;
  std::optional<Instant> try_again_at_;  ///< the memory was full
  ResumeReport report_;
};

}  // namespace culvert::ike
