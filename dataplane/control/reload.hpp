// What a new configuration may change while the gateway runs, and what needs a restart. Pure.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace culvert::dataplane::control {

/// What differs and cannot be changed in a running gateway, each a sentence; empty: the new
/// configuration can be put in force. Interfaces, policies, routes, connections and children can
/// change: new ones behind the old, and only the last ones gone, so that the numbers by which SAs
/// know their child stay. `devices`: open since the start (config::device_texts), beside those that
/// `running` has.
std::vector<std::string> needs_restart(const config::Config& running, const config::Config& wanted,
                                       std::span<const std::string> devices = {});

}  // namespace culvert::dataplane::control
