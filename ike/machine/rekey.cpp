// Replacing the IKE SA itself (RFC 7296 §1.3.2, §2.8): its children move along; and both sides
// doing so at once (§2.8.2): of the two results the one made with the lowest of the four nonces
// goes, and whoever made it deletes it.
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

using wire::ike::ExchangeType;
using wire::ike::NotifyType;

/// An IKE SA that its maker should delete and does not.
constexpr std::chrono::seconds kAbandonedLife{120};
/// Of one peer's IKE SAs that were rekeyed and not deleted. A peer that deletes them has one.
constexpr std::ptrdiff_t kMostRekeyed = 16;

Octets spi_octets(std::uint64_t spi) {
  Octets octets(8);
  wire::Writer(octets).u64(spi);
  return octets;
}

/// RFC 7296 §2.25.2: children in the making or going would be lost between the two IKE SAs.
std::optional<std::string> why_not_rekey_now(const IkeSa& ike) {
  if (ike.state != IkeState::established || ike.redundant) return "the IKE SA is ending";
  if (!ike.exchange) return std::nullopt;
  switch (ike.exchange->task.kind) {
    case TaskKind::create_child:
    case TaskKind::rekey_child:
    case TaskKind::delete_child:
    case TaskKind::delete_ike:
      return "another exchange is on its way";
    case TaskKind::rekey_ike:
    case TaskKind::init:
    case TaskKind::auth:
    case TaskKind::liveness:
    case TaskKind::update_addresses:
    case TaskKind::check_route:
    case TaskKind::await_move:
      break;
  }
  if (ike.exchange->rival_ike != 0) return "already rekeyed";
  return std::nullopt;
}

bool asks_about_addresses(TaskKind kind) {
  return kind == TaskKind::update_addresses || kind == TaskKind::check_route;
}

/// Where both are may have changed since the successor was made (RFC 4555 §3.5).
void hand_on_addresses(const IkeSa& old, IkeSa& successor) {
  successor.local = old.local;
  successor.remote = old.remote;
  successor.peer_addresses = old.peer_addresses;
  successor.checked_remote = old.checked_remote;
  successor.nat_local = old.nat_local;
  successor.nat_remote = old.nat_remote;
  successor.encapsulate = old.encapsulate;
}

struct RekeyTerms {
  ChosenIke chosen;
  std::uint64_t peer_spi = 0;
};
/// What the peer's offer and our proposals have in common, with the peer's SPI and the group it
/// used.
std::expected<RekeyTerms, Refusal> choose_rekey_terms(const IkeSa& ike, const Payloads& payloads) {
  const auto& offer = *find_payload<wire::ike::SecurityAssociation>(payloads);
  const auto& peer_value = *find_payload<wire::ike::KeyExchange>(payloads);
  auto chosen = choose_ike(ike.connection->proposals, offer, peer_value.group);
  const auto peer_spi = chosen ? wire::Reader(chosen->peer_spi).u64("SPI")
                               : wire::Parsed<std::uint64_t>(std::uint64_t{0});
  if (!chosen || !peer_spi || *peer_spi == 0) {
    return std::unexpected(Refusal{NotifyType::no_proposal_chosen,
                                   Failure::no_ike_proposal_chosen,
                                   compare(ike.connection->proposals, offer),
                                   {}});
  }
  const auto group = static_cast<std::uint16_t>(chosen->suite.group);
  if (group != peer_value.group) {
    Octets demanded(2);
    wire::Writer(demanded).u16(group);
    return std::unexpected(
        Refusal{NotifyType::invalid_ke_payload, Failure::invalid_ke_group, "", demanded});
  }
  return RekeyTerms{std::move(*chosen), *peer_spi};
}

}  // namespace

