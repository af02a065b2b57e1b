// Children whose packets come and are dropped here: which reason, how many, what to do.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <spdlog/fmt/fmt.h>

#include "cli/json_text.hpp"
#include "cli/problems.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;

/// A reason is worth a warning when it takes one in so many of a direction's packets, an error when
/// it takes that part.
constexpr double kLargeOneIn = 10;
constexpr double kMostPart = 0.5;
/// Counters are of all the time since the start: what has been mended since is no problem, nor does
/// it say anything of silence.
constexpr double kDroppedLatelySeconds = 300;

/// `packets` of a direction in counts what has authenticated; these have not, or were beyond a
/// limit. None of the direction out's drops are in it: they took no sequence number.
constexpr std::array<std::string_view, 7> kBesideInPackets{
    "icv_mismatch",       "replay_duplicate", "replay_left_of_window",
    "handoff_queue_full", "esp_truncated",    "sa_endpoint_mismatch",
    "sa_expired"};
struct Dropped {
  std::string reason;
  double packets = 0;
};

/// The most first.
std::vector<Dropped> dropped_of(const json& traffic, const json& counters) {
  std::vector<Dropped> all;
  const json& drops = member(traffic, "drops");
  if (!drops.is_object()) return all;
  for (const auto& [reason, packets] : drops.items()) {
    // A dummy ends as it should (RFC 4303 §2.6), also where nobody says what is ordinary.
    const bool is_ordinary =
        reason == "dummy_packet" || text(drop_row(counters, reason), "severity") == "ordinary";
    if (is_ordinary || !packets.is_number()) continue;
    all.push_back({reason, packets.get<double>()});
  }
  std::ranges::stable_sort(all, {}, [](const Dropped& one) { return -one.packets; });
  return all;
}

/// Packets that were there, passed or not.
double offered(const json& traffic, const std::vector<Dropped>& dropped, bool is_in) {
  double packets = with_contents(traffic);
  for (const Dropped& one : dropped) {
    const bool is_beside =
        !is_in || std::ranges::find(kBesideInPackets, one.reason) != kBesideInPackets.end();
    if (is_beside) packets += one.packets;
  }
  return packets;
}

bool is_over(const Dropped& dropped, const json& traffic) {
  const auto is_old = [](const json& age) {
    return age.is_number() && age.get<double>() > kDroppedLatelySeconds;
  };
  if (is_old(member(traffic, "last_drop_seconds"))) return true;
  return dropped.reason == "inner_selector_mismatch" &&
         is_old(member(member(traffic, "last_refused"), "age_seconds"));
}

/// Whether packets came so far behind that not even the advised window, the largest, takes them.
bool is_beyond(const json& late, double window) {
  for (const char* kind : {"accepted", "missed"}) {
    const json& distances = member(late, kind);
    if (!distances.is_object()) continue;
    for (const auto& [below, packets] : distances.items()) {
      if (std::strtod(below.c_str(), nullptr) > window) return true;
    }
  }
  return false;
}

std::string remedy_of(const std::string& reason, const json& row, const json& traffic) {
  const std::string remedy =
      row.contains("remedy") ? text(row, "remedy") : "See `culvert counters --drops`.";
  const double window = number(member(traffic, "late"), "advised_window");
  if (reason != "replay_left_of_window" || window == 0) return remedy;
  if (is_beyond(member(traffic, "late"), window)) {
    return fmt::format(
        "{} No replay_window takes all of them: some came {} packets behind or more, "
        "as a replay does.",
        remedy, window);
  }
  return fmt::format("{} Here replay_window: {} would have taken them.", remedy, window);
}

json problem_of(const json& child, const char* direction, const Dropped& dropped, double of,
                const json& counters) {
  const json& traffic = member(child, direction);
  const json row = drop_row(counters, dropped.reason);
  const bool is_in = std::string_view(direction) == "in";
  json problem = {{"severity", dropped.packets >= kMostPart * of ? "error" : "warning"},
                  {"what", fmt::format("{} drops {} of {} packets {}", text(child, "child"),
                                       dropped.packets, of, is_in ? "that arrive" : "to send")},
                  {"detail", dropped.reason + (row.contains("meaning") ? ": " + text(row, "meaning")
                                                                       : std::string())},
                  {"remedy", remedy_of(dropped.reason, row, traffic)},
                  {"connection", member(child, "connection")},
                  {"child", member(child, "child")},
                  {"direction", direction},
                  {"reason", dropped.reason}};
  if (dropped.reason == "inner_selector_mismatch") {
    problem["last_refused"] = member(traffic, "last_refused");
  }
  return problem;
}

}  // namespace

void add_problem(json& problems, const char* severity, std::string what, std::string detail,
                 std::string remedy) {
  problems.push_back({{"severity", severity},
                      {"what", std::move(what)},
                      {"detail", std::move(detail)},
                      {"remedy", std::move(remedy)}});
}

json drop_row(const json& counters, const std::string& reason) {
  for (const json& row : member(counters, "drops")) {
    if (text(row, "reason") == reason) return row;
  }
  return json::object();
}

json large_drops(const json& child, const json& counters) {
  json problems = json::array();
  for (const char* direction : {"in", "out"}) {
    const json& traffic = member(child, direction);
    const std::vector<Dropped> all = dropped_of(traffic, counters);
    const double of = offered(traffic, all, std::string_view(direction) == "in");
    for (const Dropped& one : all) {
      if (one.packets < kFewPackets || one.packets * kLargeOneIn < of) break;
      if (is_over(one, traffic)) continue;
      problems.push_back(problem_of(child, direction, one, of, counters));
    }
  }
  return problems;
}

json most_dropped(const json& child, const char* direction, const json& counters) {
  const std::vector<Dropped> all = dropped_of(member(child, direction), counters);
  if (all.empty() || all.front().packets < kFewPackets) return nullptr;
  const auto& [reason, packets] = all.front();
  const json row = drop_row(counters, reason);
  return {{"reason", reason},
          {"packets", packets},
          {"meaning", member(row, "meaning")},
          {"remedy", remedy_of(reason, row, member(child, direction))}};
}

}  // namespace culvert::cli
