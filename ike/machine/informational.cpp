// INFORMATIONAL (RFC 7296 §1.4): Delete from either side, liveness checks (§2.4).
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

using wire::ike::Delete;
using wire::ike::ExchangeType;
using wire::ike::NotifyType;
using wire::ike::Protocol;

/// Of the child that is being made at most; a peer may name any number.
constexpr std::size_t kMostEarlyDeletes = 16;
/// From a rekey whose new SA one of the two data planes refused to the next try.
constexpr std::chrono::seconds kUnusableRekeyDelay{60};

}  // namespace

void Core::start_delete_child(IkeSa& ike, Task task) {
  std::uint32_t spi = static_cast<std::uint32_t>(task.orphan);
  Payloads why;
  if (task.orphan == channel::Spi{}) {
    ChildSa* child = find_child(task.child);
    if (child == nullptr) {
      finish_commands(task.commands, true, "already gone");
      return;
    }
    const ChildState before = std::exchange(child->state, ChildState::deleting);
    // A child without successor stops sending at once: the peer is about to forget it.
    if (before != ChildState::replaced && !child->redundant) release_outbound(*child);
    spi = static_cast<std::uint32_t>(child->inbound_spi);
    // Our data plane refused what we had answered for: the peer may keep the SA that was to be
    // replaced. RFC 7296 §3.10.1: whoever does not know the notify here takes no notice of it.
    const bool refused = child->redundant && child->replaces && !child->made_by_us;
    if (refused) why.emplace_back(make_notify(NotifyType::no_additional_sas));
  }
  Exchange exchange;
  exchange.task = std::move(task);
  ike.exchange = std::move(exchange);
  // RFC 7296 §1.4.1: the SPIs as they stand in inbound packets of the sender.
  Payloads payloads{Delete{Protocol::esp, {spi}}};
  payloads.insert(payloads.end(), why.begin(), why.end());
  send_request(ike, ExchangeType::informational, payloads);
}

void Core::start_delete_ike(IkeSa& ike, Task task) {
  if (ike.state == IkeState::established) ike.state = IkeState::deleting;
  Exchange exchange;
  exchange.task = std::move(task);
  ike.exchange = std::move(exchange);
  send_request(ike, ExchangeType::informational, {Delete{Protocol::ike, {}}});
}

void Core::start_liveness(IkeSa& ike, Task task) {
  Exchange exchange;
  exchange.task = std::move(task);
  ike.exchange = std::move(exchange);
  Payloads payloads;
  // RFC 4555 §3.8: behind a NAT, ask how the peer sees us.
  if (ike.moves && ike.nat_local) add_nat_detection(payloads, ike, ike.responder_spi());
  send_request(ike, ExchangeType::informational, payloads);
}

void Core::answer_informational(IkeSa& ike, const wire::ike::Header& header,
                                const Payloads& payloads, const wire::Endpoint& local,
                                const wire::Endpoint& remote) {
  std::vector<std::uint32_t> deleted;
  // RFC 7296 §2.21.2: an initiator that does not believe us says so, usually with nothing else; to
  // it the IKE SA never stood.
  const bool refused = find_notify(payloads, NotifyType::authentication_failed) != nullptr;
  const bool ike_deleted = ends_ike_sa(payloads);
  // See start_delete_child.
  const bool unusable = find_notify(payloads, NotifyType::no_additional_sas) != nullptr;
  // A peer that goes on with the successor it made has settled the collision; one that deletes that
  // successor has lost it.
  if (!ike_deleted) settle_rival_ike(ike);
  for (const auto& payload : payloads) {
    const auto* request = std::get_if<Delete>(&payload);
    if (request == nullptr || request->protocol != Protocol::esp) continue;
    for (const std::uint32_t spi : request->spis) {
      if (ChildSa* child = find_child_by_outbound(ike, spi)) {
        const config::ChildId child_id = child->child_id;
        if (unusable && child->made_by_us) take_back_replaced(*child);
        peer_deletes_child(ike, *child, deleted);
        if (unusable && live_child(child_id) != nullptr) {
          fail(ike.connection, Failure::no_additional_sas,
               child_config(child_id).name +
                   ": the peer could not install its new SA; the old one stays",
               Level::warning, child_id);
        }
      } else if (ike.exchange) {
        auto& early = ike.exchange->deleted_early;
        if (early.size() == kMostEarlyDeletes) early.erase(early.begin());
        early.push_back(spi);
      }
    }
  }
  Payloads answer;
  if (!deleted.empty()) answer.emplace_back(Delete{Protocol::esp, deleted});
  if (!ike_deleted) answer_mobike(ike, payloads, local, remote, answer);
  respond(ike, header, answer, local, remote);
  if (!ike_deleted) {
    // A route to check, after the answer that the peer waits for.
    pump(ike);
    return;
  }
  peer_deletes_ike(ike);
  if (refused) {
    const Failure failure = refused_proof(ike.local_method);
    count_refusal(failure);
    fail(ike.connection, failure,
         "ours: local.id " + identity_text(ike.local_id) + ", auth " + ike.local_auth +
             "; the peer " + identity_text(ike.remote_id) + " refuses our proof or identity",
         Level::warning, Attempt::ike_sa);
  }
}