void Core::start_rekey_ike(IkeSa& ike, Task task) {
  Exchange exchange;
  exchange.task = std::move(task);
  exchange.nonce = draw(kNonceBytes);
  do exchange.new_ike_spi = draw_number();
  while (exchange.new_ike_spi == 0 || ike_sas_.contains(exchange.new_ike_spi));
  auto made = crypto::ike::generate_key_exchange(exchange.task.group.value_or(ike.suite.group),
                                                 *environment_.random);
  if (!made) {
    finish_commands(exchange.task.commands, false, made.error().what);
    return;
  }
  exchange.key_exchange = std::move(*made);
  Payloads payloads;
  payloads.emplace_back(offer_ike(ike.connection->proposals, spi_octets(exchange.new_ike_spi)));
  payloads.emplace_back(wire::ike::Nonce{exchange.nonce});
  payloads.emplace_back(
      wire::ike::KeyExchange{static_cast<std::uint16_t>(exchange.key_exchange->group()),
                             exchange.key_exchange->public_value()});
  ike.exchange = std::move(exchange);
  send_request(ike, ExchangeType::create_child_sa, payloads);
}

IkeSa& Core::successor_of(const IkeSa& old, std::uint64_t local_spi, std::uint64_t remote_spi,
                          bool initiator) {
  auto& slot = ike_sas_[local_spi];
  slot = std::make_unique<IkeSa>();
  IkeSa& ike = *slot;
  touched_.insert(local_spi);
  ike.local_spi = local_spi;
  ike.remote_spi = remote_spi;
  ike.initiator = initiator;
  ike.connection = old.connection;
  ike.local = old.local;
  ike.remote = old.remote;
  ike.local_id = old.local_id;
  ike.remote_id = old.remote_id;
  peers_.file(ike);
  ike.local_auth = old.local_auth;
  ike.local_method = old.local_method;
  ike.remote_auth = old.remote_auth;
  ike.remote_certificate = old.remote_certificate;
  ike.remote_certificate_expires = old.remote_certificate_expires;
  ike.peer_certificates = old.peer_certificates;
  ike.nat_local = old.nat_local;
  ike.nat_remote = old.nat_remote;
  ike.nat_detection = old.nat_detection;
  ike.encapsulate = old.encapsulate;
  ike.fragmentation = old.fragmentation;
  ike.mobike = old.mobike;
  ike.post_quantum = old.post_quantum;
  ike.moves = old.moves;
  ike.peer_addresses = old.peer_addresses;
  ike.checked_remote = old.checked_remote;
  ike.reauthenticate_at = old.reauthenticate_at;
  ike.outdated = old.outdated;  // the authentication is still the old one's
  ike.made_by_rekey = true;
  ike.created_rank = next_rank_++;
  ike.begun_rank = old.begun_rank;
  ike.established_rank = old.established_rank;
  ike.first_nonce = old.first_nonce;
  ike.begun_by_us = old.begun_by_us;
  ike.state = IkeState::established;
  ike.created = ike.established = ike.last_heard = ike.last_sent = now_;
  return ike;
}

