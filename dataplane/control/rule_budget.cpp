#include "dataplane/control/rule_budget.hpp"

#include <algorithm>

#include "config/limits.hpp"

namespace culvert::dataplane::control {
namespace {

using Selectors = std::vector<wire::TrafficSelector>;
namespace limits = config::limits;

/// An IKE SA may follow another one of the same peer before that goes.
constexpr std::size_t kIkeSasOfPeer = 2;

/// A side as the key daemon means it: an empty one is the peer's address, or ours.
Selectors named(const Selectors& configured) {
  if (!configured.empty()) return configured;
  Selectors hosts;
  for (const wire::Family family : {wire::Family::v4, wire::Family::v6}) {
    wire::TrafficSelector& host = hosts.emplace_back(wire::TrafficSelector::everything(family));
    host.last = host.first;
  }
  return hosts;
}

/// In transport mode a selector that holds an end's address is that address.
Selectors hosts_of(Selectors selectors) {
  for (wire::TrafficSelector& one : selectors) one.last = one.first;
  return selectors;
}

std::size_t beyond(std::size_t rules, std::size_t free) { return rules > free ? rules - free : 0; }

}  // namespace

void RuleBudget::know_shapes(const Selectors& local, const Selectors& remote) {
  for (const wire::RuleShape shape : wire::shapes_between(local, remote)) {
    configured_.insert(shape);
  }
}

void RuleBudget::know_shapes(const config::Child& child) {
  const Selectors local = named(child.local_ts), remote = named(child.remote_ts);
  know_shapes(local, remote);
  if (child.mode == config::Mode::tunnel) return;
  know_shapes(hosts_of(local), remote);
  know_shapes(local, hosts_of(remote));
  know_shapes(hosts_of(local), hosts_of(remote));
}

void RuleBudget::know(ChildId id, const ChildDirectory& children) {
  const ChildName& name = children.name(id);
  Child& child = children_[id];
  child.connection = name.connection;
  child.has_one_peer = name.started_by != StartedBy::peer;
  const config::Child* const configured = children.find(id);
  if (configured == nullptr) return;
  child.free_rules =
      2 * wire::rules_between(named(configured->local_ts), named(configured->remote_ts));
  know_shapes(*configured);
}

void RuleBudget::begin(const config::Config& config, const ChildDirectory& children,
                       const std::vector<PolicyEntry>& in_force,
                       const NegotiatedPolicies& negotiated) {
  *this = {};
  most_rules_ = limits::kRulesPerPolicy * config.dataplane.limits.policies;
  for (const ChildId id : children.in_order()) know(id, children);
  for (const PolicyEntry& entry : in_force) {
    if (entry.origin != PolicyOrigin::negotiated) know_shapes(entry.local, entry.remote);
  }
  for (const auto& [id, policy] : negotiated) {
    if (!children_.contains(policy.child_id)) know(policy.child_id, children);
    take(policy);
  }
}

std::vector<wire::RuleShape> RuleBudget::new_shapes(const NegotiatedPolicy& policy) const {
  auto shapes = wire::shapes_between(policy.local, policy.remote);
  std::erase_if(shapes, [&](wire::RuleShape shape) { return configured_.contains(shape); });
  return shapes;
}

std::optional<std::string> RuleBudget::why_not(const NegotiatedPolicy& policy) const {
  const auto known = children_.find(policy.child_id);
  if (known == children_.end()) return "its child is not known";
  const Child& child = known->second;
  const std::size_t rules = child.rules + wire::rules_between(policy.local, policy.remote);
  const std::size_t more = beyond(rules, child.free_rules) - beyond(child.rules, child.free_rules);
  const auto found = peers_.find(child.connection);
  const Peer* const peer = child.has_one_peer && found != peers_.end() ? &found->second : nullptr;
  const std::size_t of_peer = child.has_one_peer ? more + (peer != nullptr ? peer->rules : 0) : 0;
  if (more > 0 && of_peer > kIkeSasOfPeer * limits::kRulesOfPeer) {
    return "more than " + std::to_string(kIkeSasOfPeer * limits::kRulesOfPeer) +
           " rules of one peer, beyond what is configured";
  }
  if (more > 0 && rules_ + more > most_rules_) {
    return "more than " + std::to_string(most_rules_) + " rules, " +
           std::to_string(limits::kRulesPerPolicy) + " for each of limits.policies";
  }
  const auto shapes = new_shapes(policy);
  const auto and_new = [&](const Shapes& known_shapes) {
    const auto is_new = [&](wire::RuleShape shape) { return !known_shapes.contains(shape); };
    const auto count = static_cast<std::size_t>(std::ranges::count_if(shapes, is_new));
    return count == 0 ? 0 : known_shapes.size() + count;
  };
  const Shapes none;
  if (child.has_one_peer &&
      and_new(peer != nullptr ? peer->shapes : none) > kIkeSasOfPeer * limits::kShapesOfPeer) {
    return "more than " + std::to_string(kIkeSasOfPeer * limits::kShapesOfPeer) +
           " shapes of one peer's selectors, beyond what is configured";
  }
  if (and_new(shapes_) > limits::kShapesOfAll) {
    return "more than " + std::to_string(limits::kShapesOfAll) +
           " shapes of selectors, beyond what is configured";
  }
  return std::nullopt;
}

void RuleBudget::take(const NegotiatedPolicy& policy) {
  Child& child = children_[policy.child_id];
  const std::size_t before = beyond(child.rules, child.free_rules);
  child.rules += wire::rules_between(policy.local, policy.remote);
  const std::size_t more = beyond(child.rules, child.free_rules) - before;
  rules_ += more;
  Peer* const peer = child.has_one_peer ? &peers_[child.connection] : nullptr;
  if (peer != nullptr) peer->rules += more;
  for (const wire::RuleShape shape : new_shapes(policy)) {
    ++shapes_[shape];
    if (peer != nullptr) ++peer->shapes[shape];
  }
}

void RuleBudget::give_back(const NegotiatedPolicy& policy) {
  Child& child = children_[policy.child_id];
  const std::size_t before = beyond(child.rules, child.free_rules);
  child.rules -= wire::rules_between(policy.local, policy.remote);
  const std::size_t less = before - beyond(child.rules, child.free_rules);
  rules_ -= less;
  Peer* const peer = child.has_one_peer ? &peers_[child.connection] : nullptr;
  if (peer != nullptr) peer->rules -= less;
  const auto forget = [](Shapes& shapes, wire::RuleShape shape) {
    const auto found = shapes.find(shape);
    if (found != shapes.end() && --found->second == 0) shapes.erase(found);
  };
  for (const wire::RuleShape shape : new_shapes(policy)) {
    forget(shapes_, shape);
    if (peer != nullptr) forget(peer->shapes, shape);
  }
}

}  // namespace culvert::dataplane::control
