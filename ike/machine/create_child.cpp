// CREATE_CHILD_SA for children (RFC 7296 §1.3.1, §1.3.3), and the same negotiation inside IKE_AUTH:
// suites, traffic selectors and their narrowing (§2.9), mode, PFS.
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

using crypto::Bytes;
using wire::ike::ExchangeType;
using wire::ike::NotifyType;

/// After TEMPORARY_FAILURE: long enough for the conflicting exchange to end.
constexpr std::chrono::milliseconds kTemporaryFailureDelay{1500};
/// As long as a request may be under way, retransmissions included.
constexpr std::chrono::seconds kCrossingCreation{40};
/// A request for a child whose Delete we owe the peer waits so long. Longer only a Delete waits
/// that is not answered.
constexpr std::chrono::seconds kOwedDelete{10};
constexpr std::uint32_t kMaxGroupRetries = 2;

/// What the peer's error says to a child of ours. What it took in IKE_AUTH and refuses now differs
/// in what IKE_AUTH does not have: the child's own key exchange.
Refusal refused_by_peer(const config::Child& config, const Exchange& exchange,
                        const Payloads& payloads, const wire::ike::Notify& error) {
  const bool rekey = exchange.task.kind == TaskKind::rekey_child;
  const bool group = error.type == NotifyType::invalid_ke_payload;
  const bool pfs = group || (rekey && error.type == NotifyType::no_proposal_chosen);
  std::string detail = terms_text(config) + "; the peer answers " +
                       wire::ike::to_string(error.type) +
                       (group ? ": it wants " + demanded_group_text(payloads) : "");
  if (pfs) detail += "; PFS: ours: " + groups_text(config.esp_proposals);
  return {error.type,
          pfs ? Failure::pfs_mismatch : failure_of(error.type, true),
          std::move(detail),
          {},
          config.id};
}

}  // namespace

void Core::start_create_child(IkeSa& ike, Task task) {
  const ChildSa* old = nullptr;
  if (task.kind == TaskKind::rekey_child) {
    ChildSa* child = find_child(task.child);
    if (child == nullptr || child->redundant || has_new_form(*child) ||
        (child->state != ChildState::installed && child->state != ChildState::rekeying)) {
      finish_commands(task.commands, child != nullptr, "the child was replaced meanwhile");
      return;
    }
    child->state = ChildState::rekeying;
    task.child_id = child->child_id;
    old = child;
  } else if ((live_child(task.child_id) != nullptr || standing_on(ike, task.child_id) != nullptr) &&
             !(task.single_pair && wants_another_pair(task.child_id))) {
    finish_commands(task.commands, true, "already up");
    return;
  }
  Exchange exchange;
  exchange.task = std::move(task);
  exchange.nonce = draw(kNonceBytes);
  auto payloads = offer_child(ike, exchange, false);
  if (!payloads) {
    child_failed(ike, exchange, payloads.error());
    return;
  }
  if (old != nullptr) {
    // RFC 7296 §1.3.3: the SPI that we, the exchange's initiator, expect in inbound packets.
    wire::ike::Notify rekey = make_notify(NotifyType::rekey_sa);
    rekey.protocol = wire::ike::Protocol::esp;
    rekey.spi.resize(4);
    wire::Writer(rekey.spi).u32(static_cast<std::uint32_t>(old->inbound_spi));
    payloads->insert(payloads->begin(), rekey);
  }
  ike.exchange = std::move(exchange);
  send_request(ike, ExchangeType::create_child_sa, *payloads);
}