/// The answer's payloads; the successor stands when it returns.
std::expected<Payloads, Refusal> Core::accept_rekey_ike(IkeSa& ike, const Payloads& payloads) {
  // 1. is it the time  2. suite  3. key exchange and keys  4. the successor, or a rival  5. answer
  if (auto why = why_not_rekey_now(ike)) {
    return std::unexpected(
        Refusal{NotifyType::temporary_failure, Failure::temporary_failure, std::move(*why), {}});
  }
  const auto lingers = [](const IkeSa* one) { return one->state == IkeState::rekeyed; };
  if (std::ranges::count_if(peers_.with_peer_of(ike), lingers) >= kMostRekeyed) {
    return std::unexpected(Refusal{NotifyType::temporary_failure,
                                   Failure::temporary_failure,
                                   "the peer deletes none of the IKE SAs that it has rekeyed",
                                   {}});
  }
  auto terms = choose_rekey_terms(ike, payloads);
  if (!terms) return std::unexpected(terms.error());
  const auto& peer_nonce = find_payload<wire::ike::Nonce>(payloads)->data;
  auto ours = crypto::ike::generate_key_exchange(terms->chosen.suite.group, *environment_.random);
  const auto secret =
      ours ? (*ours)->shared_secret(find_payload<wire::ike::KeyExchange>(payloads)->data)
           : crypto::ike::Result<crypto::SecretBytes>(std::unexpected(ours.error()));
  if (!secret) {
    return std::unexpected(
        Refusal{NotifyType::invalid_syntax, Failure::invalid_syntax, secret.error().what, {}});
  }
  std::uint64_t spi = draw_number();
  while (spi == 0 || ike_sas_.contains(spi)) spi = draw_number();
  const Octets nonce = draw(kNonceBytes);
  auto keys =
      derive_rekeyed_keys({terms->chosen.suite, terms->peer_spi, spi, peer_nonce, nonce, false},
                          ike.suite.prf, ike.keys.derive.view(), secret->view());
  if (!keys) {
    return std::unexpected(
        Refusal{NotifyType::invalid_syntax, Failure::invalid_syntax, keys.error().what, {}});
  }
  IkeSa& successor = successor_of(ike, spi, terms->peer_spi, false);
  successor.suite = terms->chosen.suite;
  successor.group = terms->chosen.suite.group;
  successor.keys = std::move(*keys);
  successor.lower_nonce = lower_of(peer_nonce, nonce);
  if (ike.exchange && ike.exchange->task.kind == TaskKind::rekey_ike) {
    ike.exchange->rival_ike = spi;
    ike.exchange->rival_nonce = successor.lower_nonce;
  } else {
    ++counters_.ike_rekeys_ok;
    move_to_successor(ike, successor);
  }
  wire::ike::SaProposal proposal = terms->chosen.answer;
  proposal.spi = spi_octets(spi);
  Payloads answer;
  answer.emplace_back(wire::ike::SecurityAssociation{{std::move(proposal)}});
  answer.emplace_back(wire::ike::Nonce{nonce});
  answer.emplace_back(wire::ike::KeyExchange{static_cast<std::uint16_t>(terms->chosen.suite.group),
                                             (*ours)->public_value()});
  return answer;
}

void Core::answer_rekey_ike(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                            const wire::Endpoint& local, const wire::Endpoint& remote) {
  settle_rival_ike(ike);
  auto answer = accept_rekey_ike(ike, payloads);
  if (!answer) {
    const Refusal& refusal = answer.error();
    respond(ike, header, {make_notify(refusal.notify, refusal.data)}, local, remote);
    if (refusal.failure == Failure::temporary_failure ||
        refusal.failure == Failure::invalid_ke_group) {
      return;
    }
    ++counters_.ike_rekeys_failed;
    fail(ike.connection, refusal.failure, refusal.detail, Level::warning, Attempt::ike_rekey);
    return;
  }
  respond(ike, header, *answer, local, remote);
}

