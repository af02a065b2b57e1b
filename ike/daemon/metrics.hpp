// The key daemon's metrics (docs/reference/control-protocol.md, Metrics).
#pragma once

#include "ike/identity/certificates.hpp"
#include "ike/machine/machine.hpp"
#include "runtime/metrics_endpoint.hpp"

namespace culvert::ike {

runtime::MetricFamilies render_metrics(const MachineCounters& counters,
                                       const std::vector<IkeSaStatus>& sas,
                                       const std::vector<ConnectionStatus>& connections,
                                       bool dataplane_connected,
                                       const std::vector<Certificates::Loaded>& certificates = {});

}  // namespace culvert::ike
