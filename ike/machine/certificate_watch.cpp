// An IKE SA lives no longer than what proved its peer: when a certificate of the peer's path
// expires, is revoked by a list read later, or loses its authority, the IKE SA is ended, and with
// it its children. The calendar and the lists are the source's; pki.revocation says whether lists
// count.
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

/// A calendar may be set while a timer runs: it is asked again at least this often.
constexpr std::chrono::seconds kAtLeast{24 * 3600};
/// While nothing says whether the peer was revoked, whoever could tell is asked this often.
constexpr std::chrono::seconds kWhileUnknown{600};
/// The second after the last valid one.
constexpr std::chrono::seconds kPast{1};

/// A stale list or status is no reason to end what stands: nothing says that the peer was revoked.
bool ends(Failure failure) {
  return failure != Failure::revocation_unknown && failure != Failure::ocsp_response_unusable &&
         failure != Failure::revocation_unreachable;
}

}  // namespace

void Core::watch_certificates(IkeSa& ike) {
  if (ike.peer_certificates.empty() || environment_.signatures == nullptr) return;
  const auto left = environment_.signatures->still_valid(ike.remote_id, ike.peer_certificates);
  std::chrono::seconds wait = kWhileUnknown;
  if (left) wait = std::clamp(*left, std::chrono::seconds(0), kAtLeast) + kPast;
  timers_.arm(now_ + wait, TimerKind::certificates, ike.local_spi);
}

void Core::recheck(IkeSa& ike) {
  if (ike.state != IkeState::established || ike.peer_certificates.empty()) return;
  const auto left = environment_.signatures->still_valid(ike.remote_id, ike.peer_certificates);
  if (left || !ends(left.error().failure)) {
    watch_certificates(ike);
    return;
  }
  ConnectionState& state = state_of(*ike.connection);
  for (const channel::SaId child : ike.children) state.keep.insert(children_.at(child).child_id);
  fail(ike.connection, left.error().failure,
       "ours: the IKE SA with " + ike.remote_id.text + " is ended, " +
           environment_.signatures->trust_text() + "; the peer's: " + left.error().detail);
  enqueue(ike, Task{.kind = TaskKind::delete_ike}, true);
  ensure_soon(state);
}

void Core::recheck_certificates(Instant now, std::vector<Action>& actions) {
  begin(now, actions);
  if (environment_.signatures == nullptr) return;
  std::vector<std::uint64_t> all;
  for (const auto& [spi, ike] : ike_sas_) {
    if (!ike->peer_certificates.empty()) all.push_back(spi);
  }
  for (const std::uint64_t spi : all) {
    IkeSa* ike = find_ike(spi);
    if (ike == nullptr || ike->state != IkeState::established) continue;
    const auto left = environment_.signatures->still_valid(ike->remote_id, ike->peer_certificates);
    if (!left && ends(left.error().failure)) recheck(*ike);
  }
}

}  // namespace culvert::ike
