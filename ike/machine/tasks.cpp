// What waits to be done: exchanges queued on an IKE SA (window 1), children that shall be up,
// retries with back-off, commands that wait for an outcome.
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {

void Core::enqueue(IkeSa& ike, Task task, bool first) {
  touch(ike);
  if (task.not_before > now_) {
    timers_.arm(task.not_before, TimerKind::start_tasks, ike.local_spi);
  }
  if (first) {
    ike.queue.push_front(std::move(task));
  } else {
    ike.queue.push_back(std::move(task));
  }
  pump(ike);
}

void Core::pump(IkeSa& ike) {
  touch(ike);
  while (!ike.exchange && !ike.queue.empty()) {
    const bool ending = ike.state == IkeState::rekeyed;
    if (ike.state != IkeState::established && !ending) return;
    const auto due = std::ranges::find_if(ike.queue, [&](const Task& task) {
      // A replaced IKE SA has one thing left to say.
      return task.not_before <= now_ && (!ending || task.kind == TaskKind::delete_ike);
    });
    if (due == ike.queue.end()) return;
    Task task = std::move(*due);
    ike.queue.erase(due);
    switch (task.kind) {
      case TaskKind::create_child:
      case TaskKind::rekey_child:
        start_create_child(ike, std::move(task));
        break;
      case TaskKind::rekey_ike:
        start_rekey_ike(ike, std::move(task));
        break;
      case TaskKind::delete_child:
        start_delete_child(ike, std::move(task));
        break;
      case TaskKind::delete_ike:
        start_delete_ike(ike, std::move(task));
        break;
      case TaskKind::liveness:
        start_liveness(ike, std::move(task));
        break;
      case TaskKind::update_addresses:
        start_update_addresses(ike, std::move(task));
        break;
      case TaskKind::check_route:
        start_check_route(ike, std::move(task));
        break;
      case TaskKind::await_move:
        lost_addresses_.give_up(ike, task);
        break;
      case TaskKind::init:
      case TaskKind::auth:
        break;
    }
  }
}

bool Core::wants_up(const ConnectionState& state, const config::Child& child) const {
  if (shutting_down_ || state.held_down || state.held_children.contains(child.id)) return false;
  return child.start_action == config::StartAction::start || state.keep.contains(child.id);
}

/// Sees to it that a child comes up: on the IKE SA that stands, on the one in the making, or on a
/// new one. False when nothing can be begun.
bool Core::ensure(config::ChildId child_id) {
  const bool pair = wants_another_pair(child_id);
  if (live_child(child_id) != nullptr && !pair) return true;
  const config::Connection* configured = connection_index_.connection_of_child(child_id);
  if (configured == nullptr) return false;
  const config::Connection& connection = *configured;
  if (IkeSa* ike = usable_ike(connection)) {
    const auto creates = [&](const Task& task) {
      return task.kind == TaskKind::create_child && task.child_id == child_id;
    };
    if (ike->exchange && creates(ike->exchange->task)) return true;
    if (std::ranges::any_of(ike->queue, creates)) return true;
    enqueue(*ike, Task{.kind = TaskKind::create_child, .child_id = child_id, .single_pair = pair});
    return true;
  }
  for (IkeSa* ike : peers_.of(connection)) {
    if (!ike->initiator) continue;
    if (ike->state != IkeState::init_sent && ike->state != IkeState::auth_sent) continue;
    if (std::ranges::find(ike->wanted, child_id) == ike->wanted.end()) {
      ike->wanted.push_back(child_id);
      touch(*ike);
    }
    return true;
  }
  return initiate(state_of(connection), {child_id});
}

/// The peer takes single pairs of addresses, and none that stands is the packet's.
bool Core::wants_another_pair(config::ChildId child_id) const {
  const auto packet = trapped_.find(child_id);
  if (packet == trapped_.end()) return false;
  bool stands = false;
  for (const ChildSa* child : children_.of(child_id)) {
    if (!is_live(*child)) continue;
    const SelectorPair agreed{child->local_selectors, child->remote_selectors};
    const SelectorPair ours =
        configured_selectors(child_config(child_id), *find_ike(child->ike_spi));
    if (!is_single_pair(agreed) || covers(agreed, ours)) return false;
    if (selectors_of_packet(packet->second, agreed)) return false;
    stands = true;
  }
  return stands;
}

void Core::retry_connection(ConnectionState& state) {
  state.retry_at = {};
  for (const config::Child& child : state.connection->children) {
    if (!wants_up(state, child)) continue;
    if (!ensure(child.id)) return;
  }
}

/// After a failure: again, later and later, for ever (start_action: start). `holds_traps`: packets
/// bring nothing up before then either.
void Core::plan_retry(ConnectionState& state, bool holds_traps) {
  const bool wanted = std::ranges::any_of(
      state.connection->children, [&](const auto& child) { return wants_up(state, child); });
  if (!wanted && !holds_traps) return;
  state.retry_at = now_ + jittered(state.backoff, 0.25);
  state.backoff = std::min(state.backoff * 2, tuning_.initiate_backoff_cap);
  timers_.arm(state.retry_at, TimerKind::retry_connection,
              static_cast<std::uint64_t>(&state - connections_.data()));
}

/// Without a failure: soon, but not in the step in which the peer may begin as well.
void Core::ensure_soon(ConnectionState& state) {
  const bool missing =
      std::ranges::any_of(state.connection->children, [&](const config::Child& child) {
        return wants_up(state, child) && live_child(child.id) == nullptr;
      });
  if (!missing || state.retry_at != Instant{}) return;
  state.retry_at = now_ + jittered(2 * Instant(tuning_.initiate_backoff_first), 0.5);
  timers_.arm(state.retry_at, TimerKind::retry_connection,
              static_cast<std::uint64_t>(&state - connections_.data()));
}

void Core::finish_commands(const std::vector<CommandId>& commands, bool ok,
                           const std::string& message) {
  for (const CommandId id : commands) actions_->push_back(CommandDone{id, ok, message});
}

void Core::child_is_up(config::ChildId child_id) {
  for (WaitingCommand& command : waiting_) {
    command.children.erase(child_id);
    if (command.children.empty()) finish_commands({command.id}, true, "");
  }
  std::erase_if(waiting_, [](const WaitingCommand& command) { return command.children.empty(); });
}

void Core::child_is_not_coming(config::ChildId child_id, const std::string& why) {
  for (const WaitingCommand& command : waiting_) {
    if (command.children.contains(child_id)) finish_commands({command.id}, false, why);
  }
  std::erase_if(waiting_,
                [&](const WaitingCommand& command) { return command.children.contains(child_id); });
}

void Core::connection_is_not_coming(const config::Connection& connection, const std::string& why) {
  for (const config::Child& child : connection.children) child_is_not_coming(child.id, why);
}

void Core::give_up_initiation(IkeSa& ike, Failure failure, const std::string& detail) {
  const config::Connection& connection = *ike.connection;
  if (info(failure).is_authentication) count_refusal(failure);
  const bool overtaken = std::ranges::any_of(peers_.of(connection), [&](const IkeSa* other) {
    return other->usable() && other->established_rank > ike.created_rank;
  });
  fail(&connection, failure, detail, Level::warning, overtaken ? Attempt::none : Attempt::ike_sa);
  if (ike.exchange && ike.exchange->inbound_spi != channel::Spi{}) {
    environment_.spis->give_back(ike.exchange->inbound_spi);
  }
  remove(ike.local_spi);
  if (has_usable_ike(connection)) {
    // A crossing one from the peer stands: what we wanted comes up there.
    ensure_soon(state_of(connection));
    return;
  }
  connection_is_not_coming(connection, std::string(info(failure).name) + ": " + detail);
  plan_retry(state_of(connection));
}

/// A request was not answered by any of its retransmissions (RFC 7296 §2.4). A peer that is not
/// `silent` has lost the IKE SA, not its children, as one that begins anew without its records:
/// they carry its traffic until others stand, for a while.
void Core::vanish(IkeSa& ike, bool silent) {
  const std::string remote = ike.remote.to_string();
  if (ike.state == IkeState::init_sent || ike.state == IkeState::auth_sent) {
    if (ike.heard_version_1) {
      give_up_initiation(ike, Failure::unsupported_version,
                         "ours: IKEv2; the peer at " + remote + " answers in IKEv1");
      return;
    }
    std::string detail =
        "ours: " + ike.local.to_string() + "; the peer's: no answer from " + remote;
    if (ike.state == IkeState::auth_sent) {
      // The usual firewall: 500 passes, 4500 or what is too large for one packet does not.
      detail += ": IKE_SA_INIT was answered, IKE_AUTH was not; fragmentation " +
                std::string(ike.fragmentation ? "agreed upon" : "not agreed upon");
    }
    give_up_initiation(ike, Failure::peer_unreachable, detail);
    return;
  }
  if (ike.exchange && ike.exchange->rival_ike != 0 && ike.state == IkeState::established) {
    if (IkeSa* rival = find_ike(ike.exchange->rival_ike)) move_to_successor(ike, *rival);
  }
  const bool ending = ike.state != IkeState::established || ike.redundant;
  if (ending) {
    if (ike.exchange && ike.exchange->task.kind == TaskKind::delete_ike) {
      finish_commands(std::exchange(ike.exchange->task.commands, {}), true,
                      "the peer did not confirm");
    }
    close(ike, true, "the peer did not answer");
    return;
  }
  ConnectionState& state = state_of(*ike.connection);
  fail(ike.connection, Failure::peer_vanished,
       "no answer from " + remote + (silent ? "" : ", whose packets arrive"), Level::warning,
       Attempt::ike_sa);
  if (silent) {
    for (const channel::SaId child : ike.children) state.keep.insert(children_.at(child).child_id);
    revive_losers(ike);
    close(ike, false, "the peer did not answer");
  } else {
    supersede(ike, "the peer did not answer");
    revive_losers(ike);
  }
  ensure_soon(state);
}

}  // namespace culvert::ike
