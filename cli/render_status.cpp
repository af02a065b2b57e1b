#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include <spdlog/fmt/fmt.h>

#include "cli/json_text.hpp"
#include "cli/render.hpp"
#include "cli/table.hpp"
#include "cli/unreachable.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;

struct Tally {
  int children = 0;
  int up = 0;
  int waiting = 0;
};

Tally count(const json& status) {
  Tally tally;
  for (const json& connection : member(status, "connections")) {
    for (const json& child : member(connection, "children")) {
      ++tally.children;
      if (is_true(child, "up")) ++tally.up;
      if (text(child, "state") == "waiting") ++tally.waiting;
    }
  }
  return tally;
}

/// "office is down: peer_unreachable: 6 tries unanswered"
std::string sentence(const json& problem) {
  const std::string detail = text(problem, "detail");
  const bool has_detail = !detail.empty() && detail != "-";
  return text(problem, "what") + (has_detail ? ": " + detail : "");
}

std::string remedy_line(const json& object, const char* indent) {
  const std::string remedy = text(object, "remedy");
  return remedy.empty() || remedy == "-" ? "" : indent + ("what to do: " + remedy + '\n');
}

/// The worst problem: the first error, else the first of all; null when there is none.
const json* worst_of(const json& problems) {
  if (!problems.is_array() || problems.empty()) return nullptr;
  const auto is_error = [](const json& one) { return text(one, "severity") == "error"; };
  const auto error = std::ranges::find_if(problems, is_error);
  return error == problems.end() ? &problems.front() : &*error;
}

/// What to do, and the packet that says why.
std::string below(const json& problem) {
  return remedy_line(problem, "  ") + render_refusal(member(problem, "last_refused"), "  ");
}

std::string waiting(int children) {
  return children == 0 ? "" : fmt::format(", {} waiting", children);
}

std::string verdict(const json& status, const json* worst) {
  const Tally tally = count(status);
  // Without the data plane's answer nobody knows how many there are.
  const std::string children =
      is_true(member(status, "dataplane"), "running")
          ? fmt::format("{} of {} {} up{}", tally.up, tally.children,
                        tally.children == 1 ? "child" : "children", waiting(tally.waiting))
          : "no children known";
  const std::string name = text(status, "instance");
  if (worst == nullptr) return fmt::format("{}: OK, {}\n", name, children);
  return fmt::format("{}: {}, {}: {}\n", name,
                     text(*worst, "severity") == "error" ? "PROBLEM" : "WARNING", children,
                     sentence(*worst)) +
         below(*worst);
}

std::string render_problem(const json& problem) {
  return fmt::format("\n{}: {}\n", text(problem, "severity"), sentence(problem)) + below(problem);
}

std::string traffic(const json& direction) {
  const json& last = member(direction, "last_packet_seconds");
  const std::string dummies =
      number(direction, "dummy_packets") == 0
          ? ""
          : fmt::format(", {} of them dummies", text(direction, "dummy_packets"));
  return fmt::format("{} ({} packets{}, {})", human_bytes(member(direction, "bytes")),
                     text(direction, "packets"), dummies,
                     last.is_number() ? "last " + human_duration(last) + " ago" : "none yet");
}

/// The name, the state and what is odd about it. Why it is down, one-way or dropping stands above,
/// among the problems.
std::string render_child_state(const json& child) {
  const std::string state = text(child, "state"), reason = text(child, "reason");
  const bool told = state == "down" || state == "one-way" || state == "dropping" ||
                    reason.empty() || reason == "-";
  std::string lines =
      fmt::format("  {}  {}{}\n", text(child, "child"), state, told ? "" : "  (" + reason + ")");
  if (const json& notice = member(child, "notice"); notice.is_object()) {
    lines += fmt::format("    {}: {}\n", text(notice, "failure"), text(notice, "detail")) +
             remedy_line(notice, "    ");
  }
  return lines;
}

/// Whether the child's last refused packet stands with a problem above.
bool refusal_is_told(const json& problems, const json& connection, const json& child) {
  return std::ranges::any_of(problems, [&](const json& problem) {
    return member(problem, "last_refused").is_object() &&
           text(problem, "connection") == text(connection, "connection") &&
           text(problem, "child") == text(child, "child");
  });
}

