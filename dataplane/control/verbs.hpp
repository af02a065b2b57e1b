// The data plane's control verbs (docs/reference/control-protocol.md).
#pragma once

#include "dataplane/control/reporter.hpp"
#include "runtime/control_server.hpp"

namespace culvert::dataplane::control {

/// Registers status, sas, policies, counters, routes and neighbors; `reporter` outlives `server`.
void register_verbs(runtime::ControlServer& server, Reporter& reporter);

}  // namespace culvert::dataplane::control
