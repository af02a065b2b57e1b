#include "ike/machine/selector_budget.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "config/limits.hpp"
#include "wire/selector_rules.hpp"

namespace culvert::ike {
namespace {

namespace limits = config::limits;
using Shapes = std::set<wire::RuleShape>;

std::size_t rules_of(const SelectorPair& pair) {
  return wire::rules_between(pair.local, pair.remote);
}
void add_shapes(Shapes& shapes, const SelectorPair& pair) {
  for (const wire::RuleShape shape : wire::shapes_between(pair.local, pair.remote)) {
    shapes.insert(shape);
  }
}

/// One of each policy.
struct Negotiated {
  config::ChildId child_id{};
  std::vector<wire::TrafficSelector> local_selectors, remote_selectors;
  [[nodiscard]] SelectorPair pair() const { return {local_selectors, remote_selectors}; }
};
struct Unlike {
  bool operator()(const Negotiated& a, const Negotiated& b) const {
    return likeness_of(a) < likeness_of(b);
  }
};

}  // namespace

std::optional<std::string> why_no_room(const IkeSa& ike, const ChildTable& children,
                                       config::ChildId child_id, const SelectorPair& selectors) {
  std::set<Negotiated, Unlike> all;
  for (const channel::SaId id : ike.children) {
    const ChildSa& child = children.at(id);
    all.insert({child.child_id, child.local_selectors, child.remote_selectors});
  }
  if (!all.insert({child_id, selectors.local, selectors.remote}).second) return std::nullopt;

  std::map<config::ChildId, std::size_t> rules;
  Shapes shapes;
  for (const Negotiated& one : all) {
    rules[one.child_id] += rules_of(one.pair());
    add_shapes(shapes, one.pair());
  }
  std::size_t beyond = 0;
  Shapes configured;
  for (const config::Child& child : ike.connection->children) {
    const SelectorPair named = configured_selectors(child, ike);
    add_shapes(configured, named);
    // Before and after a change of its form.
    std::size_t& of_child = rules[child.id];
    of_child -= std::min(of_child, 2 * rules_of(named));
  }
  for (const auto& [child, count] : rules) beyond += count;
  if (rules[child_id] > 0 && beyond > limits::kRulesOfPeer) {
    return "no more than " + std::to_string(limits::kRulesOfPeer / 2) +
           " pairs of selectors beyond what is configured";
  }
  std::erase_if(shapes, [&](wire::RuleShape shape) { return configured.contains(shape); });
  const auto own = wire::shapes_between(selectors.local, selectors.remote);
  const bool has_own = std::ranges::any_of(own, [&](auto shape) { return shapes.contains(shape); });
  if (has_own && shapes.size() > limits::kShapesOfPeer) {
    return "no more than " + std::to_string(limits::kShapesOfPeer) +
           " kinds of selectors, by the lengths of prefixes and ranges, beyond what is configured";
  }
  return std::nullopt;
}

}  // namespace culvert::ike
