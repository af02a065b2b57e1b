// Children towards the data plane: SAs and policies installed, switched and retired, make before
// break.
#include <algorithm>
#include <cassert>
#include <tuple>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

using wire::ike::NotifyType;

channel::SelectorSet to_set(const std::vector<wire::TrafficSelector>& selectors) {
  assert(selectors.size() <= channel::kMaxSelectors);
  channel::SelectorSet set;
  set.count = static_cast<std::uint32_t>(selectors.size());
  std::ranges::copy(selectors, set.items.begin());
  return set;
}

bool meet(const std::vector<wire::TrafficSelector>& some,
          const std::vector<wire::TrafficSelector>& others) {
  return std::ranges::any_of(some, [&](const wire::TrafficSelector& one) {
    return std::ranges::any_of(others, [&](const auto& other) { return one.overlaps(other); });
  });
}
/// Whether some traffic fits both.
bool meet(const ChildSa& a, const ChildSa& b) {
  return meet(a.local_selectors, b.local_selectors) && meet(a.remote_selectors, b.remote_selectors);
}

}  // namespace

channel::RequestId Core::request(channel::Request& request) {
  request.id = channel::RequestId{next_request_++};
  actions_->push_back(DataplaneRequest{request});
  return request.id;
}

ChildSa& Core::add_child(IkeSa& ike, ChildSa child) {
  child.inbound_sa = channel::SaId{next_sa_++};
  child.outbound_sa = channel::SaId{next_sa_++};
  child.ike_spi = ike.local_spi;
  child.udp_encapsulation = ike.encapsulate;
  child.created = now_;
  const config::Child& config = child_config(child.child_id);
  if (config.rekey_time.count() > 0) {
    // Half of the jitter range for who is nearer: both ends must not rekey in the same instant.
    const Instant soft = jittered(config.rekey_time, tuning_.rekey_jitter);
    child.soft_seconds = static_cast<std::uint64_t>(
        std::max<std::int64_t>(1, std::chrono::floor<std::chrono::seconds>(soft).count()));
  }
  child.hard_seconds =
      static_cast<std::uint64_t>(std::max<std::int64_t>(0, config.life_time.count()));
  touch(ike);
  ike.children.push_back(child.inbound_sa);
  inbound_of_outbound_[child.outbound_sa] = child.inbound_sa;
  return children_.add(std::move(child));
}

std::expected<void, Refusal> Core::install(IkeSa& ike, ChildSa& child, const ChildKeys& keys,
                                           bool we_initiated) {
  const crypto::Bytes forward = keys.initiator_to_responder.view();
  const crypto::Bytes backward = keys.responder_to_initiator.view();
  if (forward.size() > channel::kMaxKeyBytes) {
    return std::unexpected(Refusal{NotifyType::no_proposal_chosen,
                                   Failure::dataplane_refused,
                                   child.suite.name() + ": keys too long",
                                   {}});
  }
  child.unconfirmed_in = crypto::SecretBytes(we_initiated ? backward : forward);
  child.unconfirmed_out = crypto::SecretBytes(we_initiated ? forward : backward);
  // Inbound first: nothing may leave that the peer answers on an SA that is not there.
  install_half(ike, child, channel::Direction::in, we_initiated ? backward : forward);
  install_half(ike, child, channel::Direction::out, we_initiated ? forward : backward);
  return {};
}

