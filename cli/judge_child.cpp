// What a child's two byte counters say of it, and where it is down, why.
#include <algorithm>
#include <string>

#include <spdlog/fmt/fmt.h>

#include "cli/json_text.hpp"
#include "cli/next_hop.hpp"
#include "cli/problems.hpp"
#include "cli/unreachable.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;

/// Traffic went out for longer than this after the last packet came in: one-way.
constexpr double kOneWaySeconds = 10;
/// What was sent before this says nothing of now: an exchange that ends without an answer is usual.
constexpr double kLatelySeconds = 300;

/// Sent lately, and nothing came back since before the first of it; what nothing has ever answered
/// stays so until something does, however long ago it was sent. Beside dummies nobody knows
/// when the last packet was that somebody would answer: there it is only said if nothing came ever.
bool is_one_way(const json& sending, const json& receiving) {
  if (with_contents(sending) < kFewPackets) return false;
  const json& last_received = member(receiving, "last_packet_seconds");
  const json& last_sent = member(sending, "last_packet_seconds");
  if (!last_sent.is_number()) return false;
  if (!last_received.is_number()) return true;
  if (number(receiving, "dummy_packets") != 0) return with_contents(receiving) == 0;
  if (number(sending, "dummy_packets") != 0) return false;
  if (last_sent.get<double>() > kLatelySeconds) return false;
  return last_received.get<double>() - last_sent.get<double>() > kOneWaySeconds;
}

/// What ends behind our SAs, or is never sent, is no fault of the peer's or of a firewall between.
Judgement or_dead_way(Judgement judgement, const std::optional<DeadWay>& way) {
  if (way) {
    judgement.reason += ": " + way->why;
    judgement.remedy = way->remedy;
  }
  return judgement;
}

/// Somebody on the way says that what the child sends does not get through.
std::optional<DeadWay> rejected_on_the_way(const json& child) {
  const json said = unreachable_now(child);
  if (!said.is_object()) return std::nullopt;
  return DeadWay{said_of_esp(said), text(said, "remedy")};
}

/// The key daemon's plan for a child: `connections[].children[]`; null where it does not tell.
const json& plan_of(const json& child, const json& connection) {
  static const json nothing;
  for (const json& plan : member(connection, "children")) {
    if (text(plan, "child") == text(child, "child")) return plan;
  }
  return nothing;
}

/// Whether the connection's last failure is why the child is down. Another child's is not; and a
/// peer that dials in from anywhere may leave.
bool is_why_down(const json& failure, const json& child) {
  if (!failure.is_object() || is_true(failure, "while_up")) return false;
  if (member(failure, "child").is_string() && text(failure, "child") != text(child, "child")) {
    return false;
  }
  const std::string name = text(failure, "failure");
  const bool has_left = name == "peer_vanished" || name == "peer_deleted";
  return !has_left || text(child, "started_by") != "peer";
}

/// Nobody has begun to bring it up. That is only wrong where somebody should have.
Judgement judge_idle(const json& child, const json& plan) {
  const bool is_wanted = !member(child, "wanted").is_boolean() || is_true(child, "wanted");
  const bool is_ended = is_true(plan, "terminated");
  if (is_wanted && is_ended) {
    return {"down", "taken down by `culvert terminate`", "`culvert initiate` brings it up again"};
  }
  if (is_wanted) {
    return {"down", "no negotiation has been started",
            "`culvert initiate` starts it; see the key daemon's log for why it did not by itself"};
  }
  const std::string started_by = text(child, "started_by");
  const std::string waits = started_by == "traffic" ? "waits for the next packet to its remote_ts"
                            : started_by == "peer"  ? "waits for the peer, which may be anywhere"
                                                    : "waits for `culvert initiate`";
  return {"waiting", (is_ended ? "taken down by `culvert terminate`, " : "") + waits, ""};
}

