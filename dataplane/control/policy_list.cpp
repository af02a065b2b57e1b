#include "dataplane/control/policy_list.hpp"

#include <algorithm>

namespace culvert::dataplane::control {
namespace {

/// Sections of the list: explicit policies, each child's in the order of the file, those of
/// children that it has no more, manual SAs.
constexpr std::uint64_t kExplicitSection = 0;
constexpr std::uint64_t kManualSection = ~std::uint64_t{0};
constexpr std::uint64_t kRemovedSection = kManualSection - 1;
std::uint64_t section_of_child(ChildId child, const ChildDirectory& children) {
  const auto position = children.position(child);
  return position ? std::uint64_t{*position} + 1 : kRemovedSection;
}
/// Of a child's section: what was negotiated stands in front of it, the newest first.
constexpr std::uint64_t kTrapPlace = ~std::uint64_t{0};

PolicyEntry explicit_entry(const config::Policy& policy, std::uint64_t place) {
  PolicyEntry entry;
  entry.rank = {kExplicitSection, place};
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

PolicyEntry trap_entry(const config::Child& child, const ChildDirectory& children) {
  PolicyEntry entry;
  entry.rank = {section_of_child(child.id, children), kTrapPlace};
  entry.origin = PolicyOrigin::trap;
  entry.action = PolicyAction::protect;
  entry.child_id = child.id;
  entry.local = child.local_ts;
  entry.remote = child.remote_ts;
  return entry;
}

PolicyEntry manual_entry(const ManualPolicy& policy, std::uint64_t place) {
  PolicyEntry entry;
  entry.rank = {kManualSection, place};
  entry.origin = PolicyOrigin::manual;
  entry.action = PolicyAction::protect;
  entry.child_id = policy.child_id;
  entry.local = policy.local;
  entry.remote = policy.remote;
  entry.outbound = policy.outbound;
  return entry;
}

}  // namespace

PolicyEntry negotiated_entry(channel::PolicyId id, const NegotiatedPolicy& policy,
                             const ChildDirectory& children) {
  PolicyEntry entry;
  entry.rank = {section_of_child(policy.child_id, children), kTrapPlace - 1 - policy.age_rank};
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.child_id = policy.child_id;
  entry.policy = id;
  entry.local = policy.local;
  entry.remote = policy.remote;
  entry.outbound = policy.outbound;
  return entry;
}

std::vector<PolicyEntry> ordered_policies(const config::Config& config,
                                          const ChildDirectory& children,
                                          const NegotiatedPolicies& negotiated,
                                          const std::vector<ManualPolicy>& manual) {
  std::vector<PolicyEntry> entries;
  entries.reserve(config.policies.size());  // and more
  for (const config::Policy& policy : config.policies) {
    entries.push_back(explicit_entry(policy, entries.size()));
  }
  for (const config::Connection& connection : config.connections) {
    for (const config::Child& child : connection.children) {
      // Nothing is known of traffic towards a peer that may have any address.
      if (!child.remote_ts.empty()) entries.push_back(trap_entry(child, children));
    }
  }
  for (const auto& [id, policy] : negotiated) {
    entries.push_back(negotiated_entry(id, policy, children));
  }
  for (const ManualPolicy& policy : manual) entries.push_back(manual_entry(policy, entries.size()));
  std::ranges::sort(entries, {}, &PolicyEntry::rank);
  return entries;
}

std::vector<wire::TrafficSelector> selectors_of(const channel::SelectorSet& set) {
  const auto count = std::min<std::size_t>(set.count, set.items.size());
  return {set.items.begin(), set.items.begin() + static_cast<std::ptrdiff_t>(count)};
}

}  // namespace culvert::dataplane::control
