// Reports as the control socket's JSON (docs/reference/control-protocol.md). Pure.
#pragma once

#include <cstddef>
#include <vector>

#include <nlohmann/json.hpp>

#include "dataplane/control/report.hpp"

namespace culvert::dataplane::control {

nlohmann::json to_json(const StatusReport& status);
nlohmann::json to_json(const ChildReport& child);
nlohmann::json to_json(const SaReport& sa);
/// `position`: its own in the order of matching.
nlohmann::json to_json(const PolicyReport& policy, std::size_t position);
nlohmann::json to_json(const std::vector<RouteReport>& routes);
nlohmann::json to_json(const std::vector<NeighborReport>& neighbors);
nlohmann::json counters_json(const std::vector<DropReport>& drops, const TotalsReport& totals,
                             const std::vector<WorkerReport>& workers);

}  // namespace culvert::dataplane::control
