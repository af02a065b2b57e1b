#include "dataplane/control/reload.hpp"

#include <algorithm>
#include <iterator>

#include "config/dataplane_changes.hpp"

namespace culvert::dataplane::control {

std::vector<std::string> needs_restart(const config::Config& running, const config::Config& wanted,
                                       std::span<const std::string> devices) {
  std::vector<std::string> reasons;
  if (running.instance != wanted.instance) reasons.emplace_back("instance changed");
  if (running.user != wanted.user) reasons.emplace_back("user changed");
  std::ranges::move(config::restart_reasons(running.dataplane, wanted.dataplane, devices),
                    std::back_inserter(reasons));
  if (running.metrics.listen != wanted.metrics.listen) {
    reasons.emplace_back("metrics.listen changed");
  }
  return reasons;
}

}  // namespace culvert::dataplane::control
