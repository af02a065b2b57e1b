// What each configured child has carried since the start: the totals of SAs that are gone. Those of
// living SAs are added when read, so that a child's counters never go back at a rekey. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "channel/messages.hpp"
#include "dataplane/tables/sad.hpp"

namespace culvert::dataplane::control {

struct ChildTotals {
  std::uint64_t packets = 0, bytes = 0;
  std::uint64_t last_packet_tsc = 0;  ///< 0: never one
  std::array<std::uint64_t, kDropReasons> drops{};

  void add(const SaTraffic& traffic) {
    packets += traffic.packets;
    bytes += traffic.bytes;
    last_packet_tsc = std::max(last_packet_tsc, traffic.last_packet_tsc);
    for (std::size_t reason = 0; reason < drops.size(); ++reason) {
      drops[reason] += traffic.drops[reason];
    }
  }
};

class ChildAccounts {
 public:
  explicit ChildAccounts(std::uint32_t children = 0) : totals_(children) {}
  /// A reload added children at the end.
  void grow(std::uint32_t children) {
    if (children > totals_.size()) totals_.resize(children);
  }
  /// An SA of the child ends with this traffic.
  void fold(std::uint32_t child, channel::Direction direction, const SaTraffic& traffic) {
    if (child < totals_.size()) totals_[child][static_cast<std::size_t>(direction)].add(traffic);
  }
  /// Precondition: child is one of ours.
  [[nodiscard]] const ChildTotals& of(std::uint32_t child, channel::Direction direction) const {
    return totals_[child][static_cast<std::size_t>(direction)];
  }

 private:
  std::vector<std::array<ChildTotals, 2>> totals_;
};

}  // namespace culvert::dataplane::control