/// RFC 7296 §2.25: what to refuse for now. On success the child to be rekeyed, or nullptr.
std::expected<const ChildSa*, Refusal> Core::may_create(IkeSa& ike, const Payloads& payloads) {
  const auto busy = [](std::string why) {
    return std::unexpected(
        Refusal{NotifyType::temporary_failure, Failure::temporary_failure, std::move(why), {}});
  };
  // §2.25.2: the IKE SA is being replaced or closed.
  if (ike.state != IkeState::established) return busy("the IKE SA is ending");
  if (ike.exchange && (ike.exchange->task.kind == TaskKind::rekey_ike ||
                       ike.exchange->task.kind == TaskKind::delete_ike)) {
    return busy("the IKE SA is being rekeyed");
  }
  const auto* rekey = find_notify(payloads, NotifyType::rekey_sa);
  if (rekey != nullptr) {
    const auto spi = wire::Reader(rekey->spi).u32("SPI");
    ChildSa* child = spi ? find_child_by_outbound(ike, *spi) : nullptr;
    // The answer that tells us of this child may still be on its way.
    const bool in_the_making = ike.exchange && (ike.exchange->task.kind == TaskKind::create_child ||
                                                ike.exchange->task.kind == TaskKind::rekey_child);
    if (child == nullptr && in_the_making) return busy("a child is in the making");
    if (child == nullptr) {
      return std::unexpected(Refusal{NotifyType::child_sa_not_found,
                                     Failure::child_sa_not_found,
                                     "SPI " + spi_text(channel::Spi{spi ? *spi : 0U}),
                                     {}});
    }
    child->rehearse_at = {};
    // The configuration has changed: this child is about to go, or we ask for its new form.
    if (has_new_form(*child)) return busy("the child is being closed");
    if (ike.exchange && ike.exchange->task.kind == TaskKind::create_child &&
        ike.exchange->task.child_id == child->child_id) {
      return busy("we ask for the same child");
    }
    // §2.25.1: a child that we are closing.
    if (child->state == ChildState::deleting || child->state == ChildState::replaced) {
      auto closing = busy("the child is being closed");
      const ChildSa* successor = find_child(child->replaced_by);
      // §2.8.1: a request that crossed our rekey of the same child, which the peer has answered.
      // Its ladder has the Delete come first, then CHILD_SA_NOT_FOUND. A peer that is told to try
      // again before the Delete may take its rekey for void and the old child for the one in use.
      closing.error().silent =
          successor != nullptr && successor->made_by_us && now_ - successor->created < kOwedDelete;
      return closing;
    }
    return child;
  }
  // Both sides want the same child at once: the original initiator's request stands, also when its
  // answer overtook the other's request.
  if (!ike.initiator) return nullptr;
  const auto wanted = choose_child(ike, payloads, nullptr);
  if (!wanted) return nullptr;
  if (ike.exchange && ike.exchange->task.kind == TaskKind::create_child &&
      wanted->child->id == ike.exchange->task.child_id) {
    return busy("we ask for the same child");
  }
  const ChildSa* same = standing_on(ike, wanted->child->id);
  const bool just_made = same != nullptr && same->made_by_us &&
                         now_ - same->created < kCrossingCreation &&
                         same->local_selectors == wanted->selectors.local &&
                         same->remote_selectors == wanted->selectors.remote;
  if (just_made) return busy("we have just made the same child");
  return nullptr;
}

