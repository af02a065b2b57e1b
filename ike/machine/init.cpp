// IKE_SA_INIT (RFC 7296 §1.2): suites, key exchange, nonces; NAT detection (§2.23), cookies (§2.6),
// INVALID_KE_PAYLOAD (§1.2, §2.7).
#include <algorithm>
#include <array>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

using crypto::Bytes;
using wire::ike::ExchangeType;
using wire::ike::NotifyType;

constexpr std::uint16_t kPort = 500;
/// A peer that goes on demanding cookies or groups is not worth more tries.
constexpr std::uint32_t kMaxInitRestarts = 4;

bool takes_fragments(const config::Connection& connection) {
  return connection.fragmentation != config::Fragmentation::no;
}

}  // namespace

bool Core::initiate(ConnectionState& state, std::vector<config::ChildId> wanted) {
  const config::Connection& connection = *state.connection;
  const auto remote = address_of_peer(connection);
  if (!remote) {
    fail(&connection, Failure::unknown_peer_address,
         "remote.address is not given: only the peer can begin");
    return false;
  }
  auto local = connection.local.address;
  if (!local && environment_.local_address_for) local = environment_.local_address_for(*remote);
  if (!local) {
    fail(&connection, Failure::no_local_address,
         "ours: none that reaches the peer at " + remote->to_string(), Level::warning,
         Attempt::ike_sa);
    plan_retry(state);
    return false;
  }
  state.retry_at = {};
  IkeSa& ike = add_ike();
  ike.initiator = true;
  ike.connection = &connection;
  peers_.file(ike);
  ike.local = {*local, kPort};
  ike.remote = {*remote, kPort};
  ike.wanted = std::move(wanted);
  ike.initiator_nonce = draw(kNonceBytes);
  if (!connection.proposals.empty() && !connection.proposals.front().groups.empty()) {
    ike.group = connection.proposals.front().groups.front();
  }
  send_init(ike);
  return true;
}

void Core::send_init(IkeSa& ike) {
  if (ike.key_exchange == nullptr || ike.key_exchange->group() != ike.group) {
    auto made = crypto::ike::generate_key_exchange(ike.group, *environment_.random);
    if (!made) {
      give_up_initiation(ike, Failure::no_ike_proposal_chosen, made.error().what);
      return;
    }
    ike.key_exchange = std::move(*made);
  }
  Payloads payloads;
  // RFC 7296 §2.6: the cookie comes first, everything else unchanged.
  if (!ike.cookie.empty()) payloads.emplace_back(make_notify(NotifyType::cookie, ike.cookie));
  payloads.emplace_back(offer_ike(ike.connection->proposals, {}));
  payloads.emplace_back(wire::ike::KeyExchange{static_cast<std::uint16_t>(ike.group),
                                               ike.key_exchange->public_value()});
  payloads.emplace_back(wire::ike::Nonce{ike.initiator_nonce});
  add_nat_detection(payloads, ike, 0);
  add_init_notifies(payloads, ike);
  offer_signatures(payloads, {ike.connection});
  Exchange exchange;
  exchange.task.kind = TaskKind::init;
  ike.exchange = std::move(exchange);
  // Every try has message ID 0 (RFC 7296 §2.2).
  ike.window = MessageWindow{};
  ike.initiator_message =
      wire::ike::encode_message(header_for(ike, ExchangeType::ike_sa_init, false, 0), payloads);
  await_answer(ike, 0, {ike.initiator_message});
}

void Core::refuse_init(const wire::ike::Header& request, const Refusal& refusal,
                       const wire::Endpoint& local, const wire::Endpoint& remote) {
  wire::ike::Header header = request;
  header.from_initiator = false;
  header.response = true;
  send(local, remote,
       wire::ike::encode_message(header, {make_notify(refusal.notify, refusal.data)}));
}

