// The key daemon's state as the JSON of docs/reference/control-protocol.md.
#pragma once

#include <nlohmann/json.hpp>

#include "channel/client.hpp"
#include "ike/identity/certificates.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::ike {

nlohmann::json render_ike_sas(const std::vector<IkeSaStatus>& sas);
/// "up" when every child of the connection is installed, "negotiating" when an IKE SA or a child is
/// on its way, "partial" when an IKE SA stands and nothing is, else "down".
nlohmann::json render_connections(const std::vector<ConnectionStatus>& connections,
                                  const std::vector<IkeSaStatus>& sas,
                                  const config::Config& configuration);
nlohmann::json render_stranger(const std::optional<StrangerStatus>& stranger);
nlohmann::json render_revocation(const Certificates& certificates);
nlohmann::json render_counters(const MachineCounters& counters);
nlohmann::json render_channel(const channel::ClientStatistics& statistics);

}  // namespace culvert::ike
