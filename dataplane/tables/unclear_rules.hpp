// Which of the ordered rules a later fragment may be of, though it does not show all they ask for:
// ports, ICMP's type and code, in IPv6 the protocol. "If the SA requires a port value other than
// ANY or OPAQUE, an arriving fragment without ports MUST be discarded" (RFC 4301 §4.4.1.1): it must
// not go on to what stands behind.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "dataplane/tables/policy_index.hpp"

namespace culvert::dataplane {

/// A rule stands here without what a later fragment hides, so that many become the same: of those
/// only the first in order is met, and only that one is in the tables that workers search. Tables
/// of their own: whole packets do not look into them.
class UnclearRules {
 public:
  UnclearRules(std::size_t rules, Reclaimer& reclaimer);

  // ---- main thread ----

  /// Does nothing for a rule that every packet is seen to be of or not. Visible with `publish`.
  void insert(const PolicyRule& rule);
  void erase(const PolicyRule& rule);
  void publish();

  // ---- workers ----

  /// The flow as these tables have it; of a packet whose ports are not known.
  [[nodiscard]] static FlowKey as_shown(const FlowKey& flow);
  [[nodiscard]] const RuleTable<std::uint32_t>& v4() const { return v4_; }
  [[nodiscard]] const RuleTable<unsigned __int128>& v6() const { return v6_; }

 private:
  /// What is left of a rule.
  struct Form {
    wire::TrafficSelector source, destination;
    bool in_clear_only = false;
    friend auto operator<=>(const Form&, const Form&) = default;
  };
  struct Order {
    PolicyRank rank;
    std::uint32_t entry = 0;
    bool reverse = false;
    friend auto operator<=>(const Order&, const Order&) = default;
  };
  struct Rules {
    std::multiset<Order> all;
    Order shown;  ///< the one that is in the tables, if `is_shown`
    bool is_shown = false;
    bool is_changed = false;  ///< since `publish`
    /// In the tables behind `shown` until the grace period is over in which that came there, each
    /// with the number of its leave.
    std::map<Order, std::uint64_t> leaving;
  };
  using ByForm = std::map<Form, Rules>;
  struct Retired {
    RuleTable<std::uint32_t>::Retired v4;
    RuleTable<unsigned __int128>::Retired v6;
  };

  static std::vector<Form> forms_of(const PolicyRule& rule);
  static PolicyRule rule_of(const Form& form, const Order& order);
  void note_change(ByForm::iterator place);
  void show(const Form& form, const Order& order);
  void hide(const Form& form, const Order& order, Retired& retired);
  void hide_later(const Form& form, Rules& rules, const Order& order);
  void end_leave(const Form& form, const Order& order, std::uint64_t number);
  void hide_erased(const Form& form, Rules& rules, Retired& retired);

  Reclaimer& reclaimer_;
  RuleTable<std::uint32_t> v4_;
  RuleTable<unsigned __int128> v6_;
  ByForm rules_;
  std::vector<ByForm::iterator> changed_;
  std::uint64_t last_leave_ = 0;
  std::shared_ptr<UnclearRules*> self_ = std::make_shared<UnclearRules*>(this);
};

}  // namespace culvert::dataplane