void Core::on_init_request(const wire::ike::Message& message, wire::Bytes raw,
                           const wire::Endpoint& local, const wire::Endpoint& remote) {
  // 1. a repeated one gets the same answer  2. readable  3. known peer  4. cookie  5. suite and
  // group  6. keys and answer
  if (repeat_init_answer(message, raw, local, remote)) return;
  if (!init_is_readable(message, local, remote)) return;
  auto candidates = connection_index_.between(local.address, remote.address);
  if (candidates.empty()) {
    refuse_stranger(message.header, local, remote);
    return;
  }
  if (half_open_.size() >= tuning_.half_open_limit) return;
  if (!cookie_satisfied(message, local, remote)) return;
  const auto chosen = choose_init_suite(message, candidates, local, remote);
  if (!chosen) return;
  IkeSa& ike = add_ike();
  ike.connection = candidates.front();
  ike.candidates = std::move(candidates);
  peers_.file(ike);
  ike.local = local;
  ike.remote = remote;
  open_half(ike, *chosen, message, raw);
  if (!answer_init(ike, *chosen, message)) {
    remove(ike.local_spi);
    return;
  }
  timers_.arm(now_ + tuning_.half_open_timeout, TimerKind::half_open, ike.local_spi);
  count(ExchangeType::ike_sa_init, true, false);
  send(local, remote, Octets(ike.responder_message));
}

/// True when the request is one that we have answered, whether it is the same or a forgery.
bool Core::repeat_init_answer(const wire::ike::Message& message, Bytes raw,
                              const wire::Endpoint& local, const wire::Endpoint& remote) {
  const auto known = init_requests_.find({remote, message.header.initiator_spi});
  if (known == init_requests_.end()) return false;
  IkeSa* ike = find_ike(known->second);
  if (ike == nullptr) return true;
  const bool same = std::ranges::equal(ike->initiator_message, raw);
  if (!same && !adds_cookie(*ike, message, remote)) return true;
  // The initiator proves itself over the last request that it sent (RFC 7296 §2.6, §2.15).
  if (!same) ike->initiator_message.assign(raw.begin(), raw.end());
  ++counters_.retransmits_answered;
  send(local, remote, Octets(ike->responder_message));
  return true;
}

/// RFC 7296 §2.6: a retry with a cookie has "all other payloads unchanged". It comes to an IKE SA
/// that is there when its first request was sent again and found fewer half-open ones.
bool Core::adds_cookie(const IkeSa& ike, const wire::ike::Message& message,
                       const wire::Endpoint& remote) {
  if (ike.state != IkeState::half_open || !cookie_is_ours(message, remote)) return false;
  const auto before = wire::ike::parse_message(ike.initiator_message);
  if (!before) return false;
  const auto without_cookie = [](Payloads payloads) {
    std::erase_if(payloads, [](const auto& payload) {
      const auto* notify = std::get_if<wire::ike::Notify>(&payload);
      return notify != nullptr && notify->type == NotifyType::cookie;
    });
    return payloads;
  };
  return without_cookie(before->payloads) == without_cookie(message.payloads);
}

bool Core::init_is_readable(const wire::ike::Message& message, const wire::Endpoint& local,
                            const wire::Endpoint& remote) {
  for (const auto& payload : message.payloads) {
    const auto* unknown = std::get_if<wire::ike::Unknown>(&payload);
    if (unknown == nullptr || !unknown->critical) continue;
    refuse_init(message.header,
                {NotifyType::unsupported_critical_payload,
                 Failure::unsupported_critical_payload,
                 "",
                 {static_cast<std::uint8_t>(unknown->type)}},
                local, remote);
    return false;
  }
  if (message.header.initiator_spi != 0 &&
      wire::ike::check_presence(ExchangeType::ike_sa_init, false, message.payloads)) {
    return true;
  }
  ++counters_.invalid_messages;
  return false;
}