/// Whether a problem above has what to do about it.
bool remedy_is_told(const json& problems, const json& unreachable) {
  return std::ranges::any_of(problems, [&](const json& problem) {
    return member(problem, "remedy") == member(unreachable, "remedy");
  });
}

std::string render_connection(const json& connection, const json& problems) {
  std::string lines = fmt::format("\n{}  {}  {} -> {}  {}\n", text(connection, "connection"),
                                  text(connection, "state"), text(connection, "local"),
                                  text(connection, "remote"), text(connection, "suite"));
  if (member(connection, "remote_certificate_expires").is_string()) {
    lines += fmt::format(
        "  peer's certificate: {}, valid until {}, {}\n", text(connection, "remote_certificate"),
        text(connection, "remote_certificate_expires"), text(connection, "remote_auth"));
  }
  for (const json& child : member(connection, "children")) {
    lines += render_child_state(child);
    if (member(child, "spi_in").is_string()) {
      lines += fmt::format("    {} === {}\n", text(child, "local_ts"), text(child, "remote_ts"));
      const json& rekey_in = member(child, "rekey_in_seconds");
      lines += fmt::format(
          "    {}, SPI in {} out {}, {}\n", text(child, "suite"), text(child, "spi_in"),
          text(child, "spi_out"),
          rekey_in.is_number() ? "rekey in " + human_duration(rekey_in) : "no rekey by time");
    }
    lines += "    in  " + traffic(member(child, "in")) + "\n";
    if (!refusal_is_told(problems, connection, child)) {
      lines += render_refusal(member(member(child, "in"), "last_refused"), "        ");
    }
    lines += "    out " + traffic(member(child, "out")) + "\n";
    lines += render_unreachable(member(child, "unreachable"), "        ",
                                remedy_is_told(problems, member(child, "unreachable")));
  }
  return lines;
}

std::string why_silent(const json& daemon) {
  const std::string code = text(daemon, "error_code");
  if (code == "permission_denied") return "not known: no permission to ask it";
  if (code == "-" || code == "not_running") return "not running";
  return fmt::format("does not answer ({})", code);
}

std::string render_daemon(const char* name, const json& daemon) {
  if (!is_true(daemon, "running")) return fmt::format("{}: {}\n", name, why_silent(daemon));
  return fmt::format("{}: running, version {}, pid {}, up {}\n", name, text(daemon, "version"),
                     text(daemon, "pid"), human_duration(member(daemon, "uptime_seconds")));
}

/// "wan", "wan (vlan 100)", "wan (vlan 200.100)".
std::string interface_name(const json& interface) {
  const json& vlan = member(interface, "vlan");
  std::string name = text(interface, "name");
  if (vlan.is_number()) return fmt::format("{} (vlan {})", name, vlan.get<int>());
  if (!vlan.is_array() || vlan.size() != 2) return name;
  return fmt::format("{} (vlan {}.{})", name, vlan[0].dump(), vlan[1].dump());
}

/// How the key daemon found its IKE SAs when it started, and what the next one would find.
std::string render_recovery(const json& recovery) {
  if (!recovery.is_object()) return "";
  std::string lines;
  if (number(recovery, "resumed_ike_sas") > 0) {
    lines +=
        fmt::format("  resumed {} IKE SA(s) when it started\n", text(recovery, "resumed_ike_sas"));
  }
  const json& refused = member(recovery, "refused_records");
  for (const auto& [reason, count] : refused.items()) {
    lines += fmt::format("  established anew: {} record(s) refused: {}\n", count.dump(), reason);
  }
  const json& nothing = member(recovery, "not_resumed");
  if (nothing.is_object()) {
    lines += fmt::format("  nothing to resume when it started: {}: {}\n", text(nothing, "reason"),
                         text(nothing, "meaning"));
  }
  if (!is_true(recovery, "recording")) {
    lines += "  records nothing: a restart establishes the tunnels anew (see its log)\n";
  }
  return lines;
}

/// "esp-ipv6: the driver's why; …", or the why alone when it is the same for all that is refused.
std::string render_refused(const json& refuses) {
  std::string all;
  bool is_one = true;
  for (const auto& [form, why] : refuses.items()) {
    all += fmt::format("{}{}: {}", all.empty() ? "" : "; ", form, text(why));
    is_one = is_one && why == refuses.front();
  }
  return is_one && !refuses.empty() ? text(refuses.front()) : all;
}