void Core::install_half(const IkeSa& ike, const ChildSa& child, channel::Direction direction,
                        crypto::Bytes key) {
  const config::Child& config = child_config(child.child_id);
  const bool inbound = direction == channel::Direction::in;
  channel::InstallSa sa;
  sa.sa = inbound ? child.inbound_sa : child.outbound_sa;
  sa.direction = direction;
  sa.mode = child.transport ? channel::SaMode::transport : channel::SaMode::tunnel;
  sa.esn = child.esn;
  sa.udp_encapsulation = child.udp_encapsulation;
  sa.child_id = child.child_id;
  sa.spi = inbound ? child.inbound_spi : child.outbound_spi;
  sa.replay_window = inbound ? config.replay_window : 0;
  sa.suite = child.suite;
  sa.local = ike.local;
  sa.remote = ike.esp_remote();
  if (!sa.udp_encapsulation) sa.local.port = sa.remote.port = 0;
  sa.lifetime = {child.soft_seconds, child.hard_seconds,   config.rekey_bytes,
                 config.life_bytes,  config.rekey_packets, config.life_packets};
  sa.local_selectors = to_set(child.local_selectors);
  sa.remote_selectors = to_set(child.remote_selectors);
  const bool fits = sa.key.assign(key);
  assert(fits);
  static_cast<void>(fits);
  channel::Request message;
  message.type = channel::RequestType::install_sa;
  message.body.install_sa = sa;
  installations_[request(message)] = {sa.sa, inbound ? sa.spi : channel::Spi{}};
  sa.key.wipe();
  message.body.install_sa.key.wipe();
}

/// A child that was just installed. Who asked for it uses it at once: the other side has had it
/// since before it answered. Who answered waits while there is another way to send.
void Core::put_in_use(ChildSa& child, bool we_initiated) {
  const IkeSa& ike = *find_ike(child.ike_spi);
  const bool sending = bindings_.carries(child) || sends_instead(child) != nullptr;
  if (child.redundant) {
    if (!sending) activate(child);
  } else if (stays_behind(child) || has_new_form(child)) {
    // What carries the traffic stays.
  } else if (we_initiated || !sending) {
    activate(child);
  } else {
    child.switch_at = now_ + switch_delay(child);
    child.proof = Proof::request;
    timers_.arm(child.switch_at, TimerKind::switch_outbound,
                static_cast<std::uint64_t>(child.inbound_sa));
  }
  trapped_.erase(child.child_id);
  ConnectionState& state = state_of(*ike.connection);
  state.keep.insert(child.child_id);
  if (state.held_down || !state.held_children.empty()) touch(state);
  state.held_children.erase(child.child_id);
  state.held_down = false;
  if (state.concern.child == child.child_id) clear_failure(state);
  note_narrowing(ike, child);
  if (child.replaced_by == channel::SaId{} && !child.redundant) {
    report(Level::info, "child_established",
           {{"connection", ike.connection->name},
            {"child", child_config(child.child_id).name},
            {"spi_in", spi_text(child.inbound_spi)},
            {"spi_out", spi_text(child.outbound_spi)},
            {"suite", child.suite.name()},
            {"local_ts", text_of(child.local_selectors)},
            {"remote_ts", text_of(child.remote_selectors)}});
  }
  if (child.outdated) {
    // Asked for in the words of an earlier configuration; the answer came after the new form.
    if (has_new_form(child)) retire_outdated(child.child_id);
    return;
  }
  if (child.switch_at == Instant{}) retire_outdated(child.child_id);
  child_is_up(child.child_id);
}

/// What the traffic of this child, or some of it, goes by for now, `leaving` aside.
const ChildSa* Core::sends_instead(const ChildSa& child, channel::SaId leaving) {
  for (const ChildSa* other : children_.of(child.child_id)) {
    if (other == &child || other->inbound_sa == leaving) continue;
    if (other->policy == channel::PolicyId{}) continue;
    if (meet(child, *other)) return other;
  }
  return nullptr;
}

/// From our answer to our own switch, when nothing shows that the answer has arrived. What sends
/// meanwhile may be of an earlier life of the peer, which nobody hears any more, unless it is of
/// the same IKE SA or of one that crossed this one.
std::chrono::milliseconds Core::switch_delay(const ChildSa& child) {
  if (child.replaces) return tuning_.rekey_switch_delay;
  const ChildSa* sending = sends_instead(child);
  const IkeSa* ike = sending != nullptr ? find_ike(sending->ike_spi) : nullptr;
  const bool heard = ike != nullptr && (ike->local_spi == child.ike_spi || ike->redundant);
  return heard ? tuning_.rekey_switch_delay : tuning_.responder_switch_delay;
}