void Core::refuse_stranger(const wire::ike::Header& header, const wire::Endpoint& local,
                           const wire::Endpoint& remote) {
  fail_stranger(Failure::unknown_peer_address,
                "ours: " + known_pairs() + "; the peer's: " + remote.to_string() + " writes to " +
                    local.to_string(),
                local, remote);
  refuse_init(header, {NotifyType::no_proposal_chosen, Failure::unknown_peer_address, "", {}},
              local, remote);
}

/// The suite of the first candidate that shares one with the peer; that candidate goes first. The
/// peer has heard why when there is none.
std::optional<ChosenIke> Core::choose_init_suite(const wire::ike::Message& message,
                                                 std::vector<const config::Connection*>& candidates,
                                                 const wire::Endpoint& local,
                                                 const wire::Endpoint& remote) {
  const auto& offer = *find_payload<wire::ike::SecurityAssociation>(message.payloads);
  const auto& peer_value = *find_payload<wire::ike::KeyExchange>(message.payloads);
  std::optional<ChosenIke> chosen;
  for (const config::Connection* candidate : candidates) {
    chosen = choose_ike(candidate->proposals, offer, peer_value.group);
    if (!chosen) continue;
    const auto place = std::ranges::find(candidates, candidate);
    std::rotate(candidates.begin(), place, place + 1);
    break;
  }
  if (!chosen) {
    count(ExchangeType::ike_sa_init, true, true);
    fail(candidates.front(), Failure::no_ike_proposal_chosen,
         compare(candidates.front()->proposals, offer), Level::warning, Attempt::knock);
    refuse_init(message.header,
                {NotifyType::no_proposal_chosen, Failure::no_ike_proposal_chosen, "", {}}, local,
                remote);
    return std::nullopt;
  }
  const auto group = static_cast<std::uint16_t>(chosen->suite.group);
  if (group != peer_value.group) {
    Octets wanted(2);
    wire::Writer(wanted).u16(group);
    refuse_init(message.header,
                {NotifyType::invalid_ke_payload, Failure::invalid_ke_group, "", wanted}, local,
                remote);
    return std::nullopt;
  }
  return chosen;
}

/// What the request says, before any answer.
void Core::open_half(IkeSa& ike, const ChosenIke& chosen, const wire::ike::Message& message,
                     Bytes raw) {
  ike.state = IkeState::half_open;
  half_open_.insert(ike.local_spi);
  ike.remote_spi = message.header.initiator_spi;
  ike.init_request = {ike.remote, ike.remote_spi};
  init_requests_[*ike.init_request] = ike.local_spi;
  ike.suite = chosen.suite;
  ike.group = chosen.suite.group;
  ike.initiator_nonce = find_payload<wire::ike::Nonce>(message.payloads)->data;
  ike.responder_nonce = draw(kNonceBytes);
  ike.first_nonce = lower_of(ike.initiator_nonce, ike.responder_nonce);
  ike.initiator_message.assign(raw.begin(), raw.end());
  ike.signature_hashes = signature_hashes_of(message.payloads);
  detect_nat(ike, message.payloads, ike.remote_spi, 0);
  learn_init_notifies(ike, message.payloads);
}

/// Keys and the answer; false when the peer's key exchange value is not one.
bool Core::answer_init(IkeSa& ike, const ChosenIke& chosen, const wire::ike::Message& message) {
  const auto& peer_value = *find_payload<wire::ike::KeyExchange>(message.payloads);
  const auto ours = crypto::ike::generate_key_exchange(ike.group, *environment_.random);
  if (!ours) return false;
  const auto secret = (*ours)->shared_secret(peer_value.data);
  if (!secret) {
    ++counters_.invalid_messages;
    return false;
  }
  auto keys = derive_first_keys(
      {ike.suite, ike.remote_spi, ike.local_spi, ike.initiator_nonce, ike.responder_nonce, false},
      secret->view());
  if (!keys) {
    report(Level::error, "key_derivation_failed", {{"error", keys.error().what}});
    return false;
  }
  ike.keys = std::move(*keys);
  Payloads answer;
  answer.emplace_back(wire::ike::SecurityAssociation{{chosen.answer}});
  answer.emplace_back(
      wire::ike::KeyExchange{static_cast<std::uint16_t>(ike.group), (*ours)->public_value()});
  answer.emplace_back(wire::ike::Nonce{ike.responder_nonce});
  if (ike.nat_detection) add_nat_detection(answer, ike, ike.local_spi);
  add_init_notifies(answer, ike);
  request_certificates(answer, ike.candidates);
  // RFC 7427 §4: answered only where the initiator has sent it.
  if (ike.signature_hashes) offer_signatures(answer, ike.candidates);
  ike.responder_message =
      wire::ike::encode_message(header_for(ike, ExchangeType::ike_sa_init, true, 0), answer);
  ike.window.answered({ike.responder_message});
  return true;
}

