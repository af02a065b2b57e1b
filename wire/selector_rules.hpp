// What a search pays for traffic selectors that a policy has on its two sides: each pair of them is
// a rule, and rules differ in shape (docs/decisions/0010, 0017). Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "wire/traffic_selector.hpp"

namespace culvert::wire {

/// Leading bits of addresses and ports that all packets of a rule have in common, whether it asks
/// for a protocol, and its family, in one number: the same for rules that one look finds.
enum class RuleShape : std::uint32_t {};

/// Pairs of one family, either way: what a policy has of rules.
[[nodiscard]] std::size_t rules_between(const std::vector<TrafficSelector>& local,
                                        const std::vector<TrafficSelector>& remote);
/// Those of the rules from `local` to `remote`, each once; those of the way back mirror them.
[[nodiscard]] std::vector<RuleShape> shapes_between(const std::vector<TrafficSelector>& local,
                                                    const std::vector<TrafficSelector>& remote);

}  // namespace culvert::wire
