// MOBIKE (RFC 4555): an IKE SA and its children move to other addresses without being made anew.
// Who initiated the first IKE SA decides where both sides send; the other side follows and checks
// that somebody is there (§3.7).
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

using wire::ike::ExchangeType;
using wire::ike::Notify;
using wire::ike::NotifyType;

/// RFC 4555 §4.2.5: between 8 and 64 octets.
constexpr std::size_t kCookie2Bytes = 16;
/// Additional addresses of a peer that we keep; more than a gateway has uplinks.
constexpr std::size_t kMaxPeerAddresses = 8;
/// Retransmissions on the path in use before the others are tried as well.
constexpr std::uint32_t kTriesBeforeOtherPaths = 3;

std::optional<wire::IpAddress> address_in(const Notify& notify) {
  if (notify.type == NotifyType::additional_ip4_address && notify.data.size() == 4) {
    return wire::IpAddress::v4(wire::Bytes(notify.data));
  }
  if (notify.type == NotifyType::additional_ip6_address && notify.data.size() == 16) {
    return wire::IpAddress::v6(wire::Bytes(notify.data));
  }
  return std::nullopt;
}

bool returned(const Octets& cookie, const Payloads& payloads) {
  const auto* notify = find_notify(payloads, NotifyType::cookie2);
  return notify != nullptr && crypto::equal_constant_time(notify->data, cookie);
}

/// RFC 4555 §4.2.6: source address and port, destination address and port, as the sender has them.
bool matches_addresses(const Octets& data, const wire::Endpoint& source,
                       const wire::Endpoint& destination) {
  Octets expected;
  for (const wire::Endpoint& end : {source, destination}) {
    const wire::Bytes octets = end.address.view();
    expected.insert(expected.end(), octets.begin(), octets.end());
    expected.push_back(static_cast<std::uint8_t>(end.port >> 8U));
    expected.push_back(static_cast<std::uint8_t>(end.port & 0xffU));
  }
  return data == expected;
}

/// RFC 4555 §3.6: every such message replaces what was known. False: it says nothing of it.
bool learn_peer_addresses(IkeSa& ike, const Payloads& payloads) {
  std::vector<wire::IpAddress> addresses;
  bool told = find_notify(payloads, NotifyType::no_additional_addresses) != nullptr;
  for (const auto& payload : payloads) {
    const auto* notify = std::get_if<Notify>(&payload);
    const auto address = notify != nullptr ? address_in(*notify) : std::nullopt;
    if (!address || addresses.size() >= kMaxPeerAddresses) continue;
    told = true;
    addresses.push_back(*address);
  }
  if (told) ike.peer_addresses = std::move(addresses);
  return told;
}

/// RFC 4555 §3.6: the peer has said where else it is than at `remote`, where this comes from. If
/// that leaves out the address in use, it is not there any more.
bool has_left(const IkeSa& ike, const wire::Endpoint& remote) {
  const bool is_there =
      remote.address == ike.remote.address ||
      std::ranges::find(ike.peer_addresses, ike.remote.address) != ike.peer_addresses.end();
  return !is_there && remote.address.family == ike.remote.address.family;
}

bool is_queued(const IkeSa& ike, TaskKind kind) {
  return std::ranges::find(ike.queue, kind, &Task::kind) != ike.queue.end();
}

}  // namespace

bool Core::may_offer_mobike(const IkeSa& ike) {
  // RFC 4555 §3.3: NAT traversal and its ports are a part of it.
  return ike.connection->mobike == config::Mobike::yes && ike.nat_detection;
}

/// In IKE_AUTH (RFC 4555 §3.1): that we can, and where else we are.
void Core::add_mobike(Payloads& payloads, const IkeSa& ike) {
  if (!(ike.initiator ? may_offer_mobike(ike) : ike.mobike)) return;
  payloads.emplace_back(make_notify(NotifyType::mobike_supported));
  add_other_addresses(payloads, ike);
}

/// Where else we are than at the address in use.
void Core::add_other_addresses(Payloads& payloads, const IkeSa& ike) {
  if (!environment_.local_addresses_for) return;
  for (const wire::IpAddress& address : environment_.local_addresses_for(ike.remote.address)) {
    if (address == ike.local.address) continue;
    const wire::Bytes octets = address.view();
    payloads.emplace_back(make_notify(
        address.is_v4() ? NotifyType::additional_ip4_address : NotifyType::additional_ip6_address,
        Octets(octets.begin(), octets.end())));
  }
}

