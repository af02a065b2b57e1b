// Where everything comes in: datagrams, completions and timers find their IKE SA and exchange here.
#include <algorithm>
#include <cassert>

#include "ike/machine/core.hpp"
#include "ike/machine/held_auth.hpp"

namespace culvert::ike {

using wire::ike::ExchangeType;
using wire::ike::NotifyType;

std::unique_ptr<Machine> Machine::create(const Environment& environment, const Tuning& tuning) {
  return std::make_unique<Core>(environment, tuning);
}

Core::Core(const Environment& environment, const Tuning& tuning)
    : environment_(environment), tuning_(tuning) {
  assert(environment.config != nullptr && environment.random != nullptr);
  assert(environment.spis != nullptr && environment.secrets != nullptr);
  for (const config::Connection& connection : environment.config->connections) {
    ConnectionState state;
    state.connection = &connection;
    state.backoff = tuning.initiate_backoff_first;
    connections_.push_back(std::move(state));
  }
  connection_index_.rebuild(connections_);
  // Names must not meet those of an earlier life of the key daemon that the data plane still holds.
  next_sa_ = draw_number();
  // Those the data plane refuses.
  while (channel::is_manual_id(channel::SaId{next_sa_})) next_sa_ = draw_number();
  next_policy_ = draw_number();
}

void Core::begin(Instant now, std::vector<Action>& actions) {
  now_ = now;
  actions_ = &actions;
}

void Core::on_datagram(const wire::Endpoint& local, const wire::Endpoint& remote, wire::Bytes bytes,
                       Instant now, std::vector<Action>& actions) {
  begin(now, actions);
  const auto message = wire::ike::parse_message(bytes);
  if (!message) {
    ++counters_.invalid_messages;
    on_unreadable(message.error(), local, remote);
    return;
  }
  const wire::ike::Header& header = message->header;
  if (header.exchange == ExchangeType::ike_sa_init && !header.response) {
    if (header.responder_spi == 0 && header.from_initiator && header.message_id == 0) {
      on_init_request(*message, bytes, local, remote);
    } else {
      ++counters_.invalid_messages;
    }
    return;
  }
  // RFC 7296 §2.6: the SPI that the receiver chose names the IKE SA.
  IkeSa* ike = find_ike(header.from_initiator ? header.responder_spi : header.initiator_spi);
  if (ike == nullptr || header.from_initiator == ike->initiator) {
    ++counters_.invalid_messages;
    return;
  }
  if (header.exchange == ExchangeType::ike_sa_init) {
    on_init_response(*ike, *message, bytes);
    return;
  }
  const std::uint64_t peer_spi =
      header.from_initiator ? header.initiator_spi : header.responder_spi;
  if (peer_spi != ike->remote_spi || ike->keys.inbound == nullptr) {
    ++counters_.invalid_messages;
    return;
  }
  on_protected(*ike, *message, bytes, local, remote);
}

void Core::on_unreadable(const wire::ike::MessageError& error, const wire::Endpoint& local,
                         const wire::Endpoint& remote) {
  if (!error.header || error.header->response) return;
  wire::ike::Header header = *error.header;
  if (header.major_version == 1) {
    on_version_1(header, local, remote);
    return;
  }
  // RFC 7296 §2.5: a higher major version gets the highest we have; an unknown critical payload its
  // own notify. What is broken otherwise is dropped: it is not authenticated.
  const bool version =
      error.notify == NotifyType::invalid_major_version && header.major_version > 2;
  const bool critical = error.notify == NotifyType::unsupported_critical_payload &&
                        header.exchange == ExchangeType::ike_sa_init;
  if (!version && !critical) return;
  if (version) {
    fail_stranger(Failure::unsupported_version,
                  "ours: IKEv2; the peer at " + remote.to_string() + " speaks version " +
                      std::to_string(static_cast<unsigned>(header.major_version)),
                  local, remote);
  }
  header.major_version = 2;
  header.minor_version = 0;
  refuse_init(header, {error.notify, Failure::unsupported_version, "", {}}, local, remote);
}

void Core::peer_seen_at(IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote) {
  if (local.address == ike.local.address) {
    // It has moved with us, whatever it said of that (RFC 4555 §3.6).
    std::erase_if(ike.queue, [](const Task& task) { return task.kind == TaskKind::await_move; });
  }
  if (ike.local == local && ike.remote == remote) return;
  // IKE_AUTH moves to port 4500 when there is a NAT (RFC 7296 §2.23). Later, only a peer behind a
  // NAT may change its address: it is the last authenticated one that counts.
  if (ike.state == IkeState::half_open) {
    ike.local = local;
    ike.remote = remote;
  } else if (ike.nat_remote && !ike.nat_local && ike.encapsulate && !ike.mobike &&
             local.port == wire::udp::kNatTraversalPort) {
    // With MOBIKE the peer says so itself (RFC 4555 §3.5). What a NAT has for the peer's port 500
    // leads no ESP to it.
    ike.local = local;
    ike.remote = remote;
    endpoints_changed(ike);
  }
}

void Core::on_request(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                      const wire::Endpoint& local, const wire::Endpoint& remote) {
  for (const auto& payload : payloads) {
    const auto* unknown = std::get_if<wire::ike::Unknown>(&payload);
    if (unknown == nullptr || !unknown->critical) continue;
    // RFC 7296 §2.5: the notify names the payload type; the request is not processed at all.
    const auto type = static_cast<std::uint8_t>(unknown->type);
    respond(ike, header, {make_notify(NotifyType::unsupported_critical_payload, {type})}, local,
            remote);
    fail(ike.connection, Failure::unsupported_critical_payload,
         "the peer sent critical payload type " + std::to_string(type));
    if (ike.state == IkeState::half_open) close(ike, false, "unsupported critical payload");
    return;
  }
  const auto present = wire::ike::check_presence(header.exchange, false, payloads);
  const bool before_auth = ike.state == IkeState::half_open;
  if (before_auth && header.exchange == ExchangeType::ike_auth && !present &&
      present.error().type == wire::ike::PayloadType::authentication) {
    // RFC 7296 §2.16: no AUTH in the first request asks for EAP.
    const Refusal refusal{
        NotifyType::authentication_failed,
        Failure::auth_method_mismatch,
        "ours: remote.auth " +
            std::string(ike.connection->remote.auth == config::AuthMethod::psk ? "psk" : "pubkey") +
            "; the peer's: EAP",
        {}};
    count_refusal(refusal.failure);
    fail(ike.connection, refusal.failure, refusal.detail, Level::warning, Attempt::knock);
    respond(ike, header, {make_notify(NotifyType::authentication_failed)}, local, remote);
    close(ike, false, refusal.detail);
    return;
  }
  if (!present || before_auth != (header.exchange == ExchangeType::ike_auth)) {
    ++counters_.invalid_messages;
    respond(ike, header, {make_notify(NotifyType::invalid_syntax)}, local, remote);
    fail(ike.connection, Failure::invalid_syntax,
         present ? std::string(wire::ike::to_string(header.exchange)) + " is out of place"
                 : wire::ike::to_string(present.error().type) +
                       " payload: " + std::string(present.error().problem));
    if (before_auth) close(ike, false, "malformed IKE_AUTH");
    return;
  }
  switch (header.exchange) {
    case ExchangeType::ike_auth:
      answer_auth(ike, header, payloads, local, remote);
      return;
    case ExchangeType::create_child_sa:
      answer_create_child(ike, header, payloads, local, remote);
      return;
    case ExchangeType::informational:
      answer_informational(ike, header, payloads, local, remote);
      return;
    case ExchangeType::ike_sa_init:
      return;
  }
}

void Core::on_response(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads) {
  if (!ike.exchange) return;
  const TaskKind kind = ike.exchange->task.kind;
  const ExchangeType expected = kind == TaskKind::auth ? ExchangeType::ike_auth
                                : kind == TaskKind::create_child || kind == TaskKind::rekey_child ||
                                        kind == TaskKind::rekey_ike
                                    ? ExchangeType::create_child_sa
                                    : ExchangeType::informational;
  if (header.exchange != expected) {
    ++counters_.invalid_messages;
    return;
  }
  ike.window.pending.reset();
  count(header.exchange, false, find_error(payloads) != nullptr);
  if (kind == TaskKind::auth) {
    finish_auth(ike, payloads);
    return;
  }
  Exchange exchange = std::move(*ike.exchange);
  ike.exchange.reset();
  const std::uint64_t spi = ike.local_spi;
  switch (kind) {
    case TaskKind::create_child:
    case TaskKind::rekey_child:
      finish_create_child(ike, std::move(exchange), payloads);
      break;
    case TaskKind::rekey_ike:
      finish_rekey_ike(ike, std::move(exchange), payloads);
      break;
    case TaskKind::delete_child:
    case TaskKind::delete_ike:
    case TaskKind::liveness:
    case TaskKind::update_addresses:
    case TaskKind::check_route:
      finish_informational(ike, std::move(exchange), payloads);
      break;
    case TaskKind::init:
    case TaskKind::auth:
    case TaskKind::await_move:
      break;
  }
  if (IkeSa* still_there = find_ike(spi)) pump(*still_there);
}

void Core::on_timer(Instant now, std::vector<Action>& actions) {
  begin(now, actions);
  while (const auto timer = timers_.take_due(now)) dispatch(*timer);
}

void Core::dispatch(const Timer& timer) {
  IkeSa* ike = find_ike(timer.subject);
  switch (timer.kind) {
    case TimerKind::retransmit:
      if (ike != nullptr) retransmit(*ike, timer.when);
      return;
    case TimerKind::held:
      if (ike != nullptr && ike->held_until == timer.when) HeldAuth(*this).resume(*ike);
      return;
    case TimerKind::half_open:
      if (ike == nullptr || ike->state != IkeState::half_open) return;
      never_authenticated(*ike);
      remove(ike->local_spi);
      return;
    case TimerKind::start_tasks:
      if (ike != nullptr) pump(*ike);
      return;
    case TimerKind::rekey_ike:
      if (ike != nullptr && ike->rekey_at == timer.when && ike->usable()) {
        enqueue(*ike, Task{.kind = TaskKind::rekey_ike});
      }
      return;
    case TimerKind::expire_ike:
      if (ike != nullptr && ike->expire_at == timer.when && ike->usable()) {
        fail(ike->connection, Failure::lifetime_expired, "IKE SA " + spi_text(ike->local_spi));
        enqueue(*ike, Task{.kind = TaskKind::delete_ike}, true);
        ensure_soon(state_of(*ike->connection));
      }
      return;
    case TimerKind::reauthenticate:
      if (ike != nullptr && ike->reauthenticate_at == timer.when) reauthenticate(*ike);
      return;
    case TimerKind::certificates:
      if (ike != nullptr) recheck(*ike);
      return;
    case TimerKind::liveness:
      if (ike != nullptr && ike->liveness_at == timer.when) check_liveness(*ike);
      return;
    case TimerKind::keepalive:
      if (ike != nullptr) keepalive(*ike);
      return;
    case TimerKind::forget:
      if (ike != nullptr && ike->forget_at == timer.when) {
        if (ike->state != IkeState::closed) close(*ike, false, "replaced");
        remove(timer.subject);
      }
      return;
    case TimerKind::delete_duplicate:
      if (ike != nullptr) delete_duplicate(*ike);
      return;
    case TimerKind::switch_outbound:
      if (ChildSa* child = find_child(channel::SaId{timer.subject});
          child != nullptr && child->switch_at == timer.when) {
        switch_outbound_now(*child, false);
      }
      return;
    case TimerKind::rehearse:
      rehearse(channel::SaId{timer.subject});
      return;
    case TimerKind::delete_sa:
      if (retired_.erase(channel::SaId{timer.subject}) != 0)
        delete_sa(channel::SaId{timer.subject});
      return;
    case TimerKind::retry_connection:
      // A reload may have left fewer of them.
      if (timer.subject < connections_.size() &&
          connections_[timer.subject].retry_at == timer.when) {
        retry_connection(connections_[timer.subject]);
      }
      return;
    case TimerKind::lost_addresses:
      lost_addresses_.look_again();
      return;
  }
}

IkeSa* Core::find_ike(std::uint64_t local_spi) {
  const auto found = ike_sas_.find(local_spi);
  if (found == ike_sas_.end()) return nullptr;
  touched_.insert(local_spi);  // whoever asks for more than a look changes it
  return found->second.get();
}
const IkeSa* Core::find_ike(std::uint64_t local_spi) const {
  const auto found = ike_sas_.find(local_spi);
  return found == ike_sas_.end() ? nullptr : found->second.get();
}

IkeSa& Core::add_ike() {
  std::uint64_t spi = draw_number();
  // RFC 7296 §3.1: the SPI must not be zero, and it names the SA among ours.
  while (spi == 0 || ike_sas_.contains(spi)) spi = draw_number();
  auto& slot = ike_sas_[spi];
  slot = std::make_unique<IkeSa>();
  slot->local_spi = spi;
  touch(*slot);
  slot->created_rank = next_rank_++;
  slot->created = slot->last_heard = slot->last_sent = now_;
  return *slot;
}

/// Ends an IKE SA: children retired, tasks' commands told. It lingers to repeat its last answer.
void Core::close(IkeSa& ike, bool children_with_grace, const std::string& why) {
  touch(ike);
  // A copy: retiring a child takes it out of the list.
  for (const channel::SaId child : std::vector<channel::SaId>(ike.children)) {
    retire(child, children_with_grace);
  }
  for (const channel::Spi spi : spis_under_way(ike)) environment_.spis->give_back(spi);
  if (ike.exchange) finish_commands(ike.exchange->task.commands, false, why);
  for (const Task& task : ike.queue) {
    finish_commands(task.commands, task.kind == TaskKind::delete_ike, why);
  }
  ike.exchange.reset();
  ike.queue.clear();
  ike.window.pending.reset();
  ike.request_pieces.clear();
  ike.response_pieces.clear();
  // What repeats the last answer stays: SK_e and SK_a. Nothing is derived or proved any more.
  ike.keys.derive = {};
  ike.keys.prove_local = {};
  ike.keys.prove_remote = {};
  ike.plain_keys = {};
  ike.key_exchange.reset();
  half_open_.erase(ike.local_spi);
  ike.state = IkeState::closed;
  // With the last IKE SA gone, nothing is under way that a replaced SA should wait for.
  if (!children_with_grace && !shutting_down_ && ike.established != Instant{} &&
      !has_usable_ike(*ike.connection)) {
    end_graces(*ike.connection);
  }
  // Long enough for the peer to repeat its last request (RFC 7296 §2.1).
  ike.forget_at = now_ + tuning_.half_open_timeout;
  timers_.arm(ike.forget_at, TimerKind::forget, ike.local_spi);
}

void Core::remove(std::uint64_t local_spi) {
  const auto found = ike_sas_.find(local_spi);
  if (found == ike_sas_.end()) return;
  touched_.insert(local_spi);
  if (found->second->init_request) init_requests_.erase(*found->second->init_request);
  half_open_.erase(local_spi);
  peers_.forget(*found->second);
  ike_sas_.erase(found);
}

ConnectionState& Core::state_of(const config::Connection& connection) {
  const auto place = connection_index_.place_of(connection);
  assert(place);
  return connections_[*place];
}

bool Core::is_ghost(const config::Connection& connection) const {
  const auto place = connection_index_.place_of(connection);
  return place && connections_[*place].ghost != nullptr;
}

IkeSa* Core::usable_ike(const config::Connection& connection) {
  IkeSa* best = nullptr;
  for (IkeSa* ike : peers_.of(connection)) {
    if (!ike->usable()) continue;
    if (best != nullptr && ike->established <= best->established) continue;
    if (!is_contested(*ike)) best = ike;
  }
  if (best != nullptr) touch(*best);
  return best;
}

/// As `usable_ike`, without a look at all of a connection that has thousands of peers.
bool Core::has_usable_ike(const config::Connection& connection) const {
  return std::ranges::any_of(peers_.of(connection), [&](const IkeSa* ike) {
    return ike->usable() && !is_contested(*ike);
  });
}

/// RFC 7296 §2.8.2: a successor that the peer made while our own rekey is on its way may be the one
/// that goes; work that waits on the old IKE SA moves to whichever stays.
bool Core::is_contested(const IkeSa& ike) const {
  return std::ranges::any_of(peers_.with_peer_of(ike), [&](const IkeSa* old) {
    return old->state == IkeState::established && old->exchange &&
           old->exchange->rival_ike == ike.local_spi;
  });
}

void Core::touch(const ConnectionState& state) {
  touched_connections_.insert(config::connection_id(state.connection->name));
}

const config::Child& Core::child_config(config::ChildId child_id) const {
  const config::Child* child = connection_index_.find_child(child_id);
  return child != nullptr ? *child : ghost_children_.at(child_id);
}

void Core::count(ExchangeType exchange, bool answered, bool failed) {
  const auto row = static_cast<unsigned>(exchange) - 34U;
  if (row < 4) ++counters_.exchanges[row][answered ? 1 : 0][failed ? 1 : 0];
}

}  // namespace culvert::ike
