// Which child the traffic goes by: policies installed, switched and released, make before break.
#include <algorithm>
#include <tuple>
#include <utility>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

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
}

void Core::install_policy(const ChildSa& child) {
  channel::Request message;
  message.type = channel::RequestType::install_policy;
  message.body.install_policy = {child.policy, child.child_id, child.outbound_sa,
                                 selector_set(child.local_selectors),
                                 selector_set(child.remote_selectors)};
  installations_[request(message)] = {.kind = message.type,
                                      .sa = child.outbound_sa,
                                      .policy = child.policy,
                                      .child_id = child.child_id};
}
void Core::switch_outbound(const ChildSa& child) {
  channel::Request message;
  message.type = channel::RequestType::switch_outbound;
  message.body.switch_outbound = {child.policy, child.outbound_sa};
  installations_[request(message)] = {.kind = message.type,
                                      .sa = child.outbound_sa,
                                      .policy = child.policy,
                                      .child_id = child.child_id};
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
  activate_waiting(child);
  bound = bindings_.find(child.outbound_sa);
  if (bound == nullptr) return;
  delete_policy(bound->policy);
  bindings_.erase(bound->policy);
  if (ChildSa* stays = find_child(child.inbound_sa)) stays->policy = {};
}

/// One that has waited, for `leaving` or for a sign of the peer: here it is.
void Core::activate_waiting(const ChildSa& leaving) {
  for (ChildSa* other : children_.of(leaving.child_id)) {
    const bool stands =
        other->state == ChildState::installed || other->state == ChildState::rekeying;
    if (other->inbound_sa == leaving.inbound_sa || other->redundant || !stands) continue;
    if (other->policy != channel::PolicyId{} || !meet(*other, leaving) || gives_way(*other))
      continue;
    if (sends_instead(*other, leaving.inbound_sa) != nullptr) continue;
    activate(*other);
    if (is_live(*other)) retire_outdated(leaving.child_id);
  }
}

/// The answer to InstallPolicy or SwitchOutbound. What an earlier life left goes when the new way
/// stands, and not before.
void Core::policy_answered(const Installation& asked, channel::Outcome outcome) {
  if (outcome == channel::Outcome::ok) {
    retire_adopted(asked.child_id, now_ + tuning_.adopted_sa_grace);
    return;
  }
  const bool installs = asked.kind == channel::RequestType::install_policy;
  const PolicyBinding* bound = bindings_.find(asked.policy);
  // Given up meanwhile, or what came after it decides.
  if (bound == nullptr || (!installs && bound->outbound != asked.sa)) return;
  const bool still_meant = bound->outbound == asked.sa;
  ChildSa* child = child_of_sa(bound->outbound);
  if (installs || outcome == channel::Outcome::unknown_policy) {
    if (child != nullptr) child->policy = {};
    bindings_.erase(asked.policy);
  }
  if (child == nullptr || child->redundant || child->state == ChildState::deleting) return;
  // For one over the budget nothing goes in advance: it may be refused again, and the old one with
  // it would leave its traffic to the default policy.
  const bool again = outcome == channel::Outcome::no_room && !std::exchange(child->made_room, true);
  if (again) make_room(*child);
  if (again || !still_meant) {
    activate(*child);
    return;
  }
  not_installed(*child, "the policy of SPI " + spi_text(child->inbound_spi) + ": " +
                            std::string(channel::to_string(outcome)));
}

/// There may be room for a trap and one policy for each child and no more: what the new one comes
/// in place of goes first, if it does not go already, and packets wait in the trap for a moment.
void Core::make_room(const ChildSa& child) {
  std::vector<channel::PolicyId> going = bindings_.take_adopted(child.child_id);
  for (ChildSa* other : children_.of(child.child_id)) {
    const bool goes =
        (other->outdated && !child.outdated) || other->replaced_by == child.inbound_sa;
    if (other == &child || !goes || other->policy == channel::PolicyId{}) continue;
    touched_.insert(other->ike_spi);
    going.push_back(std::exchange(other->policy, {}));
    bindings_.erase(going.back());
  }
  for (const channel::PolicyId policy : going) delete_policy(policy);
}

}  // namespace culvert::ike
