// What is wrong with the packet daemon's interfaces, workers and default policy, whoever it
// concerns.
#include <array>
#include <string>

#include <spdlog/fmt/fmt.h>

#include "cli/json_text.hpp"
#include "cli/problems.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;

/// Packets that an interface lost are a problem when they are so many, and one in so many of all.
constexpr double kFewLost = 100;
constexpr double kLostOneIn = 1000;
/// To an empty packet pool none should be lost, whatever the load.
constexpr double kFewWithoutBuffer = 10;
/// A worker that is idle less than this loses packets at the next larger burst.
constexpr double kHardlyIdlePercent = 5;

struct Loss {
  const char* lost;    ///< of an interface's counters
  const char* passed;  ///< and those it is set against
  const char* why;
  const char* remedy;
};
constexpr std::array<Loss, 3> kLosses{{
    {"rx_missed", "rx_packets", "received, found no room in the receive queue",
     "Add a worker (dataplane.workers), or give the workers' processors to the gateway alone."},
    {"rx_errors", "rx_packets", "received, were damaged or too large",
     "Look for a faulty cable or port, and for another MTU on the other end."},
    {"tx_errors", "tx_packets", "to send, were refused by the device",
     "The link is down or slower than the traffic: look at it, shape at the sender."},
}};

void judge_losses(const json& interface, json& problems) {
  for (const Loss& loss : kLosses) {
    const double lost = number(interface, loss.lost);
    const double all = number(interface, loss.passed) + lost;
    if (lost < kFewLost || lost * kLostOneIn < all) continue;
    add_problem(problems, "warning", fmt::format("{} loses packets", text(interface, "name")),
                fmt::format("{} of {} {} ({})", lost, all, loss.why, loss.lost), loss.remedy);
  }
}

void judge_buffers(const json& interface, const json& counters, json& problems) {
  const double lost = number(interface, "rx_no_buffer");
  if (lost < kFewWithoutBuffer) return;
  const json row = drop_row(counters, "no_buffer");
  add_problem(problems, "error", fmt::format("{} loses packets", text(interface, "name")),
              fmt::format("{} received while the packet pool was empty (rx_no_buffer)", lost),
              text(row, "remedy"));
}

void judge_interfaces(const json& dataplane, const json& counters, json& problems) {
  for (const json& interface : member(dataplane, "interfaces")) {
    if (text(interface, "link") == "down") {
      add_problem(problems, "error", text(interface, "name") + " has no link",
                  "device " + text(interface, "device"),
                  "Check the cable, the switch port and the device on the other end.");
    }
    judge_losses(interface, problems);
    judge_buffers(interface, counters, problems);
  }
}

void judge_workers(const json& dataplane, json& problems) {
  for (const json& worker : member(dataplane, "workers")) {
    const json& idle = member(worker, "idle_percent");
    if (!idle.is_number() || idle.get<double>() >= kHardlyIdlePercent) continue;
    add_problem(problems, "warning",
                fmt::format("worker {} (core {}) is hardly ever idle", text(worker, "id"),
                            text(worker, "core")),
                fmt::format("{:.1f} % of the past second", idle.get<double>()),
                "Add a worker (dataplane.workers), or spread the load over more SAs and queues: "
                "packets are lost when it does not keep up.");
  }
}

/// Each packet of such an interface crosses the link between two processors, more than once. Where
/// the interfaces themselves are on several nodes there is nothing better: each worker serves all.
void judge_numa(const json& dataplane, json& problems) {
  const json* first = nullptr;
  for (const json& interface : member(dataplane, "interfaces")) {
    const json& node = member(interface, "numa_node");
    if (!node.is_number()) continue;
    if (first != nullptr && *first != node) return;
    first = &node;
  }
  for (const json& interface : member(dataplane, "interfaces")) {
    const json& node = member(interface, "numa_node");
    std::string workers;
    for (const json& worker : member(dataplane, "workers")) {
      const json& other = member(worker, "numa_node");
      if (!node.is_number() || !other.is_number() || node == other) continue;
      workers += (workers.empty() ? "" : ", ") + text(worker, "id") + " (core " +
                 text(worker, "core") + ", node " + text(worker, "numa_node") + ")";
    }
    if (workers.empty()) continue;
    add_problem(
        problems, "warning", text(interface, "name") + " is far from its workers",
        "its device is on NUMA node " + text(interface, "numa_node") + ", not so worker " + workers,
        "name cores of the device's node in dataplane.workers, or move the card");
  }
}

/// What no policy names leaves and arrives in clear: the state before somebody said what may.
void judge_default_policy(const json& dataplane, json& problems) {
  if (text(dataplane, "default_policy") != "bypass") return;
  add_problem(problems, "warning", "what no policy names passes in clear",
              "default_policy is bypass",
              "Write default_policy: discard, and bypass policies for what may pass in clear.");
}

}  // namespace

void judge_dataplane(const json& dataplane, const json& counters, json& problems) {
  judge_interfaces(dataplane, counters, problems);
  judge_workers(dataplane, problems);
  judge_numa(dataplane, problems);
  judge_default_policy(dataplane, problems);
}

}  // namespace culvert::cli
