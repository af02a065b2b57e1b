// What scrapes show: gathered by the main thread round after round, made into metrics by the thread
// that is asked for them.
#pragma once

#include <array>
#include <cstddef>
#include <expected>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/control/child_reports.hpp"
#include "dataplane/control/report.hpp"
#include "runtime/metrics_endpoint.hpp"

namespace culvert::dataplane::control {

struct Figures {
  StatusReport status;
  std::vector<DropReport> drops;
  double wall_seconds = 0;  ///< since the epoch, of what they are
};

/// The last figures that are whole. One thread writes, one at a time reads. There are three sets,
/// one that is published, one that may still be read and one that is written, so that neither
/// waits for the other, and none of their memory is given back in one piece.
class PublishedFigures {
 public:
  /// Writer: the set that nobody sees. Nothing of it is empty: it was published before.
  [[nodiscard]] Figures& next();
  /// Writer: what `next` gave is published.
  void publish();
  /// Reader: nothing before the first.
  [[nodiscard]] runtime::MetricFamilies read();

 private:
  std::array<Figures, 3> sets_;
  std::mutex mutex_;  ///< of what follows
  std::optional<std::size_t> published_, read_;
  std::optional<std::size_t> written_;  ///< the writer's own
};

/// Gathers figures and publishes them, where anybody can ask. Main thread.
class FigureRounds {
 public:
  /// Has all but the children filled in.
  using FillIn = std::function<void(Figures&)>;
  /// What is referred to outlives it.
  FigureRounds(Associations& associations, const ChildDirectory& children, FillIn fill_in,
               const Acquires* acquires = nullptr)
      : fill_in_(std::move(fill_in)), children_(associations, children, acquires) {}

  /// Answers scrapes there, from a first round on, which it makes at once; nullopt: nowhere, and
  /// nothing is ever gathered. The error is a sentence.
  std::expected<void, std::string> listen(const std::optional<wire::Endpoint>& address);
  /// Goes on with a round, or begins one, by as much as ChildReports does at once. True: its
  /// figures are published.
  bool work();
  /// What the next scrape is told.
  [[nodiscard]] runtime::MetricFamilies read() { return published_.read(); }
  /// No scrape is answered any more.
  void close() { endpoint_.reset(); }

 private:
  bool gather();

  FillIn fill_in_;
  ChildReports children_;
  PublishedFigures published_;
  std::unique_ptr<runtime::MetricsEndpoint> endpoint_;  ///< its threads read what is above
};

}  // namespace culvert::dataplane::control
