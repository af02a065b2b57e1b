// Several IKE SAs with one peer: INITIAL_CONTACT (RFC 7296 §2.4), both sides initiating at once.
// Both sides must come to the same choice, and traffic must move before anything is deleted.
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

/// How often a lost duplicate waits a second for its children to move.
constexpr std::uint32_t kDuplicateWaits = 10;
/// From the loss to our Delete of what we began: traffic has moved to the winner by then, or does
/// when the peer has the Delete.
constexpr std::chrono::seconds kDuplicateLinger{2};
/// A duplicate that its initiator never deletes goes after this time.
constexpr std::chrono::seconds kDuplicateLife{30};
/// From a crossing to the question whether the winner is alive: IKE_AUTH is over by then.
constexpr std::chrono::seconds kProofDelay{1};

/// Whether a request for this child is on its way, or waits for its turn.
bool is_making(const IkeSa& ike, config::ChildId child_id) {
  const auto makes = [&](const Task& task) {
    return task.kind == TaskKind::create_child && task.child_id == child_id;
  };
  return (ike.exchange && makes(ike.exchange->task)) || std::ranges::any_of(ike.queue, makes);
}

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
    if (other->redundant && !initial_contact) continue;  // settled
    settle_between(ike, *other, initial_contact);
  }
  for (const std::uint64_t spi : abandoned) {
    // The peer was faster; what we wanted comes up on its IKE SA.
    for (const config::ChildId child_id : find_ike(spi)->wanted) {
      state_of(*ike.connection).keep.insert(child_id);
    }
    remove(spi);
  }
}

/// One of the two stays; `ike` is the one that stood last.
void Core::settle_between(IkeSa& ike, IkeSa& other, bool initial_contact) {
  if (other.outdated && !ike.outdated) {
    mark_redundant(other, ike);
    return;
  }
  if (other.remote_id != ike.remote_id) return;
  // Both began before either stood: both sides see that alike, and choose alike, also when one was
  // rekeyed before the last answer of the other arrived.
  const bool crossing =
      other.begun_by_us != ike.begun_by_us && ike.begun_rank < other.established_rank;
  if (crossing) {
    const bool other_loses = other.first_nonce < ike.first_nonce;
    IkeSa& winner = other_loses ? ike : other;
    IkeSa& loser = other_loses ? other : ike;
    mark_redundant(loser, winner);
    // One of the two may be of an earlier life of the peer, its IKE_AUTH late on the way: the loser
    // stays until the winner has answered.
    ask_for_proof(winner, now_ + kProofDelay);
  } else if (!ike.begun_by_us && !other.begun_by_us && other.begun_rank > ike.begun_rank) {
    // Its IKE_AUTH was late on the way, perhaps from an earlier life of the peer: the one that the
    // peer began last is the one it has.
    mark_redundant(ike, other);
  } else if (initial_contact) {
    supersede(other, "the peer restarted");
  } else {
    mark_redundant(other, ike);
  }
}

/// RFC 7296 §2.4, INITIAL_CONTACT: the peer has lost the other SAs, or seems to have lost the IKE
/// SA alone. Ours go on until the new ones carry the traffic, then end without a word: nobody is
/// there to hear it.
void Core::supersede(IkeSa& ike, const std::string& why) {
  touch(ike);
  ConnectionState& state = state_of(*ike.connection);
  for (const channel::SaId child : ike.children) state.keep.insert(children_.at(child).child_id);
  for (const channel::Spi spi : spis_under_way(ike)) environment_.spis->give_back(spi);
  if (ike.exchange) finish_commands(ike.exchange->task.commands, false, why);
  for (const Task& task : ike.queue) finish_commands(task.commands, false, why);
  ike.exchange.reset();
  ike.queue.clear();
  ike.window.pending.reset();
  ike.state = IkeState::superseded;
  // As long as a peer that was killed four times more meanwhile may send on what its life before
  // left.
  ike.forget_at = now_ + tuning_.responder_switch_delay + 4 * tuning_.resumed_switch_delay +
                  tuning_.old_sa_grace;
  timers_.arm(ike.forget_at, TimerKind::forget, ike.local_spi);
  report(Level::info, "ike_sa_superseded",
         {{"connection", ike.connection->name},
          {"initiator_spi", spi_text(ike.initiator_spi())},
          {"why", why}});
}

