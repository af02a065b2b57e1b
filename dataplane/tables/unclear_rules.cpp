#include "dataplane/tables/unclear_rules.hpp"

#include "wire/ip.hpp"

namespace culvert::dataplane {
namespace {

/// Stands for a protocol that is not shown; no upper layer has it.
constexpr std::uint8_t kHidden = wire::ipv6::kFragment;

bool asks_for_ports(const wire::TrafficSelector& selector) {
  return !selector.any_port() && !selector.opaque_port();
}

/// Whether no packet meets the selectors: ports are of a protocol, and shown on both sides or on
/// none.
bool is_impossible(const wire::TrafficSelector& source, const wire::TrafficSelector& destination) {
  if (!source.any_protocol() && !destination.any_protocol() &&
      source.protocol != destination.protocol) {
    return true;
  }
  const auto is_without_protocol = [](const wire::TrafficSelector& selector) {
    return selector.any_protocol() && asks_for_ports(selector);
  };
  if (is_without_protocol(source) || is_without_protocol(destination)) return true;
  return (asks_for_ports(source) && destination.opaque_port()) ||
         (asks_for_ports(destination) && source.opaque_port());
}

}  // namespace

/// Fragments are few: one bucket a rule does.
UnclearRules::UnclearRules(std::size_t rules, Reclaimer& reclaimer)
    : reclaimer_(reclaimer), v4_(rules / 8, reclaimer), v6_(rules / 8, reclaimer) {}

FlowKey UnclearRules::as_shown(const FlowKey& flow) {
  FlowKey shown = flow;
  if (!flow.source.is_v4() && wire::ipv6::is_extension(flow.protocol)) shown.protocol = kHidden;
  return shown;
}

std::vector<UnclearRules::Form> UnclearRules::forms_of(const PolicyRule& rule) {
  if (!rule.must_be_ruled_out || is_impossible(rule.source, rule.destination)) return {};
  std::vector<Form> forms;
  const auto add = [&](std::uint8_t protocol) {
    Form& form = forms.emplace_back(Form{rule.source, rule.destination, rule.in_clear_only});
    for (wire::TrafficSelector* const side : {&form.source, &form.destination}) {
      side->protocol = protocol;
      side->port_first = 0;
      side->port_last = 65535;
    }
  };
  const std::uint8_t protocol =
      rule.source.any_protocol() ? rule.destination.protocol : rule.source.protocol;
  const bool is_v6 = !rule.source.first.is_v4();
  // "The Next Header values in the Fragment headers of different fragments of the same original
  // packet may differ. Only the value from the Offset zero fragment packet is used for reassembly"
  // (RFC 8200 §4.5): what must not come in clear is not told by what its sender writes there.
  if (is_v6 && rule.in_clear_only) {
    if (protocol != 0) add(0);
    return forms;
  }
  if (asks_for_ports(rule.source) || asks_for_ports(rule.destination)) add(protocol);
  // An extension header in the fragmentable part is all that later fragments name.
  if (is_v6 && protocol != 0) add(kHidden);
  return forms;
}

PolicyRule UnclearRules::rule_of(const Form& form, const Order& order) {
  return {.source = form.source,
          .destination = form.destination,
          .rank = order.rank,
          .entry = order.entry,
          .reverse = order.reverse,
          .in_clear_only = form.in_clear_only};
}

void UnclearRules::note_change(ByForm::iterator place) {
  if (!place->second.is_changed) changed_.push_back(place);
  place->second.is_changed = true;
}

void UnclearRules::insert(const PolicyRule& rule) {
  for (const Form& form : forms_of(rule)) {
    const auto place = rules_.try_emplace(form).first;
    place->second.all.insert({rule.rank, rule.entry, rule.reverse});
    note_change(place);
  }
}

void UnclearRules::erase(const PolicyRule& rule) {
  for (const Form& form : forms_of(rule)) {
    const auto place = rules_.find(form);
    if (place == rules_.end()) continue;
    auto& all = place->second.all;
    const auto one = all.find({rule.rank, rule.entry, rule.reverse});
    if (one != all.end()) all.erase(one);
    note_change(place);
  }
}

void UnclearRules::show(const Form& form, const Order& order) {
  const PolicyRule rule = rule_of(form, order);
  form.source.first.is_v4() ? v4_.insert(rule) : v6_.insert(rule);
}

void UnclearRules::hide(const Form& form, const Order& order, Retired& retired) {
  const PolicyRule rule = rule_of(form, order);
  form.source.first.is_v4() ? v4_.erase(rule, retired.v4) : v6_.erase(rule, retired.v6);
}

/// A worker that is beyond the place of the one that has come in front may be on its way to this
/// one, which does no harm behind the other.
void UnclearRules::hide_later(const Form& form, Rules& rules, const Order& order) {
  rules.leaving[order] = ++last_leave_;
  reclaimer_.retire([self = std::weak_ptr(self_), form, order, number = last_leave_] {
    if (const auto still = self.lock()) (*still)->end_leave(form, order, number);
  });
}

void UnclearRules::end_leave(const Form& form, const Order& order, std::uint64_t number) {
  const auto place = rules_.find(form);
  if (place == rules_.end()) return;
  const auto leaving = place->second.leaving.find(order);
  // It has been shown again meanwhile, or taken out.
  if (leaving == place->second.leaving.end() || leaving->second != number) return;
  place->second.leaving.erase(leaving);
  const auto retired = std::make_shared<Retired>();
  hide(form, order, *retired);
  reclaimer_.retire([retired] {});
}

/// Before what stands in front of them goes: nobody would meet them any more for their own sake,
/// and whoever erased their policy expects that nobody does when its grace period is over.
void UnclearRules::hide_erased(const Form& form, Rules& rules, Retired& retired) {
  std::erase_if(rules.leaving, [&](const auto& leaving) {
    const bool is_erased = !rules.all.contains(leaving.first);
    if (is_erased) hide(form, leaving.first, retired);
    return is_erased;
  });
}

void UnclearRules::publish() {
  if (changed_.empty()) return;
  const auto retired = std::make_shared<Retired>();
  for (const ByForm::iterator place : changed_) {
    const Form& form = place->first;
    Rules& rules = place->second;
    rules.is_changed = false;
    const bool is_left = !rules.all.empty();
    if (is_left && rules.is_shown && rules.shown == *rules.all.begin()) continue;
    // The next one comes before this one goes: no fragment passes by both.
    if (is_left && rules.leaving.erase(*rules.all.begin()) == 0) show(form, *rules.all.begin());
    if (rules.is_shown && is_left && *rules.all.begin() < rules.shown) {
      hide_later(form, rules, rules.shown);
    } else if (rules.is_shown) {
      hide_erased(form, rules, *retired);
      hide(form, rules.shown, *retired);
    }
    if (!is_left) {
      rules_.erase(place);
      continue;
    }
    rules.shown = *rules.all.begin();
    rules.is_shown = true;
  }
  changed_.clear();
  v4_.publish();
  v6_.publish();
  if (!retired->v4.empty() || !retired->v6.empty()) reclaimer_.retire([retired] {});
}

}  // namespace culvert::dataplane
