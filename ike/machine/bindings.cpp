#include "ike/machine/bindings.hpp"

#include <algorithm>

namespace culvert::ike {
namespace {

template <typename Entries, typename Key>
void erase_entry(Entries& entries, const Key& key, channel::PolicyId policy) {
  auto [first, last] = entries.equal_range(key);
  entries.erase(std::find_if(first, last, [&](const auto& one) { return one.second == policy; }));
}

}  // namespace

void Bindings::add(PolicyBinding binding) {
  const auto [place, added] = all_.emplace(binding.policy, std::move(binding));
  if (!added) return;
  const PolicyBinding& here = place->second;
  by_outbound_.emplace(here.outbound, here.policy);
  if (here.adopted) {
    adopted_.emplace(here.child_id, here.policy);
  } else {
    by_selectors_.insert(&here);
  }
}

const PolicyBinding* Bindings::find(const ChildSa& child) const {
  const auto found = by_selectors_.find(&child);
  return found == by_selectors_.end() ? nullptr : *found;
}

const PolicyBinding* Bindings::find(channel::SaId outbound) const {
  const auto found = by_outbound_.find(outbound);
  return found == by_outbound_.end() ? nullptr : &all_.at(found->second);
}

const PolicyBinding* Bindings::find(channel::PolicyId policy) const {
  const auto found = all_.find(policy);
  return found == all_.end() ? nullptr : &found->second;
}

bool Bindings::carries(const ChildSa& child) const {
  return adopted_.contains(child.child_id) || find(child) != nullptr;
}

void Bindings::switch_to(const PolicyBinding& binding, channel::SaId outbound) {
  PolicyBinding& here = all_.at(binding.policy);
  erase_entry(by_outbound_, here.outbound, here.policy);
  here.outbound = outbound;
  by_outbound_.emplace(outbound, here.policy);
}

void Bindings::erase(channel::PolicyId policy) {
  const auto found = all_.find(policy);
  if (found == all_.end()) return;
  const PolicyBinding& here = found->second;
  erase_entry(by_outbound_, here.outbound, policy);
  if (here.adopted) {
    erase_entry(adopted_, here.child_id, policy);
  } else {
    auto [like, beyond] = by_selectors_.equal_range(&here);
    by_selectors_.erase(std::find(like, beyond, &here));
  }
  all_.erase(found);
}

std::vector<channel::PolicyId> Bindings::take_adopted(config::ChildId child_id) {
  std::vector<channel::PolicyId> taken;
  const auto [first, last] = adopted_.equal_range(child_id);
  for (auto at = first; at != last; ++at) taken.push_back(at->second);
  for (const channel::PolicyId policy : taken) erase(policy);
  return taken;
}

void Bindings::clear() { *this = {}; }

}  // namespace culvert::ike