/// The peer has said something new on this IKE SA: what it has from us by then may be sent on.
void Core::answers_arrived(const IkeSa& ike, bool by_request) {
  std::vector<channel::SaId> known;  // hardly ever any
  for (const channel::SaId id : ike.children) {
    const Proof proof = children_.at(id).proof;
    if (proof != Proof::none && (proof != Proof::request || by_request)) known.push_back(id);
  }
  for (const channel::SaId id : known) switch_outbound_now(*find_child(id), true);
}

void Core::switch_outbound_now(ChildSa& child, bool proven) {
  IkeSa& ike = *find_ike(child.ike_spi);
  const bool asks = child.proof == Proof::message ||
                    (child.proof == Proof::answer && sends_instead(child) != nullptr);
  if (!proven && asks && ike.usable()) {
    // Nothing came since our IKE_AUTH answer, which may be lost: whoever answers has it. If nobody
    // does the IKE SA ends, however often our kills begin its tries anew, and what sends now goes
    // on.
    if (!ike.exchange) enqueue(ike, Task{.kind = TaskKind::liveness});
    child.proof = Proof::answer;
    child.switch_at = now_ + tuning_.rekey_switch_delay;
    timers_.arm(child.switch_at, TimerKind::switch_outbound,
                static_cast<std::uint64_t>(child.inbound_sa));
    return;
  }
  child.proof = Proof::none;
  child.switch_at = {};
  const bool goes = child.state == ChildState::replaced || child.state == ChildState::deleting;
  if (goes || child.redundant || gives_way(child)) return;
  if (stays_behind(child) || has_new_form(child)) return;
  activate(child);
  if (is_live(child)) retire_outdated(child.child_id);
}

/// What is older takes over from nothing that holds the traffic, and from nothing at all when it is
/// outdated. A child of an IKE SA that lost against another takes over from what an earlier life
/// left and from what goes with its own IKE SA, not from a child that stays.
bool Core::stays_behind(const ChildSa& child) {
  const ChildSa* newer = sends_instead(child);
  if (newer != nullptr && newer->created > child.created &&
      (child.outdated || holds_traffic(*newer))) {
    return true;
  }
  const IkeSa* ike = find_ike(child.ike_spi);
  if (ike == nullptr || !ike->redundant) return false;
  const PolicyBinding* bound = bindings_.find(child);
  const ChildSa* sending = bound != nullptr ? child_of_sa(bound->outbound) : nullptr;
  return sending != nullptr && holds_traffic(*sending);
}
/// What the peer's life before left takes over only where nothing of its life now stands: the
/// answer that made it may not have arrived, and nobody asks for it any more.
bool Core::gives_way(const ChildSa& child) const {
  const IkeSa* ike = find_ike(child.ike_spi);
  if (ike == nullptr || ike->state != IkeState::superseded) return false;
  return std::ranges::any_of(children_.of(child.child_id), [&](const ChildSa* other) {
    const IkeSa* its = find_ike(other->ike_spi);
    const bool stands =
        other->state == ChildState::installed || other->state == ChildState::rekeying;
    return its != nullptr && its->state == IkeState::established && stands && !other->redundant &&
           meet(child, *other);
  });
}
/// It sends until its successor may: nothing older comes between.
bool Core::holds_traffic(const ChildSa& sending) const {
  if (is_live(sending)) return true;
  return sending.state == ChildState::replaced && children_.contains(sending.replaced_by) &&
         is_live(children_.at(sending.replaced_by));
}

/// Outbound traffic goes to this child from now on.
void Core::activate(ChildSa& child) {
  touched_.insert(child.ike_spi);
  child.switch_at = {};
  child.proof = Proof::none;
  if (const PolicyBinding* binding = bindings_.find(child)) {
    if (binding->outbound == child.outbound_sa) return;
    if (ChildSa* before = child_of_sa(binding->outbound)) before->policy = {};
    bindings_.switch_to(*binding, child.outbound_sa);
    child.policy = binding->policy;
    switch_outbound(child);
  } else {
    PolicyBinding fresh;
    fresh.policy = channel::PolicyId{next_policy_++};
    fresh.child_id = child.child_id;
    fresh.outbound = child.outbound_sa;
    fresh.local_selectors = child.local_selectors;
    fresh.remote_selectors = child.remote_selectors;
    child.policy = fresh.policy;
    install_policy(child);
    bindings_.add(std::move(fresh));
  }
  retire_adopted(child.child_id, now_ + tuning_.adopted_sa_grace);
}

