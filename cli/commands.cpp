#include "cli/commands.hpp"

#include <expected>
#include <functional>
#include <iostream>
#include <utility>

#include "cli/render.hpp"
#include "config/config.hpp"
#include "runtime/control_client.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;
using Answer = std::expected<json, runtime::ControlError>;

constexpr std::chrono::milliseconds kAnswerTime{5000};
/// A negotiation's own time limit comes first; this is for a daemon that hangs.
constexpr std::chrono::milliseconds kNegotiationSlack{3000};

enum class DaemonSocket : std::uint8_t { dataplane, ike };

Answer ask(const Options& options, DaemonSocket daemon, const std::string& verb,
           const json& args = json::object(), std::chrono::milliseconds timeout = kAnswerTime) {
  const char* name = daemon == DaemonSocket::dataplane ? "dataplane.sock" : "ike.sock";
  return runtime::control_request(config::run_directory(options.instance) / name, verb, args,
                                  timeout);
}

/// A file's name or a daemon's text may hold bytes that are no UTF-8; JSON may not.
std::string printable(const json& result) {
  return result.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

void print_json(const Options& options, const std::string& verb, json result) {
  result["schema"] = "culvert." + verb + ".v1";
  result["instance"] = options.instance;
  std::cout << printable(result);
}

int report(const Options& options, const std::string& verb, const runtime::ControlError& error) {
  if (options.json) {
    print_json(options, verb, {{"error", {{"code", error.code}, {"message", error.message}}}});
  } else {
    std::cerr << "culvert " << verb << ": " << error.message << '\n';
  }
  return 1;
}

int show(const Options& options, const std::string& verb, const json& args,
         const std::function<std::string(const json&)>& render) {
  const Answer answer = ask(options, DaemonSocket::dataplane, verb, args);
  if (!answer) return report(options, verb, answer.error());
  if (options.json) {
    print_json(options, verb, *answer);
  } else {
    std::cout << render(*answer);
  }
  return 0;
}

json to_json(const config::Diagnostic& diagnostic) {
  return {{"severity", diagnostic.severity == config::Severity::error ? "error" : "warning"},
          {"line", diagnostic.location.line},
          {"column", diagnostic.location.column},
          {"path", diagnostic.path},
          {"found", diagnostic.found},
          {"expected", diagnostic.expected},
          {"advice", diagnostic.advice}};
}

}  // namespace

int check(const Options& options, const std::string& file) {
  const config::LoadResult loaded = config::load_file(file);
  if (options.json) {
    json diagnostics = json::array();
    for (const auto& diagnostic : loaded.diagnostics) diagnostics.push_back(to_json(diagnostic));
    // No daemon is asked: the gateway is the one that the file is for.
    const json result{{"schema", "culvert.check.v1"},
                      {"instance", loaded.ok() ? json(loaded.config->instance) : json(nullptr)},
                      {"file", file},
                      {"ok", loaded.ok()},
                      {"diagnostics", std::move(diagnostics)}};
    std::cout << printable(result);
    return loaded.ok() ? 0 : 1;
  }
  for (const auto& diagnostic : loaded.diagnostics) std::cout << diagnostic.to_string() << '\n';
  if (loaded.ok()) std::cout << file << ": OK\n";
  return loaded.ok() ? 0 : 1;
}

int status(const Options& options) {
  const json dataplane = running_or_error(ask(options, DaemonSocket::dataplane, "status"));
  const json ike = running_or_error(ask(options, DaemonSocket::ike, "status"));
  const auto also = [&](const char* verb, const json& args = json::object()) -> json {
    if (dataplane["running"] != true)
      return nullptr;  // who does not answer is not waited for again
    const Answer answer = ask(options, DaemonSocket::dataplane, verb, args);
    return answer ? *answer : json(nullptr);
  };
  const json counters = also("counters", {{"all", true}});  // what each reason means
  json links = also("routes");
  if (const json neighbors = also("neighbors"); links.is_object() && neighbors.is_object()) {
    links.update(neighbors);
  }
  const json merged = merge_status(options.instance, dataplane, ike, counters, std::move(links));
  std::cout << (options.json ? printable(merged) : render_status(merged));
  const bool is_whole = ike["running"] == true || !needs_key_daemon(dataplane);
  return dataplane["running"] == true && is_whole ? 0 : 1;
}

int sas(const Options& options) {
  Answer answer = ask(options, DaemonSocket::dataplane, "sas");
  if (!answer) return report(options, "sas", answer.error());
  if (!options.json) {
    std::cout << render_sas(*answer);
    return 0;
  }
  const Answer ike = ask(options, DaemonSocket::ike, "status");
  (*answer)["ike_sas"] = ike ? ike->value("ike_sas", json::array()) : json(nullptr);
  print_json(options, "sas", *answer);
  return 0;
}

int policies(const Options& options) { return show(options, "policies", {}, render_policies); }
int routes(const Options& options) { return show(options, "routes", {}, render_routes); }
int neighbors(const Options& options) { return show(options, "neighbors", {}, render_neighbors); }

int counters(const Options& options, bool drops_only, bool all) {
  Answer answer = ask(options, DaemonSocket::dataplane, "counters", {{"all", all}});
  if (!answer) return report(options, "counters", answer.error());
  if (!options.json) {
    std::cout << render_counters(*answer, drops_only);
    return 0;
  }
  if (drops_only) answer = only_drops(*answer);
  print_json(options, "counters", *answer);
  return 0;
}

int negotiate(const Options& options, const std::string& verb, const std::string& name, bool ike,
              std::chrono::seconds timeout) {
  const json args{{"name", name}, {"ike", ike}, {"timeout_seconds", timeout.count()}};
  const Answer answer = ask(options, DaemonSocket::ike, verb, args, timeout + kNegotiationSlack);
  if (!answer) return report(options, verb, answer.error());
  if (options.json) {
    print_json(options, verb, *answer);
  } else {
    std::cout << answer->value("name", name) << ": " << answer->value("message", "done") << '\n';
  }
  return 0;
}

}  // namespace culvert::cli
