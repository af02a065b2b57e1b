// What one child's SAs have carried, summed some SAs at a time: the sums are those of one look
// although SAs come, carry on and end in the middle of it. Pure.
#pragma once

#include "dataplane/control/child_round.hpp"

namespace culvert::dataplane::control {

/// As ChildRound does for all children: SAs by rising identifier, each once, on top of the account
/// as it was at the beginning.
class ChildCount {
 public:
  /// Its account outlives it.
  void begin(config::ChildId child, const ChildAccounts& accounts) {
    child_ = child;
    next_ = channel::SaId{};
    is_whole_ = false;
    sums_ = ChildRound::account_of(accounts, child);
  }
  [[nodiscard]] bool is_whole() const { return is_whole_; }
  [[nodiscard]] config::ChildId child() const { return child_; }
  /// The smallest identifier whose turn has not come.
  [[nodiscard]] channel::SaId next() const { return next_; }
  void passed(channel::SaId next) { next_ = next; }
  void all_passed() { is_whole_ = true; }
  [[nodiscard]] const ChildSums& sums() const { return sums_; }

  /// An SA has its turn.
  void count(channel::Direction direction, const SaTraffic& traffic, bool is_live) {
    sums_.add(direction, traffic, is_live);
  }
  /// A new one, whose turn may be over: its child is up at once.
  void installed(config::ChildId child, channel::Direction direction) {
    if (is_of(child)) sums_.live[static_cast<std::size_t>(direction)] = true;
  }
  /// One ends, maybe before its turn.
  void ending(channel::SaId sa, config::ChildId child, channel::Direction direction,
              const SaTraffic& traffic) {
    if (is_of(child) && sa >= next_) sums_.add(direction, traffic, false);
  }

 private:
  [[nodiscard]] bool is_of(config::ChildId child) const { return !is_whole_ && child == child_; }

  config::ChildId child_{};
  channel::SaId next_{};
  bool is_whole_ = true;
  ChildSums sums_;
};

}  // namespace culvert::dataplane::control
