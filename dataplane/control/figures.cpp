#include "dataplane/control/figures.hpp"

#include <cassert>
#include <chrono>
#include <utility>

#include "dataplane/control/report_metrics.hpp"

namespace culvert::dataplane::control {

Figures& PublishedFigures::next() {
  if (!written_) {
    const std::lock_guard lock(mutex_);
    std::size_t free = 0;
    while (free == published_ || free == read_) ++free;
    written_ = free;
  }
  return sets_[*written_];
}

void PublishedFigures::publish() {
  assert(written_);
  const std::lock_guard lock(mutex_);
  published_ = std::exchange(written_, std::nullopt);
}

runtime::MetricFamilies PublishedFigures::read() {
  {
    const std::lock_guard lock(mutex_);
    if (!published_) return {};
    read_ = published_;
  }
  const Figures& figures = sets_[*read_];  // which nobody else writes
  auto families = to_metrics(figures.status, figures.drops, figures.wall_seconds);
  const std::lock_guard lock(mutex_);
  read_.reset();
  return families;
}

std::expected<void, std::string> FigureRounds::listen(
    const std::optional<wire::Endpoint>& address) {
  if (!address) return {};
  static_cast<void>(runtime::process_start_time());  // is taken now, not at the first scrape
  while (!gather()) {
  }
  auto endpoint = runtime::MetricsEndpoint::create(address->to_string(), [this] { return read(); });
  if (!endpoint) return std::unexpected(endpoint.error());
  endpoint_ = std::move(*endpoint);
  return {};
}

bool FigureRounds::work() { return endpoint_ == nullptr || gather(); }

bool FigureRounds::gather() {
  Figures& figures = published_.next();
  std::vector<ChildReport>& children = figures.status.children;
  if (!children_.work(children)) return false;
  auto made = std::move(children);
  fill_in_(figures);
  figures.status.children = std::move(made);
  const std::chrono::duration<double> wall = std::chrono::system_clock::now().time_since_epoch();
  // Ages of children are of when the last of their SAs was counted.
  figures.wall_seconds = wall.count() - seconds_since(children_.as_of_tsc()).value_or(0);
  published_.publish();
  return true;
}

}  // namespace culvert::dataplane::control