void Core::answer_create_child(IkeSa& ike, const wire::ike::Header& header,
                               const Payloads& payloads, const wire::Endpoint& local,
                               const wire::Endpoint& remote) {
  if (find_selectors(payloads, true) == nullptr) {
    answer_rekey_ike(ike, header, payloads, local, remote);
    return;
  }
  settle_rival_ike(ike);
  const auto permitted = may_create(ike, payloads);
  const auto refuse = [&](const Refusal& refusal) {
    if (refusal.silent) return;
    wire::ike::Notify notify = make_notify(refusal.notify, refusal.data);
    bool settled = false;  // §2.8.1: the late half of a collision that our rekey has settled
    if (refusal.notify == NotifyType::child_sa_not_found) {
      // RFC 7296 §2.25: names the SA that was not found.
      const auto* rekey = find_notify(payloads, NotifyType::rekey_sa);
      notify.protocol = rekey->protocol;
      notify.spi = rekey->spi;
      settled =
          ike.last_replaced != channel::Spi{} &&
          wire::Reader(rekey->spi).u32("SPI") == static_cast<std::uint32_t>(ike.last_replaced);
    }
    respond(ike, header, {notify}, local, remote);
    if (!settled && refusal.failure != Failure::temporary_failure &&
        refusal.failure != Failure::invalid_ke_group) {
      fail(ike.connection, refusal.failure, refusal.detail, Level::warning, refusal.child);
    }
  };
  if (!permitted) {
    refuse(permitted.error());
    return;
  }
  const channel::SaId old = *permitted != nullptr ? (*permitted)->inbound_sa : channel::SaId{};
  const Octets& peer_nonce = find_payload<wire::ike::Nonce>(payloads)->data;
  Octets our_nonce;
  auto answer = answer_child(ike, payloads, *permitted, peer_nonce, our_nonce, false);
  if (!answer) {
    // The peer asks again for what is refused for now.
    if (*permitted != nullptr && answer.error().failure != Failure::temporary_failure) {
      ++counters_.child_rekeys_failed;
      ++state_of(*ike.connection).rekeys[(*permitted)->child_id].failed;
    }
    refuse(answer.error());
    return;
  }
  respond(ike, header, answer->payloads, local, remote);
  if (old != channel::SaId{}) {
    child_rekey_answered(ike, old, *answer->child, lower_of(peer_nonce, our_nonce));
  } else {
    put_in_use(*answer->child, false);
  }
}

void Core::finish_create_child(IkeSa& ike, Exchange exchange, const Payloads& payloads) {
  const bool rekey = exchange.task.kind == TaskKind::rekey_child;
  if (exchange.inbound_spi == channel::Spi{}) {
    // The data plane restarted meanwhile; the IKE SA is about to end, and with it what the peer
    // made.
    finish_commands(exchange.task.commands, false, "the data plane restarted");
    return;
  }
  if (const auto* error = find_error(payloads)) {
    if (asked_for_pair(ike, exchange, error->type)) return;
    const auto group =
        error->type == NotifyType::invalid_ke_payload ? demanded_group(payloads) : std::nullopt;
    const config::Child& config = child_config(exchange.task.child_id);
    const bool group_offered =
        group && std::ranges::any_of(config.esp_proposals, [&](const auto& proposal) {
          return std::ranges::find(proposal.groups, *group) != proposal.groups.end();
        });
    if (group_offered && exchange.task.attempts < kMaxGroupRetries) {
      environment_.spis->give_back(exchange.inbound_spi);
      exchange.task.group = group;
      ++exchange.task.attempts;
      enqueue(ike, std::move(exchange.task), true);
      return;
    }
    child_failed(ike, exchange, refused_by_peer(config, exchange, payloads, *error));
    return;
  }
  const auto* nonce = find_payload<wire::ike::Nonce>(payloads);
  if (nonce == nullptr) {
    child_failed(ike, exchange,
                 {NotifyType::invalid_syntax,
                  Failure::invalid_syntax,
                  "CREATE_CHILD_SA answered without a nonce",
                  {}});
    return;
  }
  const auto child = accept_child(ike, exchange, payloads, {exchange.nonce, nonce->data}, false);
  if (!child) {
    child_failed(ike, exchange, child.error());
    return;
  }
  if (rekey) {
    child_rekey_finished(ike, exchange, **child, lower_of(exchange.nonce, nonce->data));
  } else {
    put_in_use(**child, true);
  }
  finish_commands(exchange.task.commands, true, "");
}

/// RFC 7296 §2.9: after SINGLE_PAIR_REQUIRED "the requestor is expected to respond by requesting an
/// SA for only the specific traffic it is trying to forward". False: there is no such packet.
bool Core::asked_for_pair(IkeSa& ike, Exchange& exchange, NotifyType error) {
  Task& task = exchange.task;
  if (error != NotifyType::single_pair_required || task.kind == TaskKind::rekey_child) return false;
  if (task.single_pair || !trapped_.contains(task.child_id)) return false;
  if (exchange.inbound_spi != channel::Spi{}) environment_.spis->give_back(exchange.inbound_spi);
  exchange.inbound_spi = {};
  enqueue(ike,
          Task{.kind = TaskKind::create_child,
               .child_id = task.child_id,
               .single_pair = true,
               .commands = std::move(task.commands)},
          true);
  return true;
}

