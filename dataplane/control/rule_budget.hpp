// How much of every search the key daemon's policies may cost. Policies are counted by
// limits.policies; a search pays for rules, of which one policy has up to 512, and for shapes
// (docs/decisions/0017). Pure.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "config/config.hpp"
#include "dataplane/control/child_directory.hpp"
#include "dataplane/control/policy_list.hpp"
#include "wire/selector_rules.hpp"

namespace culvert::dataplane::control {

class RuleBudget {
 public:
  /// Begins anew: after a start or a reload. `in_force`: the whole list of policies, whose
  /// configured shapes cost nothing; those of `negotiated` are counted, whether they fit or not.
  void begin(const config::Config& config, const ChildDirectory& children,
             const std::vector<PolicyEntry>& in_force, const NegotiatedPolicies& negotiated);

  /// What stands against one more policy, in words; nullopt: nothing.
  [[nodiscard]] std::optional<std::string> why_not(const NegotiatedPolicy& policy) const;
  void take(const NegotiatedPolicy& policy);
  /// Of one that was taken.
  void give_back(const NegotiatedPolicy& policy);

  /// Beyond twice what the configuration names of each child.
  [[nodiscard]] std::size_t rules() const { return rules_; }
  /// That nothing in the configuration has.
  [[nodiscard]] std::size_t shapes() const { return shapes_.size(); }

 private:
  using Shapes = std::map<wire::RuleShape, std::size_t>;  ///< how many policies have one
  /// A connection towards one address is one peer's; of others the key daemon tells peers apart.
  struct Peer {
    std::size_t rules = 0;
    Shapes shapes;
  };
  struct Child {
    std::string connection;
    bool has_one_peer = false;
    /// Twice what is configured: before and after a change of its form.
    std::size_t free_rules = 0;
    std::size_t rules = 0;
  };

  void know(ChildId id, const ChildDirectory& children);
  void know_shapes(const config::Child& child);
  void know_shapes(const std::vector<wire::TrafficSelector>& local,
                   const std::vector<wire::TrafficSelector>& remote);
  [[nodiscard]] std::vector<wire::RuleShape> new_shapes(const NegotiatedPolicy& policy) const;

  std::size_t most_rules_ = 0;
  std::unordered_set<wire::RuleShape> configured_;
  std::unordered_map<ChildId, Child> children_;
  std::unordered_map<std::string, Peer> peers_;  ///< by connection
  std::size_t rules_ = 0;
  Shapes shapes_;
};

}  // namespace culvert::dataplane::control
