// The verbs of ike.sock (docs/reference/control-protocol.md). Negotiations answer when they end;
// nothing here waits.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <unistd.h>

#include "ike/daemon/daemon.hpp"
#include "ike/daemon/status.hpp"
#include "ike/machine/named.hpp"

namespace culvert::ike {
namespace {

constexpr std::int64_t kDefaultTimeoutSeconds = 30;
constexpr std::int64_t kLongestTimeoutSeconds = 3600;

/// What is wrong with a name; nullopt: nothing.
std::optional<std::string> problem_of(const config::Config& configuration, CommandVerb verb,
                                      const std::string& name) {
  std::vector<const config::Connection*> connections;
  for (const config::Connection& connection : configuration.connections) {
    connections.push_back(&connection);
  }
  const auto named = find_named(connections, verb, name);
  return named ? std::nullopt : std::optional(named.error());
}

}  // namespace

void Daemon::handle_verbs() {
  control_->handle("status", [this](const nlohmann::json&, const runtime::Responder& responder) {
    responder.ok(status());
  });
  control_->handle("counters", [this](const nlohmann::json&, const runtime::Responder& responder) {
    nlohmann::json result = render_counters(machine_->counters());
    if (client_ != nullptr) result["channel"] = render_channel(client_->statistics());
    responder.ok(result);
  });
  control_->handle("initiate", [this](const nlohmann::json& args, runtime::Responder responder) {
    command(CommandVerb::initiate, args, std::move(responder));
  });
  control_->handle("terminate", [this](const nlohmann::json& args, runtime::Responder responder) {
    command(CommandVerb::terminate, args, std::move(responder));
  });
  control_->handle("rekey", [this](const nlohmann::json& args, runtime::Responder responder) {
    const bool ike = args.value("ike", false);
    command(ike ? CommandVerb::rekey_ike : CommandVerb::rekey_child, args, std::move(responder));
  });
}

void Daemon::command(CommandVerb verb, const nlohmann::json& args, runtime::Responder responder) {
  const std::string name = args.value("name", "");
  if (const auto problem = problem_of(*configuration_, verb, name)) {
    responder.fail("unknown_name", *problem);
    return;
  }
  if (phase_ != Phase::running) {
    responder.fail("dataplane_not_running",
                   "the data plane is not connected; start culvert-dataplane first");
    return;
  }
  const auto timeout =
      std::chrono::seconds(std::clamp(args.value("timeout_seconds", kDefaultTimeoutSeconds),
                                      std::int64_t{1}, kLongestTimeoutSeconds));
  const CommandId id{++last_command_};
  const auto timer = loop_.set_timer(runtime::now() + timeout, [this, id] {
    const auto found = commands_.find(id);
    if (found == commands_.end()) return;
    found->second.responder.fail("timeout", "not done in the given time; it goes on: see `status`");
    commands_.erase(found);
  });
  commands_.emplace(id, WaitingCommand{name, std::move(responder), timer});
  machine_->on_command({id, verb, name}, runtime::now(), actions_);
}

nlohmann::json Daemon::status() const {
  const Instant now = runtime::now();
  const auto sas = machine_->ike_sas(now);
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(now - started_);
  return {{"version", CULVERT_VERSION},
          {"instance", configuration_->instance},
          {"pid", ::getpid()},
          {"uptime_seconds", uptime.count()},
          {"config_version", config_version_},
          {"dataplane_connected", phase_ == Phase::running},
          {"recovery", recovery_.status()},
          {"last_stranger", render_stranger(machine_->last_stranger(now))},
          {"revocation", render_revocation(certificates_)},
          {"ike_sas", render_ike_sas(sas)},
          {"connections", render_connections(machine_->connections(now), sas, *configuration_)}};
}

}  // namespace culvert::ike