void Core::mark_redundant(IkeSa& loser, const IkeSa& winner) {
  for (IkeSa* other : peers_.with_peer_of(loser)) {
    if (other->lost_to == loser.local_spi) lose_to(*other, winner.local_spi);
  }
  lose_to(loser, winner.local_spi);
  report(Level::info, "ike_sa_redundant",
         {{"connection", loser.connection->name},
          {"initiator_spi", spi_text(loser.initiator_spi())},
          {"kept", spi_text(winner.initiator_spi())}});
  for (const config::ChildId child_id : loser.wanted)
    state_of(*loser.connection).keep.insert(child_id);
  ensure_soon(state_of(*loser.connection));
}

void Core::lose_to(IkeSa& loser, std::uint64_t winner) {
  touch(loser);
  loser.redundant = true;
  loser.lost_to = winner;
  timers_.arm(now_ + duplicate_delay(loser), TimerKind::delete_duplicate, loser.local_spi);
}

/// Whoever made it deletes it (RFC 7296 §2.8.2 has the rule for rekeys); the other side only if
/// that does not happen.
Instant Core::duplicate_delay(const IkeSa& loser) {
  return loser.initiator ? kDuplicateLinger : kDuplicateLife;
}

void Core::ask_for_proof(IkeSa& winner, Instant when) {
  winner.unproven = true;
  enqueue(winner, Task{.kind = TaskKind::liveness, .not_before = when});
}

/// Whoever won does not answer, or the peer has ended it: what lost is what the peer has. Of
/// several one comes back, the same that would have stayed without the winner.
void Core::revive_losers(const IkeSa& winner) {
  std::vector<IkeSa*> losers;
  for (IkeSa* loser : peers_.with_peer_of(winner)) {
    if (loser->lost_to != winner.local_spi || loser->state != IkeState::established) continue;
    touch(*loser);
    loser->redundant = false;
    loser->lost_to = 0;
    losers.push_back(loser);
  }
  std::ranges::sort(losers, {}, &IkeSa::established_rank);
  for (auto later = losers.begin(); later != losers.end(); ++later) {
    for (auto earlier = losers.begin(); earlier != later; ++earlier) {
      if (!(*earlier)->redundant) settle_between(**later, **earlier, false);
    }
  }
  for (IkeSa* loser : losers) {
    if (loser->redundant) continue;
    report(Level::info, "ike_sa_revived",
           {{"connection", loser->connection->name},
            {"initiator_spi", spi_text(loser->initiator_spi())}});
    // What its children took over from while it had lost was left alone.
    for (const channel::SaId id : loser->children) {
      const ChildSa& child = children_.at(id);
      if (child.policy != channel::PolicyId{} && is_live(child)) retire_outdated(child.child_id);
    }
    if (loser->outdated) renew_outdated(*loser);
  }
}

void Core::delete_duplicate(IkeSa& ike) {
  if (!ike.redundant || ike.state != IkeState::established) return;
  if (IkeSa* winner = find_ike(ike.lost_to); winner != nullptr && winner->usable()) {
    // Since we answered the request that made it the peer has sent nothing: the answer may be lost,
    // and the peer may have given it up.
    const bool silent = !winner->initiator && winner->last_heard <= winner->established;
    if (silent && !winner->unproven) ask_for_proof(*winner, now_);
    if (winner->unproven) {
      timers_.arm(now_ + std::chrono::seconds(1), TimerKind::delete_duplicate, ike.local_spi);
      return;
    }
  }
  bool complete = true, awaited = false;
  for (const channel::SaId id : std::vector<channel::SaId>(ike.children)) {
    const ChildSa& child = children_.at(id);
    if (child.state == ChildState::replaced) continue;
    if (const ChildSa* stays = live_child(child.child_id); stays != nullptr) {
      // The peer may not have it yet: this one carries the traffic until then.
      if (stays->switch_at != Instant{}) awaited = true;
      continue;
    }
    const auto& others = peers_.with_peer_of(ike);
    if (std::ranges::any_of(others, [&](const IkeSa* other) {
          return other->usable() && is_making(*other, child.child_id);
        })) {
      awaited = true;
      continue;
    }
    if (!wants_up(state_of(*ike.connection), child_config(child.child_id))) continue;
    complete = false;
    ensure(child.child_id);
  }
  if (awaited || (!complete && ++ike.duplicate_waits <= kDuplicateWaits)) {
    timers_.arm(now_ + std::chrono::seconds(1), TimerKind::delete_duplicate, ike.local_spi);
    return;
  }
  enqueue(ike, Task{.kind = TaskKind::delete_ike}, true);
}

}  // namespace culvert::ike