void Core::move_to_successor(IkeSa& old, IkeSa& successor) {
  touch(old);
  touch(successor);
  if (successor.state != IkeState::established) {
    // The peer, which made the successor and already uses it, has ended it with all its children.
    ConnectionState& state = state_of(*old.connection);
    for (const channel::SaId child : old.children) state.keep.erase(children_.at(child).child_id);
    report(Level::info, "ike_sa_deleted",
           {{"connection", old.connection->name},
            {"by", "peer"},
            {"initiator_spi", spi_text(old.initiator_spi())}});
    close(old, false, "the peer deleted the IKE SA");
    ensure_soon(state);
    return;
  }
  hand_on_addresses(old, successor);
  for (const channel::SaId child : old.children) {
    children_.at(child).ike_spi = successor.local_spi;
    children_.at(child).proof = Proof::none;
    successor.children.push_back(child);
  }
  old.children.clear();
  if (old.exchange && asks_about_addresses(old.exchange->task.kind)) {
    // RFC 4555 §3.7: of the old IKE SA's answer nobody takes notice any more.
    successor.queue.push_front(old.exchange->task);
    timers_.arm(now_, TimerKind::start_tasks, successor.local_spi);
  }
  for (Task& task : old.queue) {
    if (task.kind == TaskKind::rekey_ike) {
      finish_commands(task.commands, true, "");
    } else {
      // Its timer named the old IKE SA.
      if (task.not_before > now_) {
        timers_.arm(task.not_before, TimerKind::start_tasks, successor.local_spi);
      }
      successor.queue.push_back(std::move(task));
    }
  }
  old.queue.clear();
  old.state = IkeState::rekeyed;
  old.successor_spi = successor.local_spi;
  succeeded(successor, Attempt::ike_rekey);
  // The initiator of the rekey deletes it; should that never come, it must not stay for ever.
  old.forget_at = now_ + kAbandonedLife;
  timers_.arm(old.forget_at, TimerKind::forget, old.local_spi);
  report(Level::info, "ike_sa_rekeyed",
         {{"connection", old.connection->name},
          {"role", successor.initiator ? "initiator" : "responder"},
          {"initiator_spi", spi_text(successor.initiator_spi())},
          {"responder_spi", spi_text(successor.responder_spi())},
          {"suite", successor.suite.name()}});
  for (IkeSa* other : peers_.with_peer_of(successor)) {
    if (other->lost_to == old.local_spi) lose_to(*other, successor.local_spi);
  }
  // Lost against another while it was being rekeyed: its line has.
  if (old.redundant) lose_to(successor, old.lost_to);
  arm_established(successor);
  arm_reauthentication(successor);
  if (successor.outdated && !successor.redundant) renew_outdated(successor);
}

std::expected<IkeSa*, Refusal> Core::make_rekeyed(IkeSa& ike, Exchange& exchange,
                                                  const Payloads& payloads) {
  const auto refuse = [](Failure failure, std::string detail) {
    return std::unexpected(Refusal{NotifyType::no_proposal_chosen, failure, std::move(detail), {}});
  };
  const auto* answer = find_payload<wire::ike::SecurityAssociation>(payloads);
  const auto* nonce = find_payload<wire::ike::Nonce>(payloads);
  const auto* peer_value = find_payload<wire::ike::KeyExchange>(payloads);
  if (answer == nullptr || nonce == nullptr || peer_value == nullptr) {
    return refuse(Failure::invalid_syntax, "the answer lacks SA, Nr or KEr");
  }
  const auto& proposals = exchange.asked_ike ? *exchange.asked_ike : ike.connection->proposals;
  const auto chosen = choose_ike(proposals, *answer, peer_value->group);
  const auto peer_spi = chosen ? wire::Reader(chosen->peer_spi).u64("SPI")
                               : wire::Parsed<std::uint64_t>(std::uint64_t{0});
  if (!chosen || !is_an_answer(*answer) || !peer_spi || *peer_spi == 0 ||
      chosen->suite.group != exchange.key_exchange->group() ||
      peer_value->group != static_cast<std::uint16_t>(chosen->suite.group)) {
    return refuse(Failure::no_ike_proposal_chosen,
                  "ours: " + describe(proposals) + "; the peer chose " + describe(*answer));
  }
  const auto secret = exchange.key_exchange->shared_secret(peer_value->data);
  if (!secret) return refuse(Failure::invalid_syntax, secret.error().what);
  auto keys = derive_rekeyed_keys(
      {chosen->suite, exchange.new_ike_spi, *peer_spi, exchange.nonce, nonce->data, true},
      ike.suite.prf, ike.keys.derive.view(), secret->view());
  if (!keys) return refuse(Failure::invalid_syntax, keys.error().what);
  IkeSa& successor = successor_of(ike, exchange.new_ike_spi, *peer_spi, true);
  successor.suite = chosen->suite;
  successor.group = chosen->suite.group;
  successor.keys = std::move(*keys);
  successor.lower_nonce = lower_of(exchange.nonce, nonce->data);
  return &successor;
}

