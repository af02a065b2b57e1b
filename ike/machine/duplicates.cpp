// Several IKE SAs with one peer: INITIAL_CONTACT (RFC 7296 §2.4), both sides initiating at once.
// Both sides must come to the same choice, and traffic must move before anything is deleted.
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

/// How often a lost duplicate waits a second for its children to move.
constexpr std::uint32_t kDuplicateWaits = 10;
/// A duplicate that its initiator never deletes goes after this time.
constexpr std::chrono::seconds kDuplicateLife{30};
/// From a crossing to the question whether the winner is alive: IKE_AUTH is over by then.
constexpr std::chrono::seconds kProofDelay{1};

}  // namespace

bool Core::only_one(const IkeSa& ike) const {
  return std::ranges::none_of(peers_.of(*ike.connection), [&](const IkeSa* other) {
    return other != &ike &&
           (other->state == IkeState::established || other->state == IkeState::rekeyed ||
            other->state == IkeState::deleting);
  });
}

void Core::settle_with_others(IkeSa& ike, bool initial_contact) {
  std::vector<std::uint64_t> abandoned;
  for (IkeSa* other : peers_.with_peer_of(ike)) {
    if (other == &ike) continue;
    if (other->state == IkeState::init_sent && !ike.initiator) {
      abandoned.push_back(other->local_spi);
      continue;
    }
    if (other->state != IkeState::established) continue;
    if (other->outdated) {
      mark_redundant(*other, ike);
      continue;
    }
    if (other->remote_id != ike.remote_id) continue;
    // Both began before either stood: both sides see that alike, and choose alike, also when one
    // was rekeyed before the last answer of the other arrived.
    const bool crossing =
        other->begun_by_us != ike.begun_by_us && ike.created_rank < other->established_rank;
    if (crossing) {
      const bool other_loses = other->first_nonce < ike.first_nonce;
      IkeSa& winner = other_loses ? ike : *other;
      IkeSa& loser = other_loses ? *other : ike;
      mark_redundant(loser, winner);
      // One of the two may be of an earlier life of the peer, its IKE_AUTH late on the way: the
      // loser stays until the winner has answered.
      winner.kept_instead_of = loser.local_spi;
      touch(winner);
      enqueue(winner, Task{.kind = TaskKind::liveness, .not_before = now_ + kProofDelay});
    } else if (!ike.initiator && !other->initiator && other->created_rank > ike.created_rank) {
      // Its IKE_AUTH was late on the way, perhaps from an earlier life of the peer: the one that
      // the peer began last is the one it has.
      mark_redundant(ike, *other);
    } else if (initial_contact) {
      supersede(*other);
    } else {
      mark_redundant(*other, ike);
    }
  }
  for (const std::uint64_t spi : abandoned) {
    // The peer was faster; what we wanted comes up on its IKE SA.
    for (const std::uint32_t index : find_ike(spi)->wanted) {
      state_of(*ike.connection).keep.insert(index);
    }
    remove(spi);
  }
}

/// RFC 7296 §2.4, INITIAL_CONTACT: the peer has lost the other SAs. Ours go on until the new ones
/// carry the traffic, then end without a word: nobody is there to hear it.
void Core::supersede(IkeSa& ike) {
  touch(ike);
  ConnectionState& state = state_of(*ike.connection);
  for (const channel::SaId child : ike.children) state.keep.insert(children_.at(child).index);
  for (const channel::Spi spi : spis_under_way(ike)) environment_.spis->give_back(spi);
  if (ike.exchange) finish_commands(ike.exchange->task.commands, false, "the peer restarted");
  for (const Task& task : ike.queue) {
    finish_commands(task.commands, false, "the peer restarted");
  }
  ike.exchange.reset();
  ike.queue.clear();
  ike.window.pending.reset();
  ike.state = IkeState::superseded;
  // As long as a peer that was killed once more meanwhile may send on what its life before left.
  ike.forget_at =
      now_ + tuning_.responder_switch_delay + tuning_.resumed_switch_delay + tuning_.old_sa_grace;
  timers_.arm(ike.forget_at, TimerKind::forget, ike.local_spi);
  report(Level::info, "ike_sa_superseded",
         {{"connection", ike.connection->name}, {"initiator_spi", spi_text(ike.initiator_spi())}});
}

void Core::mark_redundant(IkeSa& loser, const IkeSa& winner) {
  loser.redundant = true;
  touch(loser);
  report(Level::info, "ike_sa_redundant",
         {{"connection", loser.connection->name},
          {"initiator_spi", spi_text(loser.initiator_spi())},
          {"kept", spi_text(winner.initiator_spi())}});
  for (const std::uint32_t index : loser.wanted) state_of(*loser.connection).keep.insert(index);
  ensure_soon(state_of(*loser.connection));
  timers_.arm(now_ + duplicate_delay(loser), TimerKind::delete_duplicate, loser.local_spi);
}

/// Whoever made it deletes it (RFC 7296 §2.8.2 has the rule for rekeys); the other side only if
/// that does not happen. By then traffic has moved to the winner.
Instant Core::duplicate_delay(const IkeSa& loser) const {
  return loser.initiator ? Instant(2 * tuning_.responder_switch_delay) : Instant(kDuplicateLife);
}

/// Whoever won against a crossing IKE SA does not answer: the other one is the peer's.
void Core::revive_loser(const IkeSa& winner) {
  IkeSa* loser = winner.kept_instead_of != 0 ? find_ike(winner.kept_instead_of) : nullptr;
  if (loser == nullptr || loser->state != IkeState::established) return;
  loser->redundant = false;  // `find_ike` has touched it
  report(Level::info, "ike_sa_revived",
         {{"connection", loser->connection->name},
          {"initiator_spi", spi_text(loser->initiator_spi())}});
}

void Core::delete_duplicate(IkeSa& ike) {
  if (!ike.redundant || ike.state != IkeState::established) return;
  for (IkeSa* other : peers_.with_peer_of(ike)) {
    // Nothing came on it since we answered the request that made it: the answer may be lost, and
    // the peer may have given it up.
    const bool silent = !other->initiator && other->last_heard <= other->established;
    if (other == &ike || !other->usable() || !silent || other->kept_instead_of != 0) continue;
    touch(*other);
    other->kept_instead_of = ike.local_spi;
    enqueue(*other, Task{.kind = TaskKind::liveness});
  }
  const bool unproven = std::ranges::any_of(peers_.with_peer_of(ike), [&](const IkeSa* other) {
    return other->kept_instead_of == ike.local_spi && other->usable();
  });
  if (unproven) {
    timers_.arm(now_ + std::chrono::seconds(1), TimerKind::delete_duplicate, ike.local_spi);
    return;
  }
  bool complete = true, awaited = false;
  for (const channel::SaId id : std::vector<channel::SaId>(ike.children)) {
    const ChildSa& child = children_.at(id);
    if (child.state == ChildState::replaced) continue;
    if (const ChildSa* stays = live_child(child.index); stays != nullptr) {
      // The peer may not have it yet: this one carries the traffic until then.
      if (stays->switch_at != Instant{}) awaited = true;
      continue;
    }
    if (!wants_up(state_of(*ike.connection), child_config(child.index))) continue;
    complete = false;
    ensure(child.index);
  }
  if (awaited || (!complete && ++ike.duplicate_waits <= kDuplicateWaits)) {
    timers_.arm(now_ + std::chrono::seconds(1), TimerKind::delete_duplicate, ike.local_spi);
    return;
  }
  enqueue(ike, Task{.kind = TaskKind::delete_ike}, true);
}

}  // namespace culvert::ike
