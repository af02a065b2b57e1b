// Which children the key daemon was asked for and has not brought up yet: one question a child
// until it is answered or has waited long enough. Pure: time comes in.
#pragma once

#include <chrono>
#include <map>
#include <vector>

#include "config/child_id.hpp"
#include "runtime/event_loop.hpp"

namespace culvert::dataplane::control {

using runtime::Instant;

class AcquireTracker {
 public:
  /// How long packets are held for an SA, and an unanswered question stands. An exchange without
  /// loss takes milliseconds; the first retransmission of one comes after seconds.
  static constexpr Instant kPatience = std::chrono::seconds{5};

  /// Between two attempts to ask where the first was not heard.
  static constexpr Instant kAskAgain = std::chrono::milliseconds{100};

  /// Packets that meet a trap say for so long that there is something for its child to carry.
  static constexpr Instant kAskedForLately = std::chrono::minutes{1};

  /// A packet met the child's trap. True: ask now, and say when that was `asked`.
  [[nodiscard]] bool want(config::ChildId child, Instant now) {
    last_wanted_[child] = now;
    const auto [item, is_new] = pending_.try_emplace(child, Pending{now, now});
    return is_new || try_again(item->second, now);
  }
  /// The question is on its way.
  void asked(config::ChildId child) {
    if (const auto found = pending_.find(child); found != pending_.end()) {
      found->second.is_asked = true;
    }
  }
  /// Children whose question was not heard: ask again now.
  [[nodiscard]] std::vector<config::ChildId> unasked(Instant now) {
    std::vector<config::ChildId> again;
    for (auto& [child, pending] : pending_) {
      if (try_again(pending, now)) again.push_back(child);
    }
    return again;
  }
  /// A policy was installed for the child.
  void answered(config::ChildId child) {
    pending_.erase(child);
    last_wanted_.erase(child);
  }
  /// Whether packets met the child's trap lately, and nothing was installed for it since.
  [[nodiscard]] bool is_wanted(config::ChildId child, Instant now) const {
    const auto found = last_wanted_.find(child);
    return found != last_wanted_.end() && now - found->second < kAskedForLately;
  }
  /// Children that waited in vain; the next packet asks again.
  [[nodiscard]] std::vector<config::ChildId> expire(Instant now) {
    std::erase_if(last_wanted_, [&](const auto& item) { return !is_wanted(item.first, now); });
    std::vector<config::ChildId> gone;
    std::erase_if(pending_, [&](const auto& item) {
      const bool late = now - item.second.since >= kPatience;
      if (late) gone.push_back(item.first);
      return late;
    });
    return gone;
  }
  [[nodiscard]] bool is_pending(config::ChildId child) const { return pending_.contains(child); }
  [[nodiscard]] std::vector<config::ChildId> pending() const {
    std::vector<config::ChildId> all;
    for (const auto& [child, question] : pending_) all.push_back(child);
    return all;
  }

 private:
  struct Pending {
    Instant since, tried;
    bool is_asked = false;
  };
  static bool try_again(Pending& pending, Instant now) {
    if (pending.is_asked || now - pending.tried < kAskAgain) return false;
    pending.tried = now;
    return true;
  }

  std::map<config::ChildId, Pending> pending_;
  std::map<config::ChildId, Instant> last_wanted_;
};

}  // namespace culvert::dataplane::control