void Core::finish_rekey_ike(IkeSa& ike, Exchange exchange, const Payloads& payloads) {
  // 1. refused: another group, later, or the peer's own  2. ours  3. which of two stays
  IkeSa* rival = exchange.rival_ike != 0 ? find_ike(exchange.rival_ike) : nullptr;
  if (const auto* error = find_error(payloads)) {
    const auto group =
        error->type == NotifyType::invalid_ke_payload ? demanded_group(payloads) : std::nullopt;
    if (group && rival == nullptr && exchange.task.attempts < 2) {
      exchange.task.group = group;
      ++exchange.task.attempts;
      enqueue(ike, std::move(exchange.task), true);
      return;
    }
    ike_rekey_refused(ike, exchange, rival,
                      {error->type,
                       failure_of(error->type, false),
                       "ours: " + describe(ike.connection->proposals) + "; the peer answers " +
                           wire::ike::to_string(error->type),
                       {}});
    return;
  }
  const auto made = make_rekeyed(ike, exchange, payloads);
  if (!made) {
    ike_rekey_refused(ike, exchange, rival, made.error());
    return;
  }
  IkeSa& successor = **made;
  if (rival != nullptr &&
      (ike.state != IkeState::established || successor.lower_nonce < exchange.rival_nonce)) {
    // §2.8.2: ours has the lowest nonce: it goes again.
    take_rival_ike(ike, exchange, *rival);
    successor.redundant = true;
    enqueue(successor, Task{.kind = TaskKind::delete_ike}, true);
    return;
  }
  if (rival != nullptr) {
    rival->redundant = true;
    rival->forget_at = now_ + kAbandonedLife;
    timers_.arm(rival->forget_at, TimerKind::forget, rival->local_spi);
  }
  ++counters_.ike_rekeys_ok;
  // RFC 7296 §2.25.2: a peer that waited for a child's answer would have said TEMPORARY_FAILURE.
  answers_arrived(ike, true);
  move_to_successor(ike, successor);
  finish_commands(exchange.task.commands, true, "");
  enqueue(ike, Task{.kind = TaskKind::delete_ike}, true);
  if (exchange.asked_ike) renew_suite(successor);
}

/// Our rekey is not needed: the peer's stands. It deletes the old IKE SA.
void Core::take_rival_ike(IkeSa& ike, const Exchange& exchange, IkeSa& rival) {
  if (ike.state == IkeState::established) move_to_successor(ike, rival);
  finish_commands(exchange.task.commands, true, "");
}

void Core::ike_rekey_refused(IkeSa& ike, Exchange& exchange, IkeSa* rival, const Refusal& refusal) {
  if (rival != nullptr) {
    take_rival_ike(ike, exchange, *rival);
    return;
  }
  if (refusal.failure == Failure::temporary_failure &&
      exchange.task.attempts < kMaxTemporaryFailures) {
    retry_task(ike, std::move(exchange.task));
    return;
  }
  ++counters_.ike_rekeys_failed;
  fail(ike.connection, refusal.failure, refusal.detail, Level::warning, Attempt::ike_rekey);
  finish_commands(exchange.task.commands, false, refusal.detail);
  Task again{.kind = TaskKind::rekey_ike};
  again.not_before = now_ + kRefusedRekeyDelay;
  enqueue(ike, std::move(again));
}

/// The peer uses the successor that it made while our own rekey is on its way: it has chosen it.
void Core::settle_rival_ike(IkeSa& used) {
  for (IkeSa* old : peers_.with_peer_of(used)) {
    if (!old->exchange || old->exchange->rival_ike != used.local_spi) continue;
    if (old->state == IkeState::established) move_to_successor(*old, used);
    return;
  }
}

}  // namespace culvert::ike