void Core::install_policy(const ChildSa& child) {
  channel::Request message;
  message.type = channel::RequestType::install_policy;
  message.body.install_policy = {child.policy, child.child_id, child.outbound_sa,
                                 to_set(child.local_selectors), to_set(child.remote_selectors)};
  request(message);
}
void Core::switch_outbound(const ChildSa& child) {
  channel::Request message;
  message.type = channel::RequestType::switch_outbound;
  message.body.switch_outbound = {child.policy, child.outbound_sa};
  request(message);
}

/// The child stops sending: another one with the same selectors takes over, or the policy goes and
/// the trap behind it holds the traffic.
void Core::release_outbound(const ChildSa& child) {
  const PolicyBinding* bound = bindings_.find(child.outbound_sa);
  if (bound == nullptr) return;
  ChildSa* substitute = nullptr;
  for (ChildSa* other : children_.like(child)) {
    if (other->inbound_sa == child.inbound_sa || other->redundant) continue;
    if (other->state != ChildState::installed && other->state != ChildState::rekeying) continue;
    if (gives_way(*other)) continue;
    // One that is outdated, or of an IKE SA that lost, only where there is no other.
    if (substitute == nullptr ||
        std::tuple(!other->outdated, is_live(*other), other->created) >=
            std::tuple(!substitute->outdated, is_live(*substitute), substitute->created)) {
      substitute = other;
    }
  }
  if (substitute != nullptr) {
    activate(*substitute);
    if (is_live(*substitute)) retire_outdated(child.child_id);
    return;
  }
  // One of other selectors that has waited, for this one or for a sign of the peer: here it is.
  for (ChildSa* other : children_.of(child.child_id)) {
    const bool stands =
        other->state == ChildState::installed || other->state == ChildState::rekeying;
    if (other->inbound_sa == child.inbound_sa || other->redundant || !stands) continue;
    if (other->policy != channel::PolicyId{} || !meet(*other, child) || gives_way(*other)) continue;
    if (sends_instead(*other, child.inbound_sa) != nullptr) continue;
    activate(*other);
    if (is_live(*other)) retire_outdated(child.child_id);
  }
  bound = bindings_.find(child.outbound_sa);
  if (bound == nullptr) return;
  delete_policy(bound->policy);
  bindings_.erase(bound->policy);
  if (ChildSa* stays = find_child(child.inbound_sa)) stays->policy = {};
}

void Core::retire(channel::SaId id, bool with_grace) {
  if (!children_.contains(id)) return;
  const ChildSa child = children_.take(id);
  touched_.insert(child.ike_spi);
  if (!shutting_down_) {
    release_outbound(child);
    if (with_grace) {
      delete_sa_later(child.inbound_sa, child.child_id, now_ + tuning_.old_sa_grace);
      delete_sa_later(child.outbound_sa, child.child_id, now_ + tuning_.old_sa_grace);
    } else {
      delete_sa(child.inbound_sa);
      delete_sa(child.outbound_sa);
    }
  }
  if (IkeSa* ike = find_ike(child.ike_spi)) std::erase(ike->children, id);
  inbound_of_outbound_.erase(child.outbound_sa);
  if (child.lease_left) environment_.spis->give_back(child.inbound_spi);
}

void Core::delete_sa(channel::SaId sa) {
  channel::Request message;
  message.type = channel::RequestType::delete_sa;
  message.body.delete_sa = {sa};
  request(message);
}
void Core::delete_policy(channel::PolicyId policy) {
  channel::Request message;
  message.type = channel::RequestType::delete_policy;
  message.body.delete_policy = {policy};
  request(message);
}
void Core::delete_sa_later(channel::SaId sa, config::ChildId child_id, Instant when) {
  retired_.emplace(sa, child_id);
  timers_.arm(when, TimerKind::delete_sa, static_cast<std::uint64_t>(sa));
}