void Core::learn_mobike(IkeSa& ike, const Payloads& payloads) {
  const bool ours = ike.initiator
                        ? may_offer_mobike(ike)
                        : ike.connection->mobike != config::Mobike::no && ike.nat_detection;
  ike.mobike = ours && find_notify(payloads, NotifyType::mobike_supported) != nullptr;
  ike.moves = ike.mobike && ike.initiator;
  if (ike.mobike) learn_peer_addresses(ike, payloads);
}

void Core::endpoints_changed(IkeSa& ike) {
  report(Level::info, "peer_moved",
         {{"connection", ike.connection->name}, {"remote", ike.remote.to_string()}});
  ike.checked_remote.reset();
  ike.drop_queued(TaskKind::await_move);
  update_children(ike);
}

void Core::update_children(const IkeSa& ike) {
  for (const channel::SaId id : ike.children) {
    update_endpoints(id);
    update_endpoints(children_.at(id).outbound_sa);
  }
}

/// This half of a child goes where its IKE SA goes.
std::optional<channel::RequestId> Core::update_endpoints(channel::SaId half) {
  const ChildSa* child = child_of_sa(half);
  const IkeSa* ike = child != nullptr ? find_ike(child->ike_spi) : nullptr;
  if (ike == nullptr) return std::nullopt;
  const auto [local, remote] = ike->esp_endpoints(*child);
  channel::Request message;
  message.type = channel::RequestType::update_endpoints;
  message.body.update_endpoints = {half, local, remote};
  return request(message);
}

// ---- the side that decides ----------------------------------------------------------------------

/// RFC 4555 §3.5: the initiator's addresses or the path changed. What is on its way is repeated
/// there. Traffic follows at once where the peer is where it was; where it is not, when it has
/// returned the COOKIE2 of our UPDATE_SA_ADDRESSES from there (§3.7): a source address is nobody's
/// word.
void Core::move_ike(IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote) {
  touch(ike);
  const bool is_checked = remote == ike.esp_remote();
  if (!is_checked) ike.checked_remote = ike.esp_remote();
  ike.local = local;
  ike.remote = remote;
  // A source address of ours needs nobody's word, and the one before may be lost.
  is_checked ? endpoints_changed(ike) : update_children(ike);
  if (!is_queued(ike, TaskKind::update_addresses)) {
    enqueue(ike, Task{.kind = TaskKind::update_addresses}, true);
  }
}

void Core::start_update_addresses(IkeSa& ike, Task task) {
  Exchange exchange;
  exchange.task = std::move(task);
  exchange.nonce = draw(kCookie2Bytes);
  Payloads payloads;
  if (!ike.moves) {
    add_other_addresses(payloads, ike);
    if (payloads.empty()) {
      payloads.emplace_back(make_notify(NotifyType::no_additional_addresses));
    }
    ike.exchange = std::move(exchange);
    return send_request(ike, ExchangeType::informational, payloads);
  }
  payloads.emplace_back(make_notify(NotifyType::update_sa_addresses));
  payloads.emplace_back(make_notify(NotifyType::cookie2, exchange.nonce));
  add_nat_detection(payloads, ike, ike.responder_spi());
  ike.exchange = std::move(exchange);
  send_request(ike, ExchangeType::informational, payloads);
}

void Core::finish_update_addresses(IkeSa& ike, const Exchange& exchange, const Payloads& payloads) {
  if (ike.state != IkeState::established) return;  // its successor asks anew
  // RFC 4555 §3.7: a request that went to several addresses says of none that it works, nor does
  // one that others have overtaken. The next is on its way, to one address alone.
  const auto next = std::ranges::find(ike.queue, TaskKind::update_addresses, &Task::kind);
  const bool is_overtaken = next != ike.queue.end();
  if (is_overtaken) next->address_lost |= exchange.task.address_lost;
  const auto* error = find_error(payloads);
  if (error != nullptr) {
    fail(ike.connection, Failure::peer_unreachable,
         "the peer answers " + wire::ike::to_string(error->type) + " to our move to " +
             ike.local.to_string(),
         Level::warning, Attempt::addresses);
  } else if (!ike.moves) {
    succeeded(ike, Attempt::addresses);
  }
  if (error != nullptr || !ike.moves) {
    // It moves us, or stays: RFC 4555 §3.6 leaves that to it. Of what it refuses to follow nothing
    // is lost as long as both can be reached where they were.
    const bool is_lost = !ike.moves || exchange.task.address_lost || ike.checked_remote;
    if (is_overtaken || !is_lost) return;
    ike.drop_queued(TaskKind::await_move);
    const Instant when = now_ + tuning_.move_patience;
    enqueue(ike, Task{.kind = TaskKind::await_move, .not_before = when});
    return;
  }
  if (!returned(exchange.nonce, payloads)) {
    cookie_differs(ike, "UPDATE_SA_ADDRESSES answered without its COOKIE2");
    return;
  }
  nat_seen_anew(ike, payloads);
  if (is_overtaken) return;
  endpoints_changed(ike);
  succeeded(ike, Attempt::addresses);
}

