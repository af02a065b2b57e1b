// The policies in force: the configured ones and those the key daemon negotiated, published to the
// workers as one ordered list.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "config/config.hpp"
#include "dataplane/control/policy_list.hpp"
#include "dataplane/control/rule_budget.hpp"
#include "dataplane/tables/tables.hpp"

namespace culvert::dataplane::control {

class PolicyBook {
 public:
  PolicyBook(Tables& tables, const config::Config& config, const ChildDirectory& children)
      : tables_(tables), config_(config), children_(children) {
    budget_.begin(config_, children_, {}, {});
  }

  /// Builds the list anew and swaps it in, with what is done with the rest: after a start or a
  /// reload. The key daemon's policies come and go one by one.
  /// `before_swap`: as of Spd::replace.
  void publish(const std::function<void()>& before_swap = {});
  /// Those of manual SAs, in order, from the next `publish` on.
  void set_manual(std::vector<ManualPolicy> policies) { manual_ = std::move(policies); }

  /// The key daemon can narrow a configured child, never widen it: the configuration is the
  /// authority over what is protected by whom. `no_room` beyond limits.policies, and beyond what
  /// searches may cost (RuleBudget).
  channel::Outcome install(const channel::InstallPolicy& request);
  channel::Outcome switch_outbound(const channel::SwitchOutbound& request);
  channel::Outcome remove(channel::PolicyId policy);

  [[nodiscard]] const NegotiatedPolicies& negotiated() const { return negotiated_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] const RuleBudget& budget() const { return budget_; }

 private:
  /// An installed outbound SA of this child; nullptr otherwise.
  [[nodiscard]] const SaRecord* outbound(channel::SaId sa, ChildId child_id) const;
  [[nodiscard]] std::optional<std::string> why_over_budget(const NegotiatedPolicy& policy,
                                                           const PolicyEntry& entry) const;

  Tables& tables_;
  const config::Config& config_;
  const ChildDirectory& children_;
  NegotiatedPolicies negotiated_;
  RuleBudget budget_;
  std::vector<ManualPolicy> manual_;
  std::uint64_t next_rank_ = 0;
  std::size_t size_ = 0;
};

}  // namespace culvert::dataplane::control
