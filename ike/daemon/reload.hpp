// What a new configuration may change while the key daemon runs, and what needs a restart. Pure.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace culvert::ike {

/// What differs and cannot be changed, each a sentence; empty: the new configuration can be
/// applied. Connections and children come, go and change places. `devices`: those of interfaces
/// since the start (config::device_texts).
[[nodiscard]] std::vector<std::string> needs_restart(const config::Config& running,
                                                     const config::Config& wanted,
                                                     std::span<const std::string> devices = {});

}  // namespace culvert::ike