/// RFC 4555 §3.7: an IKE SA whose peer does not return COOKIE2 as it came is closed.
void Core::cookie_differs(IkeSa& ike, const std::string& detail) {
  fail(ike.connection, Failure::invalid_syntax, detail, Level::warning, Attempt::ike_sa);
  ConnectionState& state = state_of(*ike.connection);
  for (const channel::SaId child : ike.children) state.keep.insert(children_.at(child).child_id);
  enqueue(ike, Task{.kind = TaskKind::delete_ike}, true);
  ensure_soon(state);
}

/// Nobody answers on the path in use: the pending request goes over the others in turn (RFC 4555
/// §3.10). Only an answer decides.
void Core::try_other_path(IkeSa& ike) {
  if (!ike.moves || !ike.usable() || !environment_.local_addresses_for) return;
  if (ike.window.pending->tries < kTriesBeforeOtherPaths) return;
  std::vector<std::pair<wire::IpAddress, wire::IpAddress>> paths;
  std::vector<wire::IpAddress> remotes{ike.remote.address};
  remotes.insert(remotes.end(), ike.peer_addresses.begin(), ike.peer_addresses.end());
  for (const wire::IpAddress& remote : remotes) {
    for (const wire::IpAddress& local : environment_.local_addresses_for(remote)) {
      const bool in_use = local == ike.local.address && remote == ike.remote.address;
      if (!in_use && local.family == remote.family && local.family == ike.local.address.family) {
        paths.emplace_back(local, remote);
      }
    }
  }
  for (const auto& [local, remote] : paths) {
    send(ike, {local, ike.local.port}, {remote, ike.remote.port}, ike.window.pending->messages);
  }
  const bool asks = ike.exchange && ike.exchange->task.kind == TaskKind::update_addresses;
  if (!paths.empty() && asks && !is_queued(ike, TaskKind::update_addresses)) {
    touch(ike);
    ike.queue.push_front(ike.exchange->task);
  }
}

/// An authentic answer came over another path than the one in use.
void Core::answered_over(IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote) {
  if (!ike.moves || !ike.usable() || (ike.local == local && ike.remote == remote)) return;
  report(Level::warning, "path_changed",
         {{"connection", ike.connection->name},
          {"from", ike.local.to_string() + " to " + ike.remote.to_string()},
          {"now", local.to_string() + " to " + remote.to_string()}});
  move_ike(ike, local, remote);
}

// ---- the side that follows ----------------------------------------------------------------------

/// What MOBIKE wants in the answer to an INFORMATIONAL request.
void Core::answer_mobike(IkeSa& ike, const Payloads& payloads, const wire::Endpoint& local,
                         const wire::Endpoint& remote, Payloads& answer) {
  // RFC 4555 §3.7: COOKIE2 goes back as it came, whoever asks.
  if (const auto* cookie = find_notify(payloads, NotifyType::cookie2)) {
    answer.emplace_back(make_notify(NotifyType::cookie2, cookie->data));
  }
  if (!ike.mobike) return;
  if (learn_peer_addresses(ike, payloads) && has_left(ike, remote)) {
    // Nobody vouches for the address that this came from: there is a way back.
    const wire::IpAddress was = ike.remote.address;
    answered_over(ike, local, remote);
    ike.peer_addresses.push_back(was);
  }
  const bool update = find_notify(payloads, NotifyType::update_sa_addresses) != nullptr;
  if (update && !ike.moves && ike.usable()) {
    follow_peer(ike, payloads, local, remote, answer);
  } else if (find_notify(payloads, NotifyType::nat_detection_source_ip) != nullptr) {
    // §3.8: asked for, so that the other side sees whether its NAT mapping has changed.
    add_nat_detection(answer, ike, ike.responder_spi(), local, remote);
  }
}

