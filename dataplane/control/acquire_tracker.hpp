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

  /// A packet met the child's trap. True: ask now.
  [[nodiscard]] bool want(config::ChildId child, Instant now) {
    return pending_.emplace(child, now).second;
  }
  /// A policy was installed for the child.
  void answered(config::ChildId child) { pending_.erase(child); }
  /// Children that waited in vain; the next packet asks again.
  [[nodiscard]] std::vector<config::ChildId> expire(Instant now) {
    std::vector<config::ChildId> gone;
    std::erase_if(pending_, [&](const auto& item) {
      const bool late = now - item.second >= kPatience;
      if (late) gone.push_back(item.first);
      return late;
    });
    return gone;
  }
  [[nodiscard]] bool is_pending(config::ChildId child) const { return pending_.contains(child); }

 private:
  std::map<config::ChildId, Instant> pending_;
};

}  // namespace culvert::dataplane::control
