#include "runtime/metrics_endpoint.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <fstream>
#include <limits>

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <unistd.h>

namespace culvert::runtime {
namespace {

/// The HTTP server's threads: a scraper and a person with curl at the same time.
constexpr std::size_t kHttpThreads = 2;

class CallbackCollectable final : public prometheus::Collectable {
 public:
  explicit CallbackCollectable(MetricsEndpoint::Collect collect) : collect_(std::move(collect)) {}
  MetricFamilies Collect() const override {
    const std::lock_guard lock(one_at_a_time_);
    return collect_();
  }

 private:
  mutable std::mutex one_at_a_time_;
  MetricsEndpoint::Collect collect_;
};

class ExposerEndpoint final : public MetricsEndpoint {
 public:
  ExposerEndpoint(const std::string& address, Collect collect)
      : collectable_(std::make_shared<CallbackCollectable>(std::move(collect))),
        exposer_(address, kHttpThreads) {
    exposer_.RegisterCollectable(collectable_);
  }

  [[nodiscard]] std::uint16_t port() const override {
    const std::vector<int> ports = exposer_.GetListeningPorts();
    return ports.empty() ? std::uint16_t{0} : static_cast<std::uint16_t>(ports.front());
  }

 private:
  std::shared_ptr<CallbackCollectable> collectable_;  // outlives exposer_, which holds it weakly
  prometheus::Exposer exposer_;
};

prometheus::ClientMetric labelled(const Labels& labels) {
  prometheus::ClientMetric metric;
  metric.label.reserve(labels.size());
  for (const auto& [name, value] : labels) metric.label.push_back({name, value});
  return metric;
}

}  // namespace

void MetricsSnapshot::publish(MetricFamilies families) {
  auto fresh = std::make_shared<const MetricFamilies>(std::move(families));
  const std::lock_guard lock(mutex_);
  families_.swap(fresh);
}

MetricFamilies MetricsSnapshot::read() const {
  std::shared_ptr<const MetricFamilies> current;
  {
    const std::lock_guard lock(mutex_);
    current = families_;
  }
  return current ? *current : MetricFamilies{};
}

std::expected<std::unique_ptr<MetricsEndpoint>, std::string> MetricsEndpoint::create(
    const std::string& address, Collect collect) {
  try {
    return std::make_unique<ExposerEndpoint>(address, std::move(collect));
  } catch (const std::exception& error) {
    // The library says only that it failed; this is all there is to get wrong.
    return std::unexpected("metrics: cannot listen on " + address +
                           ": taken by another program, no address of this machine, or a port "
                           "that this user may not open (" +
                           error.what() + ")");
  }
}

std::expected<std::unique_ptr<MetricsEndpoint>, std::string> MetricsEndpoint::create(
    const std::string& address, const MetricsSnapshot& snapshot) {
  return create(address, [&snapshot] { return snapshot.read(); });
}

Family::Family(std::string_view name, std::string_view help, prometheus::MetricType type) {
  family_.name = name;
  family_.help = help;
  family_.type = type;
}

Family Family::counter(std::string_view name, std::string_view help) {
  return {name, help, prometheus::MetricType::Counter};
}
Family Family::gauge(std::string_view name, std::string_view help) {
  return {name, help, prometheus::MetricType::Gauge};
}
Family Family::histogram(std::string_view name, std::string_view help) {
  return {name, help, prometheus::MetricType::Histogram};
}

Family& Family::add(const Labels& labels, double value) {
  prometheus::ClientMetric metric = labelled(labels);
  metric.counter.value = value;
  metric.gauge.value = value;
  family_.metric.push_back(std::move(metric));
  return *this;
}

Family& Family::add(const Labels& labels, std::span<const double> upper_bounds,
                    std::span<const std::uint64_t> counts, double sum) {
  prometheus::ClientMetric metric = labelled(labels);
  std::uint64_t cumulative = 0;
  for (std::size_t index = 0; index < counts.size(); ++index) {
    cumulative += counts[index];
    const double bound =
        index < upper_bounds.size() ? upper_bounds[index] : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back({cumulative, bound});
  }
  metric.histogram.sample_count = cumulative;
  metric.histogram.sample_sum = sum;
  family_.metric.push_back(std::move(metric));
  return *this;
}

prometheus::MetricFamily process_start_time() {
  // Taken once, near enough to the start: daemons build their first metrics while starting.
  static const double started =
      std::round(std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch())
                     .count() *
                 1000) /
      1000;
  return Family::gauge("process_start_time_seconds",
                       "Start time of the process since the Unix epoch")
      .add({}, started)
      .take();
}

prometheus::MetricFamily process_memory() {
  Family family = Family::gauge("process_resident_memory_bytes", "Memory in use, huge pages apart");
  std::ifstream stream("/proc/self/statm");
  std::uint64_t all = 0, resident = 0;
  if (stream >> all >> resident) {
    family.add({}, static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE)));
  }
  return family.take();
}

}  // namespace culvert::runtime
