// GET /metrics over HTTP, and the small words to write metric families with. prometheus-cpp does
// the HTTP in threads of its own; they call `Collect`, so a daemon publishes snapshots through
// `MetricsSnapshot` rather than let them read its state.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <prometheus/metric_family.h>

namespace culvert::runtime {

using MetricFamilies = std::vector<prometheus::MetricFamily>;
using Labels = std::vector<std::pair<std::string, std::string>>;

/// The last published state: the daemon's thread publishes, the HTTP threads read.
class MetricsSnapshot {
 public:
  void publish(MetricFamilies families);
  [[nodiscard]] MetricFamilies read() const;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const MetricFamilies> families_;
};

class MetricsEndpoint {
 public:
  /// Called on an HTTP thread at every scrape, one at a time.
  using Collect = std::function<MetricFamilies()>;

  /// Listens on `address` ("127.0.0.1:9464", "[::1]:9464"; port 0: any) until destroyed. The error
  /// is a sentence. Block the daemon's signals first: the threads inherit the mask.
  static std::expected<std::unique_ptr<MetricsEndpoint>, std::string> create(
      const std::string& address, Collect collect);
  /// The usual case; `snapshot` must live as long as the endpoint.
  static std::expected<std::unique_ptr<MetricsEndpoint>, std::string> create(
      const std::string& address, const MetricsSnapshot& snapshot);
  virtual ~MetricsEndpoint() = default;

  [[nodiscard]] virtual std::uint16_t port() const = 0;  ///< host order
};

/// Builds one family: `Family::counter("culvert_drops_total", "Packets dropped").add({{"reason",
/// "no_route"}}, 4).take()`.
class Family {
 public:
  static Family counter(std::string_view name, std::string_view help);
  static Family gauge(std::string_view name, std::string_view help);
  static Family histogram(std::string_view name, std::string_view help);

  /// A sample of a counter or gauge.
  Family& add(const Labels& labels, double value);
  /// A sample of a histogram: `counts[i]` observations in (upper_bounds[i-1], upper_bounds[i]], not
  /// cumulative; `counts` has one more, for those above the last bound.
  Family& add(const Labels& labels, std::span<const double> upper_bounds,
              std::span<const std::uint64_t> counts, double sum);
  [[nodiscard]] prometheus::MetricFamily take() { return std::move(family_); }

 private:
  Family(std::string_view name, std::string_view help, prometheus::MetricType type);
  prometheus::MetricFamily family_;
};

/// `process_start_time_seconds` of this process, as every exporter has it.
prometheus::MetricFamily process_start_time();
/// `process_resident_memory_bytes`, without huge pages; no sample where the kernel does not say.
prometheus::MetricFamily process_memory();

}  // namespace culvert::runtime
