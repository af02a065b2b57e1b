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

/// Lists and OCSP responses asked for over HTTP.
prometheus::MetricFamily render_fetches(const RevocationFetches::Counters& counters);

}  // namespace culvert::ike
