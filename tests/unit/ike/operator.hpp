// What the operator of a ladder's gateway reads: the lines of the key daemon's log, and the text of
// `culvert status`.
#pragma once

#include <sstream>

#include "cli/render.hpp"
#include "ike/daemon/log_event.hpp"
#include "ike/daemon/status.hpp"
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {

/// As the daemon writes it, without the timestamp.
inline std::string log_line(const ike::Report& report) {
  const ike::LogEvent event = ike::to_log_event(report);
  return runtime::format_event_fields(event.level, event.name, event.fields);
}

/// The data plane's answer to `status`, of what a test's data plane holds
/// (docs/reference/control-protocol.md).
inline nlohmann::json data_plane_status(const Gateway& gateway) {
  nlohmann::json children = nlohmann::json::array();
  for (const config::Connection& connection : gateway.config->connections) {
    for (const config::Child& child : connection.children) {
      const bool inbound = std::ranges::any_of(gateway.data_plane.sas, [&](const auto& sa) {
        return sa.second.sa.child_id == child.id &&
               sa.second.sa.direction == channel::Direction::in;
      });
      const nlohmann::json nothing{{"packets", 0}, {"bytes", 0}, {"last_packet_seconds", nullptr}};
      children.push_back({{"connection", connection.name},
                          {"child", child.name},
                          {"up", inbound && gateway.data_plane.outbound_of(child.id) != nullptr},
                          {"in", nothing},
                          {"out", nothing}});
    }
  }
  return {{"running", true}, {"children", std::move(children)}};
}

/// The key daemon's, of what its machine says.
inline nlohmann::json key_daemon_status(const Gateway& gateway, ike::Instant now) {
  const auto sas = gateway.machine->ike_sas(now);
  return {{"running", true},
          {"dataplane_connected", true},
          {"last_stranger", ike::render_stranger(gateway.machine->last_stranger(now))},
          {"ike_sas", ike::render_ike_sas(sas)},
          {"connections",
           ike::render_connections(gateway.machine->connections(now), sas, *gateway.config)}};
}

inline std::vector<std::string> status_lines(const Gateway& gateway, ike::Instant now) {
  std::istringstream text(cli::render_status(
      cli::merge_status("hq", data_plane_status(gateway), key_daemon_status(gateway, now))));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

}  // namespace culvert::ladder
