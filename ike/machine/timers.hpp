// What is due when. An entry is never cancelled: whoever gets it asks whether it still means
// anything, so that arming is one heap push.
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <vector>

#include "ike/machine/machine.hpp"

namespace culvert::ike {

enum class TimerKind : std::uint8_t {
  retransmit,        ///< IKE SA
  held,              ///< IKE SA: IKE_AUTH has waited long enough
  half_open,         ///< IKE SA: the initiator never came back
  start_tasks,       ///< IKE SA: a delayed task may start
  rekey_ike,         ///< IKE SA
  expire_ike,        ///< IKE SA
  reauthenticate,    ///< IKE SA
  liveness,          ///< IKE SA
  certificates,      ///< IKE SA: one of its peer's expires
  keepalive,         ///< IKE SA
  forget,            ///< IKE SA: its time after the end is over
  delete_duplicate,  ///< IKE SA: lost against a crossing one
  switch_outbound,   ///< child, by inbound SaId
  rehearse,          ///< child, by inbound SaId: its first rekey
  delete_sa,         ///< one SA of the data plane, by SaId
  retry_connection,  ///< connection, by its position in the configuration
  lost_addresses,    ///< all IKE SAs
};
struct Timer {
  Instant when{};
  std::uint64_t order = 0;  ///< entries due at once run in the order they were armed
  TimerKind kind{};
  std::uint64_t subject = 0;
  friend bool operator<(const Timer& a, const Timer& b) {
    return a.when != b.when ? a.when > b.when : a.order > b.order;
  }
};

class Timers {
 public:
  void arm(Instant when, TimerKind kind, std::uint64_t subject) {
    heap_.push({when, order_++, kind, subject});
  }
  [[nodiscard]] std::optional<Timer> take_due(Instant now) {
    if (heap_.empty() || heap_.top().when > now) return std::nullopt;
    const Timer timer = heap_.top();
    heap_.pop();
    return timer;
  }
  [[nodiscard]] std::optional<Instant> next() const {
    if (heap_.empty()) return std::nullopt;
    return heap_.top().when;
  }

 private:
  std::priority_queue<Timer> heap_;
  std::uint64_t order_ = 0;
};

}  // namespace culvert::ike
