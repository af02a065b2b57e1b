// Judging a gateway from what its two daemons say: both byte counters of each child, not the IKE
// state alone.
#include <algorithm>
#include <string>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "cli/json_text.hpp"
#include "cli/problems.hpp"
#include "cli/render.hpp"
#include "cli/unreachable.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;

/// A refused stranger is of interest this long.
constexpr double kStrangerSeconds = 300;

/// The key daemon's entry of a child; null when there is none.
const json& negotiated_child(const json& ike, const std::string& connection,
                             const std::string& child) {
  static const json nothing;
  for (const json& sa : member(ike, "ike_sas")) {
    if (text(sa, "connection") != connection) continue;
    for (const json& candidate : member(sa, "children")) {
      if (text(candidate, "child") == child && text(candidate, "state") != "deleting") {
        return candidate;
      }
    }
  }
  return nothing;
}

const json& by_connection(const json& list, const std::string& connection) {
  static const json nothing;
  for (const json& candidate : list) {
    if (text(candidate, "connection") == connection) return candidate;
  }
  return nothing;
}

/// Where the IKE SA's peer is, else where it is configured to be; "-".
std::string peer_of(const json& sa, const json& connection) {
  return member(sa, "remote").is_string() ? text(sa, "remote") : text(connection, "remote");
}

/// Children of a connection that nothing passes through, for one reason: one problem.
class Stopped {
 public:
  void add(const std::string& connection, const std::string& child, const Judgement& judgement,
           json& problems) {
    if (judgement.state != "down" && judgement.state != "one-way") return;
    const bool alike = !names_.empty() && connection == connection_ &&
                       judgement.state == judgement_.state && judgement.reason == judgement_.reason;
    names_ = alike ? names_ + ", " + child : child;
    const std::string what = names_ + (alike ? " are " : " is ") + judgement.state;
    if (alike) {
      problems[place_]["what"] = what;
      return;
    }
    connection_ = connection;
    judgement_ = judgement;
    place_ = problems.size();
    add_problem(problems, judgement.state == "down" ? "error" : "warning", what, judgement.reason,
                judgement.remedy);
  }

 private:
  std::string connection_, names_;
  Judgement judgement_;
  std::size_t place_ = 0;  ///< of their problem
};

/// Traffic passes for now, and something will not go on like that, or somebody waits outside.
void judge_negotiations(const json& ike, json& problems) {
  for (const json& connection : member(ike, "connections")) {
    const json& failure = member(connection, "last_failure");
    if (!is_true(failure, "while_up")) continue;
    const json& child = member(failure, "child");
    const json& age = member(failure, "age_seconds");
    add_problem(
        problems, "warning",
        (child.is_string() ? text(failure, "child") : text(connection, "connection")) +
            " is up, but: " + text(failure, "failure"),
        text(failure, "detail") + (age.is_number() ? ", " + human_duration(age) + " ago" : ""),
        text(failure, "remedy"));
  }
  const json& stranger = member(ike, "last_stranger");
  if (!stranger.is_object() || number(stranger, "age_seconds") > kStrangerSeconds) return;
  add_problem(problems, "warning", "a peer was refused: " + text(stranger, "failure"),
              text(stranger, "detail"), text(stranger, "remedy"));
}

/// Revoked peers that would not be noticed.
void judge_revocation(const json& revocation, json& problems) {
  if (!revocation.is_object() || number(revocation, "authorities") == 0) return;
  const std::string policy = text(revocation, "policy");
  if (policy == "off") {
    add_problem(problems, "warning", "revoked certificates are accepted", "pki.revocation is off",
                "write revocation: strict or if-available");
    return;
  }
  if (policy == "if-available" && text(revocation, "ocsp") == "off" &&
      number(revocation, "lists_in_force") == 0) {
    add_problem(problems, "warning", "revoked certificates are accepted",
                "no revocation list is in force and ocsp is off",
                "write crls: [FILE or URL] or ocsp: fetch under pki");
  }
  for (const json& list : member(revocation, "lists")) {
    if (!member(list, "problem").is_string()) continue;
    add_problem(problems, "warning", "a revocation list is not fetched",
                text(list, "url") + ": " + text(list, "problem"),
                "let this host reach it; what was fetched before counts until its next update");
  }
}

