// The key daemon's metrics (docs/reference/control-protocol.md, Metrics).
#pragma once

#include <string>

#include "ike/identity/certificates.hpp"
#include "ike/machine/machine.hpp"
#include "runtime/metrics_endpoint.hpp"

namespace culvert::ike {

runtime::MetricFamilies render_metrics(const MachineCounters& counters,
                                       const std::vector<IkeSaStatus>& sas,
                                       const std::vector<ConnectionStatus>& connections,
                                       bool dataplane_connected,
                                       const std::vector<Certificates::Loaded>& certificates = {});

/// What of the configuration is in force, and what of this process there is to tell.
struct ProcessFacts {
  std::string gateway;  ///< the instance, which both daemons of a gateway have
  std::string config_version;
  bool last_reload_ok = true;  ///< or there was none
};
void add_process(const ProcessFacts& facts, runtime::MetricFamilies& families);

/// Lists and OCSP responses asked for over HTTP.
prometheus::MetricFamily render_fetches(const RevocationFetches::Counters& counters);

}  // namespace culvert::ike