void Core::follow_peer(IkeSa& ike, const Payloads& payloads, const wire::Endpoint& local,
                       const wire::Endpoint& remote, Payloads& answer) {
  // 1. does a NAT stand between who said none does  2. the new addresses  3. NAT anew  4. is
  // somebody there, before traffic goes there
  if (const auto* promise = find_notify(payloads, NotifyType::no_nats_allowed);
      promise != nullptr && !matches_addresses(promise->data, remote, local)) {
    answer.emplace_back(make_notify(NotifyType::unexpected_nat_detected));
    return;
  }
  if (local.address.family != ike.local.address.family) {
    // The data plane's SAs keep their family.
    answer.emplace_back(make_notify(NotifyType::unacceptable_addresses));
    return;
  }
  // Children that are made before the check go where it went, too.
  if (remote != ike.esp_remote()) ike.checked_remote = ike.esp_remote();
  ike.local = local;
  ike.remote = remote;
  nat_seen_anew(ike, payloads);
  add_nat_detection(answer, ike, ike.responder_spi());
  if (!is_queued(ike, TaskKind::check_route)) {
    ike.queue.push_front(Task{.kind = TaskKind::check_route});
  }
}

/// RFC 4555 §3.7, return routability: whoever moved must hear us at the new address. With NAT
/// detection, which any request may have (§3.8): libreswan returns COOKIE2 with its own alone.
void Core::start_check_route(IkeSa& ike, Task task) {
  Exchange exchange;
  exchange.task = std::move(task);
  exchange.nonce = draw(kCookie2Bytes);
  Payloads payloads{make_notify(NotifyType::cookie2, exchange.nonce)};
  add_nat_detection(payloads, ike, ike.responder_spi());
  ike.exchange = std::move(exchange);
  send_request(ike, ExchangeType::informational, payloads);
}

void Core::finish_check_route(IkeSa& ike, const Exchange& exchange, const Payloads& payloads) {
  if (ike.state != IkeState::established) return;  // its successor asks anew
  if (!returned(exchange.nonce, payloads)) {
    cookie_differs(ike, "the peer at " + ike.remote.to_string() + " does not return COOKIE2");
    return;
  }
  // It says nothing of an address that came up since.
  if (is_queued(ike, TaskKind::check_route)) return;
  endpoints_changed(ike);
  succeeded(ike, Attempt::addresses);
}

/// RFC 4555 §3.8: the answer to a liveness check tells that a router between us has given us
/// another address or port.
void Core::mapping_seen(IkeSa& ike, const Payloads& payloads) {
  const auto* seen = find_notify(payloads, NotifyType::nat_detection_destination_ip);
  if (!ike.moves || seen == nullptr) return;
  const bool changed = !ike.seen_as.empty() && ike.seen_as != seen->data;
  ike.seen_as = seen->data;
  if (changed) enqueue(ike, Task{.kind = TaskKind::update_addresses}, true);
}

/// NAT detection of a new path. Where UDP is needed now, children are rekeyed: an SA keeps what it
/// has. It goes on in UDP where that is not needed any more: RFC 7296 §2.23 allows it at any time,
/// and the peer may have asked for it.
void Core::nat_seen_anew(IkeSa& ike, const Payloads& payloads) {
  const bool before = ike.encapsulate;
  const auto* seen = find_notify(payloads, NotifyType::nat_detection_destination_ip);
  if (seen == nullptr || find_notify(payloads, NotifyType::nat_detection_source_ip) == nullptr) {
    return;
  }
  ike.seen_as = seen->data;
  detect_nat(ike, payloads, ike.initiator_spi(), ike.responder_spi());
  arm_keepalive(ike);
  ike.encapsulate = ike.encapsulate || before;
  if (before == ike.encapsulate) return;
  for (const channel::SaId id : ike.children) {
    ChildSa& child = children_.at(id);
    if (child.state != ChildState::installed || child.redundant) continue;
    ike.queue.push_back(
        Task{.kind = TaskKind::rekey_child, .child_id = child.child_id, .child = child.inbound_sa});
  }
}

}  // namespace culvert::ike