json merge_child(const json& child, const json& negotiated, const Judgement& judgement) {
  return {{"child", member(child, "child")},
          {"state", judgement.state},
          {"up", is_true(child, "up")},
          {"wanted", member(child, "wanted")},
          {"reason", judgement.reason},
          {"notice", member(negotiated, "notice")},
          {"in", member(child, "in")},
          {"out", member(child, "out")},
          {"unreachable", unreachable_now(child)},
          {"spi_in", member(negotiated, "spi_in")},
          {"spi_out", member(negotiated, "spi_out")},
          {"suite", member(negotiated, "suite")},
          {"rekey_in_seconds", member(negotiated, "rekey_in_seconds")},
          {"local_ts", member(negotiated, "local_ts")},
          {"remote_ts", member(negotiated, "remote_ts")}};
}

/// About a daemon that has not answered: whether it is to be started depends on why.
std::string what_to_do(const json& daemon, const char* start, const char* name) {
  const std::string code = text(daemon, "error_code");
  if (code == "permission_denied") return "run it as root or as the service user (sudo)";
  if (code == "-" || code == "not_running") return start;
  return fmt::format(
      "it is there: ask again; if that lasts, see its log and its processor (journalctl -u "
      "'{}@*', top), for traffic may pass all the same",
      name);
}

void judge_daemons(const json& dataplane, const json& ike, json& problems) {
  const bool may_not_ask = text(dataplane, "error_code") == "permission_denied";
  if (!is_true(dataplane, "running")) {
    add_problem(problems, "error",
                may_not_ask ? "the daemons may not be asked" : "the data plane does not answer",
                text(dataplane, "error"),
                what_to_do(dataplane, "start culvert-dataplane; no packet passes without it",
                           "culvert-dataplane"));
  }
  if (may_not_ask || !needs_key_daemon(dataplane)) return;  // both are the same user's
  if (!is_true(ike, "running")) {
    add_problem(problems, "warning", "the key daemon does not answer", text(ike, "error"),
                what_to_do(ike, "start culvert-ike; installed SAs carry traffic until they expire",
                           "culvert-ike"));
  } else if (is_true(dataplane, "running") && !is_true(ike, "dataplane_connected")) {
    add_problem(problems, "error", "the key daemon has no channel to the data plane", "",
                "see the log of culvert-ike for the reason");
  }
}

}  // namespace

json running_or_error(const std::expected<json, runtime::ControlError>& answer) {
  if (!answer) {
    const runtime::ControlError& error = answer.error();
    return {{"running", error.code == "not_running" ? json(false) : json(nullptr)},
            {"error", error.message},
            {"error_code", error.code}};
  }
  json result = *answer;
  result["running"] = true;
  return result;
}

bool needs_key_daemon(const json& dataplane) {
  const json& children = member(dataplane, "children");
  const auto is_manual = [](const json& child) { return is_true(child, "manual"); };
  return !children.is_array() || children.empty() || !std::ranges::all_of(children, is_manual);
}

json merge_status(const std::string& instance, const json& dataplane, const json& ike,
                  const json& counters, json links) {
  if (links.is_object()) links["interfaces"] = member(dataplane, "interfaces");
  json connections = json::array();
  json problems = json::array();
  judge_daemons(dataplane, ike, problems);
  Stopped stopped;
  for (const json& child : member(dataplane, "children")) {
    const std::string name = text(child, "connection");
    const json& negotiated = negotiated_child(ike, name, text(child, "child"));
    const json& state = by_connection(member(ike, "connections"), name);
    const json& sa = by_connection(member(ike, "ike_sas"), name);
    const json drops =
        is_true(child, "up") ? large_drops(child, counters) : json(json::value_t::array);
    const Judgement judgement =
        judge_child(child, {negotiated, state, ike, counters, drops, links, peer_of(sa, state)});
    if (connections.empty() || text(connections.back(), "connection") != name) {
      connections.push_back(
          {{"connection", name},
           {"state", member(state, "state")},
           {"local", member(sa, "local")},
           {"remote", member(sa, "remote")},
           {"suite", member(sa, "suite")},
           {"remote_auth", member(sa, "remote_auth")},
           {"remote_certificate", member(sa, "remote_certificate")},
           {"remote_certificate_expires", member(sa, "remote_certificate_expires")},
           {"children", json::array()}});
    }
    connections.back()["children"].push_back(merge_child(child, negotiated, judgement));
    stopped.add(name, text(child, "child"), judgement, problems);
    problems.insert(problems.end(), drops.begin(), drops.end());
  }
  judge_negotiations(ike, problems);
  judge_revocation(member(ike, "revocation"), problems);
  judge_dataplane(dataplane, counters, problems);
  return {{"schema", "culvert.status.v1"},
          {"instance", instance},
          {"dataplane", dataplane},
          {"ike", ike},
          {"connections", std::move(connections)},
          {"problems", std::move(problems)},
          {"drops", notable_drops(counters)}};
}

}  // namespace culvert::cli
