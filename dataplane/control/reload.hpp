// What a new configuration may change while the gateway runs, and what needs a restart. Pure.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"

namespace culvert::dataplane::control {

/// What differs and cannot be changed in a running gateway, each a sentence; empty: the new
/// configuration can be put in force. Policies, routes, connections and children (new ones behind
/// the old, so that the numbers by which SAs know their child stay) can change.
std::vector<std::string> needs_restart(const config::Config& running, const config::Config& wanted);

}  // namespace culvert::dataplane::control
