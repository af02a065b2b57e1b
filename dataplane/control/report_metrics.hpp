// Reports as Prometheus families: names and labels of docs/reference/control-protocol.md, which
// users and dashboards rely on. Pure.
#pragma once

#include <chrono>
#include <vector>

#include "dataplane/control/report.hpp"
#include "runtime/metrics_endpoint.hpp"

namespace culvert::dataplane::control {

/// `drops`: every reason, those without packets too, so that a rate can be taken from the start.
/// `wall_seconds`: now, since the epoch, for timestamps.
runtime::MetricFamilies to_metrics(const StatusReport& status, const std::vector<DropReport>& drops,
                                   double wall_seconds);

}  // namespace culvert::dataplane::control
