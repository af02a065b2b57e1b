#include "dataplane/tables/recent_rules.hpp"

#include <algorithm>
#include <memory>

namespace culvert::dataplane {

RecentRules::~RecentRules() {
  for (const auto& noted : noted_) delete noted.load(std::memory_order_relaxed);
}

void RecentRules::note(std::uint64_t generation, std::span<const PolicyRule> rules,
                       Reclaimer& reclaimer) {
  auto made = std::make_unique<Noted>();
  made->generation = generation;
  for (const PolicyRule& rule : rules) {
    if (rule.source.first.is_v4()) {
      made->v4.push_back(compiled<std::uint32_t>(rule));
    } else {
      made->v6.push_back(compiled<unsigned __int128>(rule));
    }
  }
  // Release pairs with the acquire in `pass_by`.
  const Noted* const before =
      noted_[generation % kChanges].exchange(made.release(), std::memory_order_acq_rel);
  if (before == nullptr) return;
  reclaimer.retire([before] { delete before; });
}

bool RecentRules::pass_by(const FlowKey& flow, bool in_clear, std::uint64_t since,
                          std::uint64_t now) const {
  if (now - since > kChanges) return false;
  std::size_t looked_at = 0;
  // Of a packet that does not show all, rules between its addresses may be unclear.
  const bool shows_all = flow.ports_known;
  const auto meets_none = [in_clear, shows_all](const auto& rules, const auto& packet) {
    return std::ranges::none_of(rules, [&](const auto& rule) {
      return shows_all ? is_met(rule, packet, in_clear) : is_between(rule, packet, in_clear);
    });
  };
  const bool is_v4 = flow.source.is_v4();
  const auto v4 = is_v4 ? compiled<std::uint32_t>(flow) : CompiledFlow<std::uint32_t>{};
  const auto v6 = is_v4 ? CompiledFlow<unsigned __int128>{} : compiled<unsigned __int128>(flow);
  for (std::uint64_t generation = since + 1; generation != now + 1; ++generation) {
    const Noted* const noted = noted_[generation % kChanges].load(std::memory_order_acquire);
    if (noted == nullptr || noted->generation != generation) return false;
    looked_at += is_v4 ? noted->v4.size() : noted->v6.size();
    if (looked_at > kMostRules) return false;
    if (is_v4 ? !meets_none(noted->v4, v4) : !meets_none(noted->v6, v6)) return false;
  }
  return true;
}

}  // namespace culvert::dataplane