void Core::child_failed(IkeSa& ike, Exchange& exchange, const Refusal& refusal) {
  if (exchange.inbound_spi != channel::Spi{}) environment_.spis->give_back(exchange.inbound_spi);
  exchange.inbound_spi = {};
  if (exchange.task.kind == TaskKind::rekey_child) {
    child_rekey_refused(ike, exchange, refusal);
    return;
  }
  if (refusal.failure == Failure::temporary_failure &&
      exchange.task.kind == TaskKind::create_child &&
      exchange.task.attempts < kMaxTemporaryFailures) {
    retry_task(ike, std::move(exchange.task));
    return;
  }
  trapped_.erase(exchange.task.child_id);
  fail(ike.connection, refusal.failure, refusal.detail, Level::warning, exchange.task.child_id);
  finish_commands(exchange.task.commands, false, refusal.detail);
  child_is_not_coming(exchange.task.child_id, refusal.detail);
  plan_retry(state_of(*ike.connection));
}

void Core::child_rekey_refused(IkeSa& ike, Exchange& exchange, const Refusal& refusal) {
  ChildSa* old = find_child(exchange.task.child);
  if (ChildSa* rival = find_child(exchange.rival_child)) {
    // The peer's rekey of the same child went through; ours is not needed any more.
    put_in_use(*rival, false);
    if (old != nullptr && old->state == ChildState::rekeying) old->state = ChildState::replaced;
    finish_commands(exchange.task.commands, true, "");
    return;
  }
  if (old == nullptr || old->state != ChildState::rekeying) {
    finish_commands(exchange.task.commands, old != nullptr, refusal.detail);
    return;
  }
  if (refusal.failure == Failure::peer_deleted) {
    // The peer replaced it and took the successor down before we knew: that ends the child, unless
    // another of its pairs carries the traffic.
    const bool was_live = is_live(*old);
    old->state = ChildState::replaced;
    if (takes_down(old->child_id, was_live)) state_of(*ike.connection).keep.erase(old->child_id);
    finish_commands(exchange.task.commands, false, refusal.detail);
    ensure_soon(state_of(*ike.connection));
    enqueue(ike, Task{.kind = TaskKind::delete_child, .child = old->inbound_sa}, true);
    return;
  }
  old->state = ChildState::installed;
  if (refusal.failure == Failure::temporary_failure &&
      exchange.task.attempts < kMaxTemporaryFailures) {
    retry_task(ike, std::move(exchange.task));
    return;
  }
  ++counters_.child_rekeys_failed;
  ++state_of(*ike.connection).rekeys[old->child_id].failed;
  if (exchange.task.rehearsal && refusal.failure != Failure::child_sa_not_found) {
    rehearsal_refused(ike, *old, refusal);
    finish_commands(exchange.task.commands, false, refusal.detail);
    return;
  }
  fail(ike.connection, refusal.failure, refusal.detail, Level::warning, old->child_id);
  finish_commands(exchange.task.commands, false, refusal.detail);
  if (refusal.failure == Failure::child_sa_not_found) {
    // RFC 7296 §2.25.1: the peer has lost it; so do we, and begin anew.
    const config::ChildId child_id = old->child_id;
    retire(old->inbound_sa, false);
    state_of(*ike.connection).keep.insert(child_id);
    ensure(child_id);
    return;
  }
  Task again{.kind = TaskKind::rekey_child, .child_id = old->child_id, .child = old->inbound_sa};
  again.not_before = now_ + kRefusedRekeyDelay;
  enqueue(ike, std::move(again));
}

void Core::retry_task(IkeSa& ike, Task task) {
  ++task.attempts;
  // Apart from each other: two sides that refuse each other must not come back in step.
  task.not_before = now_ + jittered(2 * kTemporaryFailureDelay, 0.5);
  enqueue(ike, std::move(task));
}

}  // namespace culvert::ike
