// What of the data plane's part of a configuration does not change while it runs.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace culvert::config {

/// The devices of its interfaces, as they are written, each once.
[[nodiscard]] std::vector<std::string> device_texts(const Dataplane& dataplane);

/// The reasons, each a phrase, why a change from one to the other needs a restart; none: a reload
/// does it. `open`: devices that were opened at the start, also such that `running` has not any
/// more. Both daemons ask, for one that reloaded alone would speak from addresses that the other
/// does not have.
[[nodiscard]] std::vector<std::string> restart_reasons(const Dataplane& running,
                                                       const Dataplane& wanted,
                                                       std::span<const std::string> open = {});

}  // namespace culvert::config