/// A child was rekeyed, and the new one goes before the old one: one side cannot use it, or the old
/// one's Delete follows. Until then the old one stands: RFC 7296 §1.3.3 replaces it by one that
/// works.
void Core::take_back_replaced(const ChildSa& successor) {
  for (const ChildSa* one : children_.of(successor.child_id)) {
    if (one->replaced_by != successor.inbound_sa || one->ike_spi != successor.ike_spi ||
        one->state != ChildState::replaced) {
      continue;
    }
    ChildSa& old = *find_child(one->inbound_sa);
    old.state = ChildState::installed;
    old.replaced_by = {};
    IkeSa& ike = *find_ike(old.ike_spi);
    std::erase_if(ike.queue, [&](const Task& task) {
      return task.kind == TaskKind::delete_child && task.child == old.inbound_sa;
    });
    if (has_new_form(old)) {
      retire_outdated(old.child_id);
    } else if (successor.made_by_us) {
      // Its lifetime goes on. Not enqueue(): whoever calls may be about to begin an exchange.
      const Instant when = now_ + kUnusableRekeyDelay;
      timers_.arm(when, TimerKind::start_tasks, ike.local_spi);
      ike.queue.push_back(Task{.kind = TaskKind::rekey_child,
                               .child_id = old.child_id,
                               .child = old.inbound_sa,
                               .not_before = when});
    }
    return;
  }
}

void Core::peer_deletes_child(IkeSa& ike, ChildSa& child, std::vector<std::uint32_t>& answer) {
  // RFC 7296 §1.4.1: when both delete at once, the answer does not name it again.
  if (child.state != ChildState::deleting) {
    answer.push_back(static_cast<std::uint32_t>(child.inbound_spi));
  }
  const config::ChildId child_id = child.child_id;
  ChildSa* successor = find_child(child.replaced_by);
  const bool replaced =
      successor != nullptr || child.redundant || child.state == ChildState::replaced;
  const bool asked_for = child.state == ChildState::deleting;
  if (successor != nullptr && !successor->redundant && !stays_behind(*successor) &&
      successor->state == ChildState::installed) {
    // The initiator of the rekey has the new SA: it deletes the old one.
    activate(*successor);
  }
  const bool mode_refused = child.transport_declined;
  // Whoever deletes what has just been made does so again, for its data plane takes no policy of
  // it, say.
  constexpr auto kShortLife = std::chrono::seconds{10};
  const bool was_short = now_ < child.created + kShortLife;
  const bool was_live = is_live(child);
  if (!child.made_by_us && child.replaces) take_back_replaced(child);
  report(Level::info, "child_deleted",
         {{"connection", ike.connection->name},
          {"child", child_config(child_id).name},
          {"by", asked_for ? "both" : "peer"},
          {"spi_in", spi_text(child.inbound_spi)}});
  retire(child.inbound_sa, replaced);
  if (replaced || asked_for || live_child(child_id) != nullptr) return;
  ConnectionState& state = state_of(*ike.connection);
  if (!takes_down(child_id, was_live)) {
    ensure_soon(state);
    return;
  }
  if (mode_refused) {
    fail(ike.connection, Failure::mode_mismatch,
         child_config(child_id).name + ": ours: tunnel; the peer's: transport", Level::warning,
         child_id);
  } else {
    remember(state, Failure::peer_deleted,
             ike.remote_id.text + " deleted " + child_config(child_id).name, child_id);
  }
  state.keep.erase(child_id);
  // start_action: start means up, whoever takes it down; a trap waits for the next packet.
  if (was_short) return plan_retry(state, true);
  state.backoff = tuning_.initiate_backoff_first;
  ensure_soon(state);
}

/// RFC 7296 §1.4.1: a Delete names one pair. One that is outdated, or of an IKE SA that lost, may
/// go while another such carries the traffic: the child has not been taken down. `with`: the IKE SA
/// that goes along.
bool Core::takes_down(config::ChildId child, bool was_live, const IkeSa* with) const {
  return std::ranges::none_of(children_.of(child), [&](const ChildSa* one) {
    const bool stands = one->state == ChildState::installed || one->state == ChildState::rekeying;
    const IkeSa* its = find_ike(one->ike_spi);
    if (its == nullptr || its == with || its->state != IkeState::established) return false;
    return stands && !one->redundant && (!was_live || is_live(*one));
  });
}

