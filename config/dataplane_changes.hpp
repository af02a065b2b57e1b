// What of the data plane's part of a configuration does not change while it runs.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"

namespace culvert::config {

/// The reasons, each a phrase, why a change from one to the other needs a restart; none: a reload
/// does it. Both daemons ask, for one that reloaded alone would speak from addresses that the other
/// does not have.
[[nodiscard]] std::vector<std::string> restart_reasons(const Dataplane& running,
                                                       const Dataplane& wanted);

}  // namespace culvert::config