/// What we can do beyond RFC 7296. A responder says only what the initiator said first.
void Core::add_init_notifies(Payloads& payloads, const IkeSa& ike) {
  // RFC 7383 §2.3.
  if (ike.initiator ? takes_fragments(*ike.connection) : ike.fragmentation) {
    payloads.emplace_back(make_notify(NotifyType::ikev2_fragmentation_supported));
  }
  // RFC 8784 §3.
  if (ike.initiator ? can_mix(*ike.connection) : ike.post_quantum_offered) {
    payloads.emplace_back(make_notify(NotifyType::use_ppk));
  }
  // RFC 6023 §3: the responder alone says so.
  if (!ike.initiator && ike.connection->childless != config::Childless::never) {
    payloads.emplace_back(make_notify(NotifyType::childless_ikev2_supported));
  }
}

/// What both sides can do.
void Core::learn_init_notifies(IkeSa& ike, const Payloads& payloads) {
  // Before IKE_AUTH a responder does not know which of its connections it is.
  const bool mixes =
      ike.initiator
          ? can_mix(*ike.connection)
          : std::ranges::any_of(ike.candidates, [&](const auto* one) { return can_mix(*one); });
  ike.post_quantum_offered = mixes && find_notify(payloads, NotifyType::use_ppk) != nullptr;
  ike.fragmentation = takes_fragments(*ike.connection) &&
                      find_notify(payloads, NotifyType::ikev2_fragmentation_supported) != nullptr;
  const bool wanted = ike.connection->childless == config::Childless::prefer ||
                      ike.connection->childless == config::Childless::force;
  ike.childless = ike.initiator && wanted &&
                  find_notify(payloads, NotifyType::childless_ikev2_supported) != nullptr;
  ike.statuses_requested = requests_statuses(payloads);
}

void Core::on_init_response(IkeSa& ike, const wire::ike::Message& message, wire::Bytes raw) {
  if (ike.state != IkeState::init_sent || message.header.message_id != 0 ||
      !wire::ike::check_presence(ExchangeType::ike_sa_init, true, message.payloads)) {
    ++counters_.invalid_messages;
    return;
  }
  if (restart_init(ike, message.payloads)) return;
  if (const auto* error = find_error(message.payloads)) {
    count(ExchangeType::ike_sa_init, false, true);
    const Failure failure = failure_of(error->type, false);
    give_up_initiation(
        ike, failure,
        "ours: " +
            (failure == Failure::unsupported_version ? std::string("IKEv2")
                                                     : describe(ike.connection->proposals)) +
            "; the peer answers " + wire::ike::to_string(error->type));
    return;
  }
  if (message.header.responder_spi == 0 ||
      find_payload<wire::ike::SecurityAssociation>(message.payloads) == nullptr) {
    ++counters_.invalid_messages;
    return;
  }
  ike.remote_spi = message.header.responder_spi;
  finish_init(ike, message.payloads, raw);
}

