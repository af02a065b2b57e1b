// Which SA the traffic of each negotiated policy goes to.
#pragma once

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "ike/machine/child_table.hpp"

namespace culvert::ike {

/// A negotiated policy in the data plane and the SA its traffic goes to.
struct PolicyBinding {
  channel::PolicyId policy{};
  config::ChildId child_id{};
  channel::SaId outbound{};
  bool adopted = false;  ///< from a snapshot: its selectors are not known
  std::vector<wire::TrafficSelector> local_selectors, remote_selectors;
};

class Bindings {
 public:
  void add(PolicyBinding binding);
  /// The one that `child` may send by: of the same configured child and selectors.
  [[nodiscard]] const PolicyBinding* find(const ChildSa& child) const;
  [[nodiscard]] const PolicyBinding* find(channel::SaId outbound) const;
  [[nodiscard]] const PolicyBinding* find(channel::PolicyId policy) const;
  /// Whether traffic like that of `child` has a way.
  [[nodiscard]] bool carries(const ChildSa& child) const;
  void switch_to(const PolicyBinding& binding, channel::SaId outbound);
  void erase(channel::PolicyId policy);
  /// The adopted ones of a configured child, which are forgotten.
  [[nodiscard]] std::vector<channel::PolicyId> take_adopted(config::ChildId child_id);
  void clear();

 private:
  struct Order {
    using is_transparent = void;
    template <typename A, typename B>
    bool operator()(const A* a, const B* b) const {
      return likeness_of(*a) < likeness_of(*b);
    }
  };

  std::map<channel::PolicyId, PolicyBinding> all_;
  std::multimap<channel::SaId, channel::PolicyId> by_outbound_;
  std::multiset<const PolicyBinding*, Order> by_selectors_;  ///< without the adopted ones
  std::multimap<config::ChildId, channel::PolicyId> adopted_;
};

}  // namespace culvert::ike