/// What waits for its grace to end goes now: nothing of the connection is to carry traffic.
void Core::end_graces(const config::Connection& connection) {
  std::erase_if(retired_, [&](const auto& entry) {
    if (connection_index_.connection_of_child(entry.second) != &connection) return false;
    delete_sa(entry.first);
    return true;
  });
}

/// What an earlier life of the key daemon left for this child: its policies now, its SAs at `when`.
void Core::retire_adopted(config::ChildId child_id, Instant when) {
  for (const channel::PolicyId policy : bindings_.take_adopted(child_id)) delete_policy(policy);
  std::erase_if(adopted_, [&](const auto& entry) {
    if (entry.second.child_id != child_id) return false;
    delete_sa_later(entry.first, child_id, when);
    return true;
  });
}

ChildSa* Core::find_child(channel::SaId inbound) {
  ChildSa* child = children_.find(inbound);
  if (child != nullptr) touched_.insert(child->ike_spi);
  return child;
}
ChildSa* Core::find_child_by_outbound(const IkeSa& ike, std::uint32_t spi) {
  for (const channel::SaId id : ike.children) {
    ChildSa* child = find_child(id);
    if (child != nullptr && child->outbound_spi == channel::Spi{spi}) return child;
  }
  return nullptr;
}
ChildSa* Core::child_of_sa(channel::SaId either_half) {
  const auto outbound = inbound_of_outbound_.find(either_half);
  return find_child(outbound != inbound_of_outbound_.end() ? outbound->second : either_half);
}

bool Core::is_live(const ChildSa& child) const {
  if (child.redundant || child.outdated) return false;
  if (child.state != ChildState::installed && child.state != ChildState::rekeying) return false;
  const IkeSa* ike = find_ike(child.ike_spi);
  // One that came again under a removed connection's name has the same children: not up by these.
  return ike != nullptr && ike->usable() && !is_ghost(*ike->connection);
}
/// Of this IKE SA, also when it lost against another: what both sides would make once more.
const ChildSa* Core::standing_on(const IkeSa& ike, config::ChildId child_id) const {
  for (const channel::SaId id : ike.children) {
    const ChildSa& child = children_.at(id);
    const bool stands = child.state == ChildState::installed || child.state == ChildState::rekeying;
    if (child.child_id == child_id && stands && !child.redundant && !child.outdated) return &child;
  }
  return nullptr;
}
/// The configuration has changed, and what it asks for now stands: this one is about to go.
bool Core::has_new_form(const ChildSa& child) const {
  return child.outdated && live_child(child.child_id) != nullptr;
}
const ChildSa* Core::live_child(config::ChildId child_id) const {
  const auto all = children_.of(child_id);
  const auto live = std::ranges::find_if(all, [&](const ChildSa* one) { return is_live(*one); });
  return live == all.end() ? nullptr : *live;
}

void Core::installation_failed(const Installation& half, channel::Outcome outcome) {
  ChildSa* child = child_of_sa(half.sa);
  if (half.inbound_spi != channel::Spi{} && outcome != channel::Outcome::spi_not_leased) {
    if (child == nullptr) {
      environment_.spis->give_back(half.inbound_spi);
    } else {
      child->lease_left = true;
    }
  }
  // One that has lost a collision meanwhile goes already.
  if (child == nullptr || child->state == ChildState::deleting) return;
  IkeSa* ike = find_ike(child->ike_spi);
  if (ike == nullptr) return;
  const std::string detail = child_config(child->child_id).name + ", SPI " +
                             spi_text(child->inbound_spi) + ": " +
                             std::string(channel::to_string(outcome));
  fail(ike->connection, Failure::dataplane_refused, detail, Level::error, child->child_id);
  child_is_not_coming(child->child_id, detail);
  // The peer believes in it: it has to go there too. What it was to replace goes on where it still
  // stands.
  child->redundant = true;
  take_back_replaced(*child);
  release_outbound(*child);
  enqueue(*ike, Task{.kind = TaskKind::delete_child, .child = child->inbound_sa}, true);
  plan_retry(state_of(*ike->connection));
}

}  // namespace culvert::ike