/// The peer wants a cookie or another group: the same again with it. True when that was it.
bool Core::restart_init(IkeSa& ike, const Payloads& payloads) {
  if (const auto* cookie = find_notify(payloads, NotifyType::cookie)) {
    ike.cookie = cookie->data;
  } else if (find_notify(payloads, NotifyType::invalid_ke_payload) != nullptr) {
    const auto group = demanded_group(payloads);
    const bool offered =
        group && std::ranges::any_of(ike.connection->proposals, [&](const auto& proposal) {
          return std::ranges::find(proposal.groups, *group) != proposal.groups.end();
        });
    if (!offered) {
      give_up_initiation(ike, Failure::invalid_ke_group,
                         "ours: " + describe(ike.connection->proposals) + "; the peer wants " +
                             demanded_group_text(payloads));
      return true;
    }
    ike.group = *group;
  } else {
    return false;
  }
  if (++ike.init_restarts > kMaxInitRestarts) {
    give_up_initiation(ike, Failure::invalid_syntax, "the peer demands one retry after another");
    return true;
  }
  send_init(ike);
  return true;
}

void Core::finish_init(IkeSa& ike, const Payloads& payloads, wire::Bytes raw) {
  const auto& answer = *find_payload<wire::ike::SecurityAssociation>(payloads);
  const auto& peer_value = *find_payload<wire::ike::KeyExchange>(payloads);
  const auto chosen = choose_ike(ike.connection->proposals, answer, peer_value.group);
  if (!chosen || !is_an_answer(answer) || chosen->suite.group != ike.group ||
      peer_value.group != static_cast<std::uint16_t>(ike.group)) {
    give_up_initiation(
        ike, Failure::no_ike_proposal_chosen,
        "ours: " + describe(ike.connection->proposals) + "; the peer chose " + describe(answer));
    return;
  }
  const auto secret = ike.key_exchange->shared_secret(peer_value.data);
  if (!secret) {
    give_up_initiation(ike, Failure::invalid_syntax, "KE payload: " + secret.error().what);
    return;
  }
  ike.suite = chosen->suite;
  ike.responder_nonce = find_payload<wire::ike::Nonce>(payloads)->data;
  ike.first_nonce = lower_of(ike.initiator_nonce, ike.responder_nonce);
  ike.responder_message.assign(raw.begin(), raw.end());
  ike.signature_hashes = signature_hashes_of(payloads);
  auto keys = derive_first_keys(
      {ike.suite, ike.local_spi, ike.remote_spi, ike.initiator_nonce, ike.responder_nonce, true},
      secret->view());
  if (!keys) {
    give_up_initiation(ike, Failure::invalid_syntax, keys.error().what);
    return;
  }
  ike.keys = std::move(*keys);
  ike.key_exchange.reset();
  detect_nat(ike, payloads, ike.local_spi, ike.remote_spi);
  learn_init_notifies(ike, payloads);
  if (const auto* seen = find_notify(payloads, NotifyType::nat_detection_destination_ip)) {
    ike.seen_as = seen->data;
  }
  if (ike.encapsulate || may_offer_mobike(ike)) {
    // RFC 7296 §2.23: from IKE_AUTH on everything uses port 4500; RFC 4555 §3.3: also without a
    // NAT.
    ike.local.port = kNatPort;
    ike.remote.port = kNatPort;
  }
  ike.window.pending.reset();
  ike.exchange.reset();
  count(ExchangeType::ike_sa_init, false, false);
  if (ike.connection->ppk_required && !ike.post_quantum_offered) {
    give_up_initiation(ike, Failure::post_quantum_mismatch,
                       "ours: ppk_required: yes, ppk_id " + ike.connection->ppk_id +
                           "; the peer's: it uses no post-quantum key");
    return;
  }
  if (ike.connection->childless == config::Childless::force && !ike.childless) {
    give_up_initiation(ike, Failure::no_additional_sas,
                       "ours: childless: force; the peer's: it does not offer IKE SAs without a "
                       "first child");
    return;
  }
  send_auth(ike);
}

}  // namespace culvert::ike