void Core::peer_deletes_ike(IkeSa& ike) {
  const bool replaced = ike.state == IkeState::rekeyed || ike.redundant;
  if (ike.state == IkeState::established && ike.exchange && ike.exchange->rival_ike != 0) {
    // The peer's successor of this IKE SA won; ours never came to be.
    if (IkeSa* rival = find_ike(ike.exchange->rival_ike)) move_to_successor(ike, *rival);
  } else if (!replaced) {
    const bool asked_for = ike.state == IkeState::deleting;
    report(Level::info, "ike_sa_deleted",
           {{"connection", ike.connection->name},
            {"by", asked_for ? "both" : "peer"},
            {"initiator_spi", spi_text(ike.initiator_spi())}});
    ConnectionState& state = state_of(*ike.connection);
    if (!asked_for) {
      remember(state, Failure::peer_deleted,
               ike.remote_id.text + " deleted the IKE SA and its children", {});
    }
    if (!asked_for) {
      revive_losers(ike);
      for (const channel::SaId id : ike.children) {
        const ChildSa& child = children_.at(id);
        if (takes_down(child.child_id, is_live(child), &ike)) state.keep.erase(child.child_id);
      }
    }
  }
  if (ike.exchange && ike.exchange->task.kind == TaskKind::delete_ike) {
    finish_commands(ike.exchange->task.commands, true, "");
    ike.exchange->task.commands.clear();
  }
  close(ike, replaced, "the peer deleted the IKE SA");
  // Behind the end of its children, which are missing only then.
  if (!replaced) ensure_soon(state_of(*ike.connection));
}

void Core::finish_informational(IkeSa& ike, Exchange exchange, const Payloads& payloads) {
  // RFC 7296 §1.4.1: whatever the answer says, what we deleted is gone.
  switch (exchange.task.kind) {
    case TaskKind::delete_child: {
      if (exchange.task.orphan != channel::Spi{}) {
        environment_.spis->give_back(exchange.task.orphan);
        return;
      }
      if (const ChildSa* child = find_child(exchange.task.child)) {
        const bool replaced = child->redundant || child->replaced_by != channel::SaId{};
        report(Level::info, "child_deleted",
               {{"connection", ike.connection->name},
                {"child", child_config(child->child_id).name},
                {"by", "us"},
                {"spi_in", spi_text(child->inbound_spi)}});
        if (replaced) ike.last_replaced = child->outbound_spi;
        retire(exchange.task.child, replaced);
      }
      finish_commands(exchange.task.commands, true, "");
      // It may be wanted again: the configuration lacked it when the Delete was queued only.
      ensure_soon(state_of(*ike.connection));
      return;
    }
    case TaskKind::delete_ike: {
      const bool replaced = ike.redundant || ike.state == IkeState::rekeyed;
      if (!replaced) {
        report(Level::info, "ike_sa_deleted",
               {{"connection", ike.connection->name},
                {"by", "us"},
                {"initiator_spi", spi_text(ike.initiator_spi())}});
      }
      const std::vector<CommandId> commands = exchange.task.commands;
      close(ike, replaced, "the IKE SA was deleted");
      finish_commands(commands, true, "");
      return;
    }
    case TaskKind::liveness:
      ike.unproven = false;
      mapping_seen(ike, payloads);
      return;
    case TaskKind::update_addresses:
      finish_update_addresses(ike, exchange, payloads);
      return;
    case TaskKind::check_route:
      finish_check_route(ike, exchange, payloads);
      return;
    case TaskKind::init:
    case TaskKind::auth:
    case TaskKind::create_child:
    case TaskKind::rekey_child:
    case TaskKind::rekey_ike:
    case TaskKind::await_move:
      return;
  }
}

/// RFC 7296 §2.4: a check is due only when nothing authenticated came lately, ESP included.
void Core::check_liveness(IkeSa& ike) {
  if (ike.state != IkeState::established) return;
  const Instant delay = ike.connection->dpd_delay;
  if (delay.count() == 0) return;  // turned off; only a wrong record has a time for it
  const auto again_at = [&](Instant when) {
    ike.liveness_at = when;
    timers_.arm(when, TimerKind::liveness, ike.local_spi);
  };
  if (now_ - ike.last_heard < delay) {
    again_at(ike.last_heard + delay);
    return;
  }
  again_at(now_ + delay);
  // A request on its way is a liveness check already.
  if (ike.exchange) return;
  ask_for_traffic(ike);
  if (ike.liveness_queries == 0) enqueue(ike, Task{.kind = TaskKind::liveness});
}

/// Of the data plane: when ESP last came on each child.
void Core::ask_for_traffic(IkeSa& ike) {
  ike.traffic_seen = false;
  ike.liveness_queries = 0;
  for (const channel::SaId id : ike.children) {
    const ChildSa& child = children_.at(id);
    // The inbound half of one that is about to go may be missing.
    if (child.redundant || child.state == ChildState::deleting) continue;
    channel::Request query;
    query.type = channel::RequestType::query_sa;
    query.body.query_sa.sa = id;
    liveness_requests_[request(query)] = ike.local_spi;
    ++ike.liveness_queries;
  }
}

}  // namespace culvert::ike