Judgement judge_down(const json& child, const Around& around) {
  if (is_true(child, "manual")) {
    return {"down", "an SA without IKE has ended, its sequence numbers are used up",
            "write new keys for it (key_file) on both sides, then systemctl reload "
            "culvert-dataplane@NAME"};
  }
  if (!around.negotiated.is_null()) {
    return {"down", "negotiated, but the data plane has no SA for it",
            "see the data plane's log for the refused installation; `culvert rekey` tries again"};
  }
  const json& plan = plan_of(child, around.connection);
  const json& failure = member(around.connection, "last_failure");
  if (!is_true(plan, "terminated") && is_why_down(failure, child)) {
    const Judgement failed{"down", text(failure, "failure") + ": " + text(failure, "detail"),
                           text(failure, "remedy")};
    const bool is_silence = text(failure, "failure") == "peer_unreachable";
    return is_silence ? or_dead_way(failed, dead_way(around.peer, around.links)) : failed;
  }
  if (!is_true(around.ike, "running")) {
    const std::string code = text(around.ike, "error_code");
    if (code != "-" && code != "not_running") {
      return {"down", "no SA is installed, and the key daemon does not answer", ""};
    }
    return {"down", "culvert-ike is not running and no SA is installed", "start culvert-ike"};
  }
  const bool is_negotiated = plan.is_object() ? is_true(plan, "negotiating")
                                              : text(around.connection, "state") == "negotiating";
  if (is_negotiated) {
    return or_dead_way({"down", "negotiation is under way", "wait a moment"},
                       dead_way(around.peer, around.links));
  }
  return judge_idle(child, plan);
}

/// Nothing comes from that side. What did come and was dropped here, less than a large part of all
/// there ever was, is said first: it may be all there is now.
Judgement one_way(const json& child, const char* silent, const Around& around,
                  const std::string& reason, const std::string& remedy) {
  const json dropped = most_dropped(child, silent, around.counters);
  if (dropped.is_null()) return {"one-way", reason, remedy};
  return {"one-way",
          fmt::format("{}; {} were dropped here: {}", reason, number(dropped, "packets"),
                      text(dropped, "reason")),
          fmt::format("{} If that number stands still: {}", text(dropped, "remedy"), remedy)};
}

bool drops_much(const Around& around, const char* direction) {
  return std::ranges::any_of(
      around.drops, [&](const json& problem) { return text(problem, "direction") == direction; });
}

}  // namespace

double with_contents(const json& direction) {
  return number(direction, "packets") - number(direction, "dummy_packets");
}

Judgement judge_child(const json& child, const Around& around) {
  if (!is_true(child, "up")) return judge_down(child, around);
  const json& in = member(child, "in");
  const json& out = member(child, "out");
  // A manual SA may have one direction alone, and be right so.
  const json& directions = member(child, "directions");
  const bool has_both = !directions.is_array() || directions.size() == 2;
  // What arrives and is dropped here is no fault of the way or the peer's.
  if (has_both && is_one_way(out, in) && !drops_much(around, "in")) {
    auto way = dead_way(around.peer, around.links);
    if (!way) way = never_left(around.peer, around.links, out, around.counters);
    if (!way) way = rejected_on_the_way(child);
    if (way) return or_dead_way({"one-way", "packets go out, none arrive", ""}, way);
    return one_way(
        child, "in", around, "packets go out, none arrive",
        "check at the peer: does it receive ESP (firewall for protocol 50 or UDP 4500 on the way), "
        "does it have a route back into the tunnel, do its selectors match ours");
  }
  if (has_both && is_one_way(in, out) && !drops_much(around, "out")) {
    return one_way(child, "out", around, "packets arrive, none go out",
                   "check here: does the client answer (its firewall, its route back through this "
                   "gateway), do the answers match local_ts and remote_ts");
  }
  if (!around.drops.empty()) {
    const json& first = around.drops.front();
    return {"dropping", text(first, "what") + ": " + text(first, "reason"), ""};
  }
  if (with_contents(in) == 0 && with_contents(out) == 0) {
    return {"idle", "no packet has passed yet", ""};
  }
  return {"up", "", ""};
}

}  // namespace culvert::cli
