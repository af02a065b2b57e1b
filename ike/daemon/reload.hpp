// What a new configuration may change while the key daemon runs, and what needs a restart. Pure.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"

namespace culvert::ike {

/// What differs and cannot be changed, each a sentence; empty: the new configuration can be
/// applied. Connections and children come, go and change places. Which devices are open the data
/// plane alone knows, and refuses others.
[[nodiscard]] std::vector<std::string> needs_restart(const config::Config& running,
                                                     const config::Config& wanted);

}  // namespace culvert::ike
