// The first rekey of a child, rehearsed. IKE_AUTH makes a child without a key exchange of its own
// (RFC 7296 §1.2), so that whether both sides agree on PFS shows only at the first CREATE_CHILD_SA,
// hours after somebody looked. A rekey within seconds shows it while somebody does; make before
// break, it disturbs nothing (docs/decisions/0008-the-first-rekey-is-rehearsed.md).
#include <utility>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

/// A child that is rekeyed this soon anyway needs no rehearsal.
constexpr std::chrono::seconds kSoonAnyway{30};
/// Fraction of the delay that is drawn: thousands of tunnels may have come up at once, and the
/// delay is a second longer for so many of them.
constexpr double kSpread = 0.4;
constexpr std::size_t kCrowd = 200;

}  // namespace

/// For a child of IKE_AUTH. Its initiator goes first; its responder rehearses where no rekey has
/// come by then: the peer may know nothing of rehearsals.
void Core::arm_rehearsal(ChildSa& child) {
  const config::Child& config = child_config(child.child_id);
  if (!config.rehearse_rekey || child.redundant) return;
  if (config.rekey_time.count() == 0 || config.rekey_time < kSoonAnyway) return;
  const auto delay = child.made_by_us ? tuning_.rehearsal_delay : tuning_.responder_rehearsal_delay;
  const std::chrono::seconds longer{ike_sas_.size() / kCrowd};
  child.rehearse_at = now_ + jittered(delay + longer, kSpread);
  timers_.arm(child.rehearse_at, TimerKind::rehearse, static_cast<std::uint64_t>(child.inbound_sa));
}

void Core::rehearse(channel::SaId inbound) {
  ChildSa* child = find_child(inbound);
  // The peer has asked for a rekey meanwhile: what it was answered is known at both ends.
  if (child == nullptr || std::exchange(child->rehearse_at, {}) == Instant{}) return;
  // Replaced, deleted or being rekeyed meanwhile: that was rehearsal enough.
  if (child->state != ChildState::installed || !is_live(*child)) return;
  if (shutting_down_) return;
  child->state = ChildState::rekeying;
  enqueue(*find_ike(child->ike_spi), Task{.kind = TaskKind::rekey_child,
                                          .child_id = child->child_id,
                                          .child = inbound,
                                          .rehearsal = true});
}

/// The child goes on; the rekey proper comes in its time, and the peer may be right by then.
void Core::rehearsal_refused(const IkeSa& ike, const ChildSa& child, const Refusal& refusal) {
  fail(ike.connection, refusal.failure,
       refusal.detail + "; seen in a rehearsal: the child passes traffic until it expires",
       Level::warning, child.child_id);
}

}  // namespace culvert::ike
