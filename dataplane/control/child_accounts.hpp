// What each configured child has carried since the start: the totals of SAs that are gone. Those of
// living SAs are added when read, so that a child's counters never go back at a rekey. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "channel/messages.hpp"
#include "dataplane/tables/sad.hpp"

namespace culvert::dataplane::control {

struct ChildTotals {
  std::uint64_t packets = 0, bytes = 0;
  std::uint64_t last_packet_tsc = 0, last_drop_tsc = 0;  ///< 0: never one
  std::array<std::uint64_t, kDropReasons> drops{};
  std::array<std::uint64_t, kEcnAlarms> ecn_alarms{};
  std::array<std::uint64_t, kLateBuckets> late{}, missed{};
  std::optional<SaRefusal> last_refusal;  ///< of all its SAs
  std::uint64_t resynchronized = 0;
  std::uint64_t dummies = 0;

  void add(const SaTraffic& traffic) {
    packets += traffic.packets;
    bytes += traffic.bytes;
    last_packet_tsc = std::max(last_packet_tsc, traffic.last_packet_tsc);
    last_drop_tsc = std::max(last_drop_tsc, traffic.last_drop_tsc);
    for (std::size_t reason = 0; reason < drops.size(); ++reason) {
      drops[reason] += traffic.drops[reason];
    }
    for (std::size_t alarm = 0; alarm < kEcnAlarms; ++alarm) {
      ecn_alarms[alarm] += traffic.ecn_alarms[alarm];
    }
    for (std::size_t bucket = 0; bucket < kLateBuckets; ++bucket) {
      late[bucket] += traffic.late.accepted[bucket];
      missed[bucket] += traffic.late.missed[bucket];
    }
    const auto& refusal = traffic.last_refusal;
    if (refusal && (!last_refusal || last_refusal->packet.tsc <= refusal->packet.tsc)) {
      last_refusal = refusal;
    }
    resynchronized += traffic.resynchronized;
    dummies += traffic.dummies;
  }
};

/// What an SA has carried since it had carried `before`. Bytes that a worker took from its limit
/// and gave back since are none: a total does not go back.
[[nodiscard]] inline SaTraffic traffic_since(const SaTraffic& before, SaTraffic traffic) {
  const auto subtract = [](std::uint64_t& from, std::uint64_t what) {
    from -= std::min(from, what);
  };
  const auto subtract_each = [&](auto& from, const auto& what) {
    for (std::size_t at = 0; at < from.size(); ++at) subtract(from[at], what[at]);
  };
  subtract(traffic.packets, before.packets);
  subtract(traffic.bytes, before.bytes);
  subtract_each(traffic.drops, before.drops);
  subtract_each(traffic.ecn_alarms, before.ecn_alarms);
  subtract_each(traffic.late.accepted, before.late.accepted);
  subtract_each(traffic.late.missed, before.late.missed);
  subtract(traffic.resynchronized, before.resynchronized);
  subtract(traffic.dummies, before.dummies);
  return traffic;
}

/// The smallest window that would have dropped nothing, replays of old packets among it; 0: no
/// packet came late. Windows are powers of two, and the bounds of the buckets with them: the
/// greatest distance itself would not say more. Beyond 65536, the largest there is, nothing helps.
[[nodiscard]] inline std::uint32_t advised_window(const ChildTotals& totals) {
  for (std::size_t bucket = kLateBuckets; bucket-- > 1;) {
    if (totals.late[bucket] == 0 && totals.missed[bucket] == 0) continue;
    return std::clamp(std::uint32_t{1} << bucket, channel::kMinReplayWindow,
                      channel::kMaxReplayWindow);
  }
  return 0;
}

class ChildAccounts {
 public:
  /// An SA of the child ends with this traffic.
  void fold(config::ChildId child, channel::Direction direction, const SaTraffic& traffic) {
    totals_[child][static_cast<std::size_t>(direction)].add(traffic);
  }
  /// Its SA has ended, and this came to it yet. Nothing for a child that was forgotten meanwhile.
  void fold_rest(config::ChildId child, channel::Direction direction, const SaTraffic& traffic) {
    const auto found = totals_.find(child);
    if (found != totals_.end()) found->second[static_cast<std::size_t>(direction)].add(traffic);
  }
  /// Nothing where no SA of it has ended.
  [[nodiscard]] ChildTotals of(config::ChildId child, channel::Direction direction) const {
    const auto found = totals_.find(child);
    if (found == totals_.end()) return {};
    return found->second[static_cast<std::size_t>(direction)];
  }
  /// Of children that are no more.
  template <typename IsGone>
  void forget(IsGone is_gone) {
    std::erase_if(totals_, [&](const auto& entry) { return is_gone(entry.first); });
  }

 private:
  std::unordered_map<config::ChildId, std::array<ChildTotals, 2>> totals_;
};

}  // namespace culvert::dataplane::control
