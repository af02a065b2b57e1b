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
  if (under_way || !address_of_peer(connection)) return;
  std::vector<std::uint32_t> wanted;
  for (const channel::SaId id : ike.children) {
    const ChildSa& child = children_.at(id);
    const bool configured = environment_.config->connection_of_child(child.index) == &connection;
    const bool stands = !child.redundant && (child.state == ChildState::installed ||
                                             child.state == ChildState::rekeying);
    if (configured && stands && std::ranges::find(wanted, child.index) == wanted.end()) {
      wanted.push_back(child.index);
    }
  }
  if (wanted.empty()) {
    if (ike.outdated) enqueue(ike, Task{.kind = TaskKind::delete_ike}, true);
    return;
  }
  report(Level::info, "reauthenticating",
         {{"connection", connection.name}, {"initiator_spi", spi_text(ike.initiator_spi())}});
  initiate(state_of(connection), std::move(wanted));
}

}  // namespace culvert::ike
