#include "dataplane/control/policy_list.hpp"

#include <algorithm>

namespace culvert::dataplane::control {
namespace {

PolicyEntry explicit_entry(const config::Policy& policy) {
  PolicyEntry entry;
  entry.origin = PolicyOrigin::configured;
  switch (policy.action) {
    case config::PolicyAction::bypass:
      entry.action = PolicyAction::bypass;
      break;
    case config::PolicyAction::discard:
      entry.action = PolicyAction::discard;
      break;
  }
  entry.local = {policy.source};
  entry.remote = {policy.destination};
  return entry;
}

PolicyEntry trap_entry(const config::Child& child) {
  PolicyEntry entry;
  entry.origin = PolicyOrigin::trap;
  entry.action = PolicyAction::protect;
  entry.child_index = child.index;
  entry.local = child.local_ts;
  entry.remote = child.remote_ts;
  return entry;
}

void add_negotiated(std::vector<PolicyEntry>& entries, std::uint32_t child_index,
                    const NegotiatedPolicies& negotiated) {
  std::vector<std::pair<std::uint64_t, PolicyEntry>> of_child;
  for (const auto& [id, policy] : negotiated) {
    if (policy.child_index != child_index) continue;
    PolicyEntry entry;
    entry.origin = PolicyOrigin::negotiated;
    entry.action = PolicyAction::protect;
    entry.child_index = child_index;
    entry.policy = id;
    entry.local = policy.local;
    entry.remote = policy.remote;
    entry.outbound = policy.outbound;
    of_child.emplace_back(policy.age_rank, std::move(entry));
  }
  std::ranges::sort(of_child, [](const auto& a, const auto& b) { return a.first > b.first; });
  for (auto& [rank, entry] : of_child) entries.push_back(std::move(entry));
}

}  // namespace

std::vector<PolicyEntry> ordered_policies(const config::Config& config,
                                          const NegotiatedPolicies& negotiated,
                                          const std::vector<ManualPolicy>& manual) {
  std::vector<PolicyEntry> entries;
  for (const config::Policy& policy : config.policies) entries.push_back(explicit_entry(policy));
  std::vector<const config::Child*> children;
  for (const config::Connection& connection : config.connections) {
    for (const config::Child& child : connection.children) children.push_back(&child);
  }
  std::ranges::sort(children, {}, &config::Child::index);
  for (const config::Child* child : children) {
    add_negotiated(entries, child->index, negotiated);
    entries.push_back(trap_entry(*child));
  }
  for (const ManualPolicy& policy : manual) {
    PolicyEntry entry;
    entry.origin = PolicyOrigin::manual;
    entry.action = PolicyAction::protect;
    entry.child_index = policy.child_index;
    entry.local = policy.local;
    entry.remote = policy.remote;
    entry.outbound = policy.outbound;
    entries.push_back(std::move(entry));
  }
  return entries;
}

bool within(const std::vector<wire::TrafficSelector>& narrowed,
            const std::vector<wire::TrafficSelector>& configured) {
  return std::ranges::all_of(narrowed, [&](const wire::TrafficSelector& inner) {
    return std::ranges::any_of(
        configured, [&](const wire::TrafficSelector& outer) { return outer.covers(inner); });
  });
}

std::vector<wire::TrafficSelector> selectors_of(const channel::SelectorSet& set) {
  const auto count = std::min<std::size_t>(set.count, set.items.size());
  return {set.items.begin(), set.items.begin() + static_cast<std::ptrdiff_t>(count)};
}

}  // namespace culvert::dataplane::control
