#include "dataplane/control/long_answers.hpp"

#include <array>
#include <string_view>
#include <utility>

#include <rte_cycles.h>

#include "dataplane/control/report_json.hpp"

namespace culvert::dataplane::control {

namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 1> kChildren{"children"}, kSas{"sas"}, kPolicies{"policies"};

json empty(std::string_view list) { return {{std::string(list), json::array()}}; }

}  // namespace

StatusAnswer::StatusAnswer(const ListSources& sources, const StatusReport& gateway)
    : ListedResult(to_json(gateway), kChildren),
      sources_(sources),
      order_(sources.children.order()) {
  sources_.associations.keep_whole(count_);
}

bool StatusAnswer::add_some(std::size_t, std::string& text) {
  const std::vector<ChildId>& order = *order_;
  std::size_t sas_left = kSasASlice;
  for (std::size_t made = 0; made < kItemsASlice && next_ < order.size(); ++made, ++next_) {
    const ChildId child = order[next_];
    const ChildName& name = sources_.children.name(child);
    if (!std::exchange(is_counting_, true)) {
      count_.begin(child, sources_.associations.accounts());
    }
    sas_left -= sources_.associations.count_some(count_, sas_left);
    if (!count_.is_whole()) return false;
    is_counting_ = false;
    if (name.child.empty()) continue;  // of another configuration meanwhile
    ChildReport report =
        child_report(child, name, count_.sums(), sources_.associations.unreachable_of(child),
                     rte_get_tsc_cycles());
    report.wanted = is_wanted(child, name, sources_.acquires);
    add(text, to_json(report));
  }
  return next_ == order.size();
}

SasAnswer::SasAnswer(const ListSources& sources)
    : ListedResult(empty(kSas[0]), kSas), sources_(sources) {}

bool SasAnswer::add_some(std::size_t, std::string& text) {
  const Instant now = runtime::now();
  return sources_.associations.visit_some(last_, kItemsASlice, [&](const SaRecord& record) {
    add(text, to_json(sa_report(record, sources_, now)));
  });
}

PoliciesAnswer::PoliciesAnswer(const ListSources& sources)
    : ListedResult(empty(kPolicies[0]), kPolicies), sources_(sources) {}

bool PoliciesAnswer::add_some(std::size_t, std::string& text) {
  const Spd& spd = *sources_.tables.spd;
  const std::vector<PolicyEntry> entries = spd.entries(last_, kItemsASlice);
  for (const PolicyEntry& entry : entries) {
    add(text, to_json(policy_report(entry, sources_), position_++));
  }
  if (entries.size() == kItemsASlice) return false;  // there may be more
  add(text, to_json(default_policy_report(sources_.tables), position_));
  return true;
}

}  // namespace culvert::dataplane::control
