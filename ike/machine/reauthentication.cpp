// Re-authentication, make before break: a whole new IKE SA with its children beside the old one,
// which goes when traffic has moved (RFC 7296 §2.8.3; what becomes of the old one: duplicates.cpp).
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {

/// Counted from the authentication, whatever rekeys came between.
void Core::arm_reauthentication(IkeSa& ike) {
  const auto span = ike.connection->reauth_time;
  if (span.count() == 0) return;
  if (ike.reauthenticate_at == Instant{}) {
    ike.reauthenticate_at = now_ + jittered(span, tuning_.rekey_jitter);
  }
  timers_.arm(ike.reauthenticate_at, TimerKind::reauthenticate, ike.local_spi);
}

void Core::reauthenticate(IkeSa& ike) {
  if (!ike.usable() || shutting_down_) return;
  // Again if the new one does not come up; the old one goes on meanwhile.
  ike.reauthenticate_at = now_ + tuning_.reauthentication_retry;
  timers_.arm(ike.reauthenticate_at, TimerKind::reauthenticate, ike.local_spi);
  const config::Connection& connection = *ike.connection;
  const bool under_way = std::ranges::any_of(ike_sas_, [&](const auto& entry) {
    const IkeSa& other = *entry.second;
    return other.connection == &connection &&
           (other.state == IkeState::init_sent || other.state == IkeState::auth_sent);
  });
  // Where only the peer can begin, its own reauth_time counts.
  if (!address_of_peer(connection)) {
    if (ike.outdated && !is_contested(ike)) {
      enqueue(ike, Task{.kind = TaskKind::delete_ike}, true);
    }
    return;
  }
  if (under_way) return;
  std::vector<config::ChildId> wanted;
  const auto want = [&](config::ChildId child_id) {
    const bool configured = connection_index_.connection_of_child(child_id) == &connection;
    if (configured && std::ranges::find(wanted, child_id) == wanted.end())
      wanted.push_back(child_id);
  };
  for (const channel::SaId id : ike.children) {
    const ChildSa& child = children_.at(id);
    const bool stands = !child.redundant && (child.state == ChildState::installed ||
                                             child.state == ChildState::rekeying);
    if (stands) want(child.child_id);
  }
  // What is in the making carries traffic before the new IKE SA stands.
  if (ike.exchange && ike.exchange->task.kind == TaskKind::create_child) {
    want(ike.exchange->task.child_id);
  }
  for (const Task& task : ike.queue) {
    if (task.kind == TaskKind::create_child) want(task.child_id);
  }
  if (wanted.empty()) {
    // A successor whose children are still its predecessor's is asked again.
    if (ike.outdated && !is_contested(ike)) {
      enqueue(ike, Task{.kind = TaskKind::delete_ike}, true);
    }
    return;
  }
  report(Level::info, "reauthenticating",
         {{"connection", connection.name}, {"initiator_spi", spi_text(ike.initiator_spi())}});
  initiate(state_of(connection), std::move(wanted));
}

}  // namespace culvert::ike
