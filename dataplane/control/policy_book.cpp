#include "dataplane/control/policy_book.hpp"

#include "config/limits.hpp"
#include "runtime/log.hpp"

namespace culvert::dataplane::control {

using channel::Outcome;

void PolicyBook::publish(const std::function<void()>& before_swap) {
  // A slot whose SA was deleted must not be named again: another SA may own it by now.
  for (auto& [id, policy] : negotiated_) {
    const SaRecord* const record = outbound(policy.outbound_sa, policy.child_id);
    policy.outbound = record == nullptr ? kNoSlot : record->slot;
  }
  auto entries = ordered_policies(config_, children_, negotiated_, manual_);
  size_ = entries.size();
  budget_.begin(config_, children_, entries, negotiated_);
  tables_.spd->replace(std::move(entries), config_.default_policy, before_swap);
}

const SaRecord* PolicyBook::outbound(channel::SaId sa, ChildId child_id) const {
  const SaRecord* const record = tables_.sad->find(sa);
  const bool fits = record != nullptr && record->spec.direction == channel::Direction::out &&
                    record->spec.child_id == child_id;
  return fits ? record : nullptr;
}

Outcome PolicyBook::install(const channel::InstallPolicy& request) {
  if (negotiated_.contains(request.policy)) return Outcome::duplicate;
  const config::Child* const child = children_.find(request.child_id);
  if (child == nullptr) return Outcome::invalid_field;
  const SaRecord* const record = outbound(request.outbound, request.child_id);
  if (record == nullptr) return Outcome::unknown_sa;

  NegotiatedPolicy policy;
  policy.outbound_sa = request.outbound;
  policy.child_id = request.child_id;
  policy.outbound = record->slot;
  policy.local = selectors_of(request.local_selectors);
  policy.remote = selectors_of(request.remote_selectors);
  policy.age_rank = next_rank_++;
  // A side without selectors is an end's address, which the SA has (Associations::install).
  const auto fits = [](const auto& negotiated, const auto& configured, const auto& of_sa) {
    return wire::covers(configured.empty() ? selectors_of(of_sa) : configured, negotiated);
  };
  if (!fits(policy.local, child->local_ts, record->spec.local_selectors) ||
      !fits(policy.remote, child->remote_ts, record->spec.remote_selectors)) {
    return Outcome::invalid_field;
  }
  if (size_ >= config_.dataplane.limits.policies) return Outcome::no_room;
  PolicyEntry entry = negotiated_entry(request.policy, policy, children_);
  if (const auto refused = why_over_budget(policy, entry)) {
    runtime::log(runtime::Level::warning, "policy_refused",
                 {{"connection", children_.name(policy.child_id).connection},
                  {"child", children_.name(policy.child_id).child},
                  {"remote", record->spec.remote.address.to_string()},
                  {"reason", *refused}});
    return Outcome::over_budget;
  }
  tables_.spd->insert(std::move(entry));
  budget_.take(policy);
  ++size_;
  negotiated_.emplace(request.policy, std::move(policy));
  return Outcome::ok;
}

/// What every search would pay for, and what those would that look for a packet of it.
std::optional<std::string> PolicyBook::why_over_budget(const NegotiatedPolicy& policy,
                                                       const PolicyEntry& entry) const {
  if (auto refused = budget_.why_not(policy)) return refused;
  const std::size_t rules = wire::rules_between(policy.local, policy.remote);
  if (tables_.spd->most_alike(entry) + rules <= config::limits::kRulesAlike) return std::nullopt;
  return "more than " + std::to_string(config::limits::kRulesAlike) +
         " rules of its child that are compared one by one";
}

Outcome PolicyBook::switch_outbound(const channel::SwitchOutbound& request) {
  const auto found = negotiated_.find(request.policy);
  if (found == negotiated_.end()) return Outcome::unknown_policy;
  const SaRecord* const record = outbound(request.outbound, found->second.child_id);
  if (record == nullptr) return Outcome::unknown_sa;
  if (!tables_.spd->rebind(request.policy, record->slot)) return Outcome::unknown_policy;
  found->second.outbound_sa = request.outbound;
  found->second.outbound = record->slot;
  return Outcome::ok;
}

Outcome PolicyBook::remove(channel::PolicyId policy) {
  const auto found = negotiated_.find(policy);
  if (found == negotiated_.end()) return Outcome::unknown_policy;
  budget_.give_back(found->second);
  negotiated_.erase(found);
  if (tables_.spd->erase(policy)) --size_;
  return Outcome::ok;
}

}  // namespace culvert::dataplane::control
