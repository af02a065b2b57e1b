// A round over all SAs that sums what each child has carried, some SAs at a time: the sums are
// those of one walk although SAs come, carry on and end in the middle of it. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <unordered_map>

#include "dataplane/control/child_accounts.hpp"

namespace culvert::dataplane::control {

/// When a direction's SAs that pass packets began and end, in TSC cycles. 0: there is none.
struct SaSpan {
  std::uint64_t installed_tsc = 0;  ///< the youngest
  std::uint64_t end_tsc = 0;        ///< the last one by its hard lifetime; kNeverEnds: by none

  void add(const SaSpan& span) {
    installed_tsc = std::max(installed_tsc, span.installed_tsc);
    end_tsc = std::max(end_tsc, span.end_tsc);
  }
};

/// What a child's SAs have carried, those that are gone and those that are there, by direction.
struct ChildSums {
  std::array<ChildTotals, 2> totals{};
  std::array<bool, 2> live{};  ///< whether any passes packets
  std::array<SaSpan, 2> spans{};

  void add(channel::Direction direction, const SaTraffic& traffic, bool is_live,
           const SaSpan& span = {}) {
    const auto at = static_cast<std::size_t>(direction);
    totals[at].add(traffic);
    live[at] = live[at] || is_live;
    if (is_live) spans[at].add(span);
  }
};

/// SAs are counted by rising identifier. A child's sums begin with its account as it was when the
/// first of its SAs was counted or ended in this round, so that each SA is in them once: by what it
/// had carried when its turn came or, if it ended before that, by all it ever carried. What ends
/// after its turn is in the account with the rest, for the next round: a sum is never less than
/// that of the round before.
class ChildRound {
 public:
  enum class Phase : std::uint8_t {
    none,
    counting,
    counted,  ///< the sums are whole
  };

  explicit ChildRound(const ChildAccounts& accounts) : accounts_(accounts) {}

  /// So many children will be asked for at its end.
  void begin(std::size_t children) {
    sums_.reserve(children);  // growing it later would keep the main thread
    phase_ = Phase::counting;
    next_ = channel::SaId{};
    ++round_;
  }
  [[nodiscard]] Phase phase() const { return phase_; }
  /// The smallest identifier whose turn has not come.
  [[nodiscard]] channel::SaId next() const { return next_; }
  /// Those below `next` have had their turn.
  void passed(channel::SaId next) { next_ = next; }
  void all_passed() { phase_ = Phase::counted; }
  /// The sums were read, or are not wanted any more.
  void end() { phase_ = Phase::none; }

  /// An SA has its turn.
  void count(config::ChildId child, channel::Direction direction, const SaTraffic& traffic,
             bool is_live, const SaSpan& span = {}) {
    of_this_round(child).add(direction, traffic, is_live, span);
  }
  /// A new one. If its turn is over, the next round counts it, but its child is up at once: the SA
  /// that it replaces may be gone before that one's turn.
  void installed(channel::SaId sa, config::ChildId child, channel::Direction direction) {
    if (phase_ == Phase::none || !is_passed(sa)) return;
    of_this_round(child).live[static_cast<std::size_t>(direction)] = true;
  }
  /// One ends. Call before the account has its traffic.
  void ending(channel::SaId sa, config::ChildId child, channel::Direction direction,
              const SaTraffic& traffic) {
    if (phase_ == Phase::none) return;
    ChildSums& sums = of_this_round(child);
    if (!is_passed(sa)) sums.add(direction, traffic, false);
  }

  /// Once all have passed, and until the end of the round.
  [[nodiscard]] ChildSums of(config::ChildId child) const {
    const auto found = sums_.find(child);
    if (found != sums_.end() && found->second.round == round_) return found->second.sums;
    return account_of(accounts_, child);
  }
  /// What those that are gone have carried.
  [[nodiscard]] static ChildSums account_of(const ChildAccounts& accounts, config::ChildId child) {
    return {
        {accounts.of(child, channel::Direction::in), accounts.of(child, channel::Direction::out)},
        {},
        {}};
  }

  /// Of children that are no more.
  template <typename IsGone>
  void forget(IsGone is_gone) {
    std::erase_if(sums_, [&](const auto& entry) { return is_gone(entry.first); });
  }

 private:
  struct Entry {
    std::uint64_t round = 0;  ///< an older one: nothing of the child was counted in this
    ChildSums sums;
  };

  [[nodiscard]] bool is_passed(channel::SaId sa) const {
    return phase_ == Phase::counted || sa < next_;
  }
  ChildSums& of_this_round(config::ChildId child) {
    Entry& entry = sums_[child];
    if (entry.round != round_) entry = {round_, account_of(accounts_, child)};
    return entry.sums;
  }

  const ChildAccounts& accounts_;
  std::unordered_map<config::ChildId, Entry> sums_;
  std::uint64_t round_ = 0;
  Phase phase_ = Phase::none;
  channel::SaId next_{};
};

}  // namespace culvert::dataplane::control
