// What `culvert status` finds wrong, each finding by the part that it concerns. A problem is
// {severity: "error" or "warning", what, detail, remedy}. Pure: JSON in, JSON out.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace culvert::cli {

void add_problem(nlohmann::json& problems, const char* severity, std::string what,
                 std::string detail, std::string remedy);

/// Packets of somebody: dummies are sent whether there is traffic or not, and nobody answers them.
double with_contents(const nlohmann::json& direction);

/// Of fewer packets nobody can say anything.
inline constexpr double kFewPackets = 5;

/// What a drop reason means, {} when `counters` does not say.
nlohmann::json drop_row(const nlohmann::json& counters, const std::string& reason);

/// Problems of an up child that drops a large part of its packets, one for each direction and
/// reason, the most packets first; what a reason means stands in `counters`, the data plane's or
/// null. They have `connection`, `child`, `direction` and `reason`, and `last_refused` where there
/// is one.
nlohmann::json large_drops(const nlohmann::json& child, const nlohmann::json& counters);
/// The reason that most of a direction's packets were dropped for, however few of all they are:
/// {reason, packets, meaning, remedy}; null when they are fewer than `kFewPackets`.
nlohmann::json most_dropped(const nlohmann::json& child, const char* direction,
                            const nlohmann::json& counters);

/// Problems of links, losses, workers, NUMA nodes and the default policy.
void judge_dataplane(const nlohmann::json& dataplane, const nlohmann::json& counters,
                     nlohmann::json& problems);

/// A child's state, and why where it is not `up`.
struct Judgement {
  std::string state;
  std::string reason;
  std::string remedy;
};
/// What is known beside the data plane's entry of a child; null where nothing is.
struct Around {
  const nlohmann::json& negotiated;  ///< the key daemon's entry of the child
  const nlohmann::json& connection;  ///< and of its connection
  const nlohmann::json& ike;         ///< its whole answer, or why there is none
  const nlohmann::json& counters;
  const nlohmann::json& drops;  ///< its `large_drops`
  const nlohmann::json& links;  ///< as `dead_way` takes them
  std::string peer;             ///< its address, "-" when it is not known
};
Judgement judge_child(const nlohmann::json& child, const Around& around);

}  // namespace culvert::cli