/// Of one interface with several queues: whether its device brings ESP to the SA's worker.
std::string render_steering(const json& interface) {
  const json& steering = member(interface, "steering");
  if (!steering.is_object()) return "";
  const std::string name = interface_name(interface);
  const json& refuses = member(steering, "refuses");
  if (member(steering, "takes").empty()) {
    return fmt::format("  {} steering: none: the device takes no rule for ESP ({})\n", name,
                       render_refused(refuses));
  }
  std::string line =
      fmt::format("  {} steering: by rte_flow: {} SA(s) with a rule, {} without", name,
                  text(steering, "sas_with_rule"), text(steering, "sas_without_rule"));
  const json& last = member(steering, "last_refusal");
  if (last.is_string()) line += fmt::format(" (the device: {})", text(last));
  for (const auto& [form, why] : refuses.items()) {
    line += fmt::format("; not {} ({})", form, text(why));
  }
  return line + '\n';
}

std::string render_interfaces(const json& dataplane) {
  Table table({"interface", "link", "addresses", "rx packets", "tx packets", "missed", "errors"});
  for (const json& interface : member(dataplane, "interfaces")) {
    const json& link = member(interface, "link");
    const std::string link_text = !link.is_boolean()           ? text(link)
                                  : is_true(interface, "link") ? "up"
                                                               : "down";
    table.add({interface_name(interface), link_text, text(interface, "addresses"),
               text(interface, "rx_packets"), text(interface, "tx_packets"),
               text(interface, "rx_missed"),
               fmt::format("{}", number(interface, "rx_errors") + number(interface, "tx_errors"))});
  }
  if (table.empty()) return "";
  std::string lines = "\n" + table.to_string();
  for (const json& interface : member(dataplane, "interfaces")) lines += render_steering(interface);
  return lines;
}

std::string render_drops(const json& drops) {
  if (drops.empty()) return "";
  std::string lines = "\ndropped since the start (culvert counters --drops has all):\n";
  for (const json& drop : drops) {
    lines += fmt::format("  {} {} ({}): {}\n    {}\n", text(drop, "packets"), text(drop, "reason"),
                         text(drop, "direction"), text(drop, "meaning"), text(drop, "remedy"));
  }
  return lines;
}

}  // namespace

std::string render_status(const json& status) {
  // The worst problem is the first line's; each of the others has one below.
  const json& problems = member(status, "problems");
  const json* worst = worst_of(problems);
  std::string lines = verdict(status, worst);
  for (const json& problem : problems) {
    if (&problem != worst) lines += render_problem(problem);
  }
  for (const json& connection : member(status, "connections")) {
    lines += render_connection(connection, problems);
  }
  const json& dataplane = member(status, "dataplane");
  lines += render_drops(member(status, "drops"));
  lines += render_interfaces(dataplane);
  lines += '\n' + render_daemon("culvert-dataplane", dataplane);
  if (is_true(dataplane, "running")) {
    const json& reason = member(dataplane, "engine_reason");
    lines += fmt::format("  crypto {}{}, default policy {}\n", text(dataplane, "engine"),
                         reason.is_string() ? " (" + text(reason) + ')' : "",
                         text(dataplane, "default_policy"));
  }
  lines += render_daemon("culvert-ike", member(status, "ike"));
  lines += render_recovery(member(member(status, "ike"), "recovery"));
  return lines;
}

std::string human_duration(const json& seconds) {
  if (!seconds.is_number()) return "-";
  const auto total = static_cast<std::int64_t>(std::llround(seconds.get<double>()));
  if (total < 60) return fmt::format("{}s", total);
  if (total < 3600) return fmt::format("{}m{:02}s", total / 60, total % 60);
  if (total < 86400) return fmt::format("{}h{:02}m", total / 3600, total % 3600 / 60);
  return fmt::format("{}d{:02}h", total / 86400, total % 86400 / 3600);
}

std::string human_bytes(const json& bytes) {
  if (!bytes.is_number()) return "-";
  double value = bytes.get<double>();
  if (value < 1024) return fmt::format("{} B", static_cast<std::int64_t>(value));
  const char* unit = "KiB";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
    unit = next;
    value /= 1024;
    if (value < 1024) break;
  }
  return fmt::format("{:.1f} {}", value, unit);
}

}  // namespace culvert::cli
