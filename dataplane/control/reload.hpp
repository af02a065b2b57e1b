// What a new configuration may change while the gateway runs, and what needs a restart. Pure.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "config/config.hpp"

namespace culvert::dataplane::control {

/// What differs and cannot be changed in a running gateway, each a sentence; empty: the new
/// configuration can be put in force. Interfaces of open devices, policies of every kind,
/// connections, children and manual SAs come, go and change places. `devices`: open since the start
/// (config::device_texts), beside those that `running` has.
std::vector<std::string> needs_restart(const config::Config& running, const config::Config& wanted,
                                       std::span<const std::string> devices = {});

}  // namespace culvert::dataplane::control
