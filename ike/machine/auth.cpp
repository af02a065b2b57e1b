// IKE_AUTH (RFC 7296 §1.2, §2.15): identities, proofs, the first child.
#include <algorithm>
#include <cassert>

#include "ike/machine/core.hpp"
#include "ike/machine/held_auth.hpp"

namespace culvert::ike {
namespace {

using wire::ike::ExchangeType;
using wire::ike::NotifyType;

/// IKE SA: hard lifetime over rekey_time.
constexpr double kHardLifetimeFactor = 1.1;

const wire::ike::Identification* find_id(const Payloads& payloads, bool initiator) {
  for (const auto& payload : payloads) {
    const auto* id = std::get_if<wire::ike::Identification>(&payload);
    if (id != nullptr && id->initiator == initiator) return id;
  }
  return nullptr;
}
/// Without remote.id the address is the identity; without both, the key decides alone.
bool expects(const config::Peer& peer, const config::Identity& presented) {
  if (peer.id) return *peer.id == presented;
  if (!peer.id_pattern.empty()) return config::is_identity_of(peer.id_pattern, presented);
  return !peer.address || identity_of(peer, *peer.address) == presented;
}
std::string expectation(const config::Peer& peer) {
  if (peer.id) return identity_text(*peer.id);
  if (!peer.id_pattern.empty()) return peer.id_pattern;
  return peer.address ? peer.address->to_string() : "%any";
}

/// IKE_AUTH was answered without an identity and a proof: by an error, as a rule.
Refusal without_proof(const IkeSa& ike, const wire::ike::Notify* error) {
  Refusal refusal{{}, Failure::invalid_syntax, {}, {}};
  std::string answer = "without an identity";
  if (error != nullptr) {
    refusal.failure = error->type == NotifyType::authentication_failed
                          ? refused_proof(ike.local_method)
                          : failure_of(error->type, false);
    answer = wire::ike::to_string(error->type);
  }
  if (refusal.failure == Failure::signature_hash_mismatch) {
    answer += ", and negotiates no hash for it (RFC 7427)";
  }
  refusal.detail = "ours: local.id " + identity_text(ike.local_id) + ", remote.id " +
                   expectation(ike.connection->remote) + ", auth " + ike.local_auth +
                   "; the peer answers " + answer;
  return refusal;
}

}  // namespace

void Core::send_auth(IkeSa& ike) {
  ike.state = IkeState::auth_sent;
  ike.local_id = identity_of(ike.connection->local, ike.local.address);
  const config::Peer& peer = ike.connection->remote;
  const bool known = peer.id || (peer.address && peer.id_pattern.empty());
  ike.remote_id = known ? identity_of(peer, ike.remote.address) : config::Identity{};
  const auto proof = initiators_proof(ike);
  if (!proof) {
    give_up_initiation(ike, proof.error().failure, proof.error().detail);
    return;
  }
  Exchange exchange;
  exchange.task.kind = TaskKind::auth;
  exchange.task.child_id = ike.wanted.front();
  // RFC 6023 §4: the children come one by one, each with its own key exchange.
  const auto child = ike.childless ? std::expected<Payloads, Refusal>(Payloads{})
                                   : offer_child(ike, exchange, true);
  if (!child) {
    give_up_initiation(ike, child.error().failure, child.error().detail);
    return;
  }
  Payloads payloads;
  payloads.emplace_back(to_payload(ike.local_id, true));
  request_certificates(payloads, {ike.connection});
  if (peer.id) payloads.emplace_back(to_payload(ike.remote_id, false));
  payloads.insert(payloads.end(), proof->begin(), proof->end());
  if (only_one(ike)) payloads.emplace_back(make_notify(NotifyType::initial_contact));
  add_mobike(payloads, ike);
  payloads.insert(payloads.end(), child->begin(), child->end());
  ike.exchange = std::move(exchange);
  send_request(ike, ExchangeType::ike_auth, payloads);
}

std::expected<void, Refusal> Core::authenticate_peer(IkeSa& ike, const Payloads& payloads) {
  const auto& peer_id = *find_id(payloads, true);
  const auto* asked_id = find_id(payloads, false);
  ike.remote_id = identity_from(peer_id);
  const config::Connection* matching = nullptr;
  for (const config::Connection* candidate : ike.candidates) {
    if (!expects(candidate->remote, ike.remote_id)) continue;
    const config::Identity ours = identity_of(candidate->local, ike.local.address);
    if (asked_id != nullptr && identity_from(*asked_id) != ours) continue;
    // Who is expected by name comes before who is one of many.
    if (matching != nullptr && (matching->remote.id || !candidate->remote.id)) continue;
    matching = candidate;
  }
  if (matching == nullptr) {
    const config::Connection& first = *ike.candidates.front();
    return std::unexpected(Refusal{
        NotifyType::authentication_failed,
        Failure::identity_mismatch,
        "ours: remote.id " + expectation(first.remote) + ", local.id " +
            identity_text(identity_of(first.local, ike.local.address)) +
            "; the peer's: " + identity_text(ike.remote_id) +
            (asked_id != nullptr ? ", asking for " + identity_text(identity_from(*asked_id)) : ""),
        {}});
  }
  ike.connection = matching;
  peers_.file(ike);
  ike.local_id = identity_of(matching->local, ike.local.address);
  const auto settled = settle_post_quantum(ike, payloads);
  if (!settled) return std::unexpected(settled.error());
  return verify_proof(ike, peer_id, *settled);
}

void Core::count_refusal(Failure reason) {
  assert(info(reason).is_authentication);
  ++counters_.authentication_failures;
  ++counters_.authentication_failures_by_reason[reason];
}

void Core::answer_auth(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                       const wire::Endpoint& local, const wire::Endpoint& remote) {
  // 1. who is it  2. our proof  3. others with this peer  4. the child, inbound SA first  5. answer
  if (ike.held) return;  // repeated while it waits
  auto verified = authenticate_peer(ike, payloads);
  std::expected<Payloads, Refusal> proof = std::unexpected(Refusal{});
  if (verified) {
    ike.statuses_requested = requests_statuses(payloads);
    proof = our_proof(ike);
    if (!proof) verified = std::unexpected(proof.error());
  }
  if (!verified && !verified.error().awaits.empty()) {
    HeldAuth(*this).hold(ike, {header, payloads, local, remote, verified.error().awaits});
    return;
  }
  if (!verified) {
    count_refusal(verified.error().failure);
    fail(ike.connection, verified.error().failure, verified.error().detail, Level::warning,
         Attempt::knock);
    respond(ike, header, {make_notify(NotifyType::authentication_failed)}, local, remote);
    close(ike, false, verified.error().detail);
    return;
  }
  set_established(ike);
  learn_mobike(ike, payloads);
  settle_with_others(ike, find_notify(payloads, NotifyType::initial_contact) != nullptr);

  Payloads answer;
  answer.emplace_back(to_payload(ike.local_id, false));
  answer.insert(answer.end(), proof->begin(), proof->end());
  // RFC 8784 §3: without data; it says that the key was used.
  if (ike.post_quantum) answer.emplace_back(make_notify(NotifyType::ppk_identity));
  add_mobike(answer, ike);
  // RFC 6023 §4: a request without SA asks for no child.
  const bool childless = find_payload<wire::ike::SecurityAssociation>(payloads) == nullptr;
  auto child = childless ? answer_childless(ike)
                         : answer_child(ike, payloads, nullptr, ike.initiator_nonce,
                                        ike.responder_nonce, true);
  if (child) {
    answer.insert(answer.end(), child->payloads.begin(), child->payloads.end());
  } else {
    // RFC 7296 §1.3.1: a child that fails leaves the IKE SA standing.
    fail(ike.connection, child.error().failure, child.error().detail, Level::warning,
         child.error().child);
    answer.emplace_back(make_notify(child.error().notify, child.error().data));
  }
  respond(ike, header, answer, local, remote);
  if (child && child->child != nullptr) {
    put_in_use(*child->child, false);
    arm_rehearsal(*child->child);
    ChildSa& made = *child->child;
    if (made.proof != Proof::none) {
      made.proof = Proof::message;
      made.switch_at = now_ + tuning_.proof_delay;
      timers_.arm(made.switch_at, TimerKind::switch_outbound,
                  static_cast<std::uint64_t>(made.inbound_sa));
    }
  }
  arm_established(ike);
  arm_reauthentication(ike);
}

/// Nothing to add, unless the connection insists on a first child.
std::expected<Core::Answer, Refusal> Core::answer_childless(const IkeSa& ike) {
  if (ike.connection->childless != config::Childless::never) return Answer{};
  return std::unexpected(Refusal{NotifyType::invalid_syntax,
                                 Failure::no_additional_sas,
                                 "ours: childless: never; the peer's: it asks for no first child",
                                 {}});
}

/// We end what we began and asked IKE_AUTH for. RFC 7296 §2.21.2: the responder believes that the
/// IKE SA stands, or will when our request arrives; it has to hear that it does not. Said once:
/// nobody waits for the answer.
void Core::tell_responder(IkeSa& ike, Payloads why) {
  if (ike.state != IkeState::auth_sent) return;
  why.emplace_back(wire::ike::Delete{wire::ike::Protocol::ike, {}});
  send(ike, ike.local, ike.remote,
       seal(ike, header_for(ike, ExchangeType::informational, false, ike.window.next_request()),
            why));
}

void Core::finish_auth(IkeSa& ike, const Payloads& payloads) {
  const auto* id = find_id(payloads, false);
  const auto* proof = find_payload<wire::ike::Authentication>(payloads);
  if (id == nullptr || proof == nullptr) {
    const auto* error = find_error(payloads);
    if (error == nullptr) tell_responder(ike, {make_notify(NotifyType::invalid_syntax)});
    const Refusal refused = without_proof(ike, error);
    give_up_initiation(ike, refused.failure, refused.detail);
    return;
  }
  const auto verified = authenticate_responder(ike, *id, payloads);
  if (!verified && !verified.error().awaits.empty()) {
    HeldAuth(*this).hold(ike, {{}, payloads, ike.local, ike.remote, verified.error().awaits});
    return;
  }
  if (!verified) {
    tell_responder(ike, {make_notify(NotifyType::authentication_failed)});
    give_up_initiation(ike, verified.error().failure, verified.error().detail);
    return;
  }
  Exchange exchange = std::move(*ike.exchange);
  ike.exchange.reset();
  set_established(ike);
  learn_mobike(ike, payloads);
  settle_with_others(ike, false);
  // Without a first child all follow: see arm_established.
  if (!ike.childless) first_child_answered(ike, exchange, payloads);
  arm_established(ike);
  arm_reauthentication(ike);
}

std::expected<void, Refusal> Core::authenticate_responder(IkeSa& ike,
                                                          const wire::ike::Identification& id,
                                                          const Payloads& payloads) {
  const config::Identity presented = identity_from(id);
  if (!expects(ike.connection->remote, presented)) {
    return std::unexpected(Refusal{NotifyType::authentication_failed,
                                   Failure::identity_mismatch,
                                   "ours: remote.id " + expectation(ike.connection->remote) +
                                       "; the peer's: " + identity_text(presented),
                                   {}});
  }
  ike.remote_id = presented;
  peers_.file(ike);
  if (auto learnt = learn_post_quantum(ike, payloads); !learnt) return learnt;
  return verify_proof(ike, id, payloads);
}

/// RFC 7296 §1.3.1: whether the child came up or not, the IKE SA stands.
void Core::first_child_answered(IkeSa& ike, Exchange& exchange, const Payloads& payloads) {
  if (const auto* error = find_error(payloads)) {
    if (asked_for_pair(ike, exchange, error->type)) return;
    child_failed(ike, exchange,
                 {error->type,
                  failure_of(error->type, true),
                  terms_text(child_config(exchange.task.child_id)) + "; the peer answers " +
                      wire::ike::to_string(error->type),
                  {}});
    return;
  }
  const auto child =
      accept_child(ike, exchange, payloads, {ike.initiator_nonce, ike.responder_nonce}, true);
  if (!child) {
    child_failed(ike, exchange, child.error());
    return;
  }
  put_in_use(**child, true);
  arm_rehearsal(**child);
}

void Core::set_established(IkeSa& ike) {
  ike.state = IkeState::established;
  ike.plain_keys = {};
  half_open_.erase(ike.local_spi);
  ike.established = now_;
  ike.established_rank = next_rank_++;
  ike.begun_rank = ike.created_rank;
  ike.begun_by_us = ike.initiator;
  ike.last_heard = now_;
  ConnectionState& state = state_of(*ike.connection);
  state.backoff = tuning_.initiate_backoff_first;
  clear_failure(state);
  report(Level::info, "ike_sa_established",
         {{"connection", ike.connection->name},
          {"role", ike.initiator ? "initiator" : "responder"},
          {"initiator_spi", spi_text(ike.initiator_spi())},
          {"responder_spi", spi_text(ike.responder_spi())},
          {"local", ike.local.to_string()},
          {"remote", ike.remote.to_string()},
          {"local_id", ike.local_id.text},
          {"remote_id", ike.remote_id.text},
          {"local_auth", ike.local_auth},
          {"remote_auth", ike.remote_auth},
          {"suite", ike.suite.name()}});
  note_nat_traversal(ike);
}

/// How long it lives and when it is asked for a sign of life.
void Core::arm_lifetime(IkeSa& ike) {
  const auto rekey_time = ike.connection->rekey_time;
  if (rekey_time.count() > 0) {
    ike.rekey_at = ike.created + jittered(rekey_time, tuning_.rekey_jitter);
    ike.expire_at =
        ike.created + std::chrono::duration_cast<Instant>(rekey_time * kHardLifetimeFactor);
    timers_.arm(ike.rekey_at, TimerKind::rekey_ike, ike.local_spi);
    timers_.arm(ike.expire_at, TimerKind::expire_ike, ike.local_spi);
  }
  if (ike.connection->dpd_delay.count() > 0) {
    ike.liveness_at = now_ + ike.connection->dpd_delay;
    timers_.arm(ike.liveness_at, TimerKind::liveness, ike.local_spi);
  }
}

/// Timers and waiting work of an IKE SA that stands; also after a rekey.
void Core::arm_established(IkeSa& ike) {
  ike.initiator_message = {};
  ike.responder_message = {};
  ike.candidates = {};
  arm_lifetime(ike);
  arm_keepalive(ike);
  watch_certificates(ike);
  ConnectionState& state = state_of(*ike.connection);
  if (!ike.made_by_rekey && ike.initiator && ike.usable()) {
    for (std::size_t i = ike.childless ? 0 : 1; i < ike.wanted.size(); ++i) ensure(ike.wanted[i]);
    for (const config::Child& child : ike.connection->children) {
      const bool tried = std::ranges::find(ike.wanted, child.id) != ike.wanted.end();
      if (wants_up(state, child) && !tried) ensure(child.id);
    }
  } else {
    // The initiator goes first: both asking at once would only collide.
    ensure_soon(state);
  }
  pump(ike);
}

}  // namespace culvert::ike
