// JSON from the daemons in, text for the operator out. Pure: no sockets, no clock.
#pragma once

#include <expected>
#include <string>

#include <nlohmann/json.hpp>

#include "runtime/control_client.hpp"

namespace culvert::cli {

/// A daemon's `status` with `running`, which is known only from an answer, or where nobody listens:
/// {running: true, …} or {running: false or null, error, error_code}.
nlohmann::json running_or_error(const std::expected<nlohmann::json, runtime::ControlError>& answer);
/// What `culvert status` knows: both daemons' `status`, merged and judged
/// (docs/reference/control-protocol.md, The command). `counters`: the data plane's, or null;
/// `links`: its `routes` and `neighbors` in one object, or null.
nlohmann::json merge_status(const std::string& instance, const nlohmann::json& dataplane,
                            const nlohmann::json& ike, const nlohmann::json& counters = nullptr,
                            nlohmann::json links = nullptr);
/// Whether a data plane with that `status` has children that only IKE can keep up, or none that are
/// known: with manual SAs alone a gateway is whole without it.
bool needs_key_daemon(const nlohmann::json& dataplane);
/// The few drop reasons of `counters` that an operator should know of, the serious ones and then
/// most packets first; what a healthy network always drops is left out.
nlohmann::json notable_drops(const nlohmann::json& counters);
/// For a person at 3 a.m.: the verdict first, then what to do, then the details.
std::string render_status(const nlohmann::json& status);

/// The last packet that an SA's selectors refused, and what they take; "" for null.
std::string render_refusal(const nlohmann::json& refusal, const char* indent);

std::string render_sas(const nlohmann::json& sas);
std::string render_policies(const nlohmann::json& policies);
std::string render_routes(const nlohmann::json& routes);
std::string render_neighbors(const nlohmann::json& neighbors);
std::string render_counters(const nlohmann::json& counters, bool drops_only);
/// Of `counters` what `--drops` leaves.
nlohmann::json only_drops(const nlohmann::json& counters);

/// "3s", "4m12s", "2h05m", "3d04h"; "-" for null.
std::string human_duration(const nlohmann::json& seconds);
/// "17 B", "1.4 MiB".
std::string human_bytes(const nlohmann::json& bytes);

}  // namespace culvert::cli
