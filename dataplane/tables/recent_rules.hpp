// What the last changes of policies were about.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/tables/compiled_rule.hpp"
#include "dataplane/tables/flow_key.hpp"
#include "dataplane/tables/reclaimer.hpp"

namespace culvert::dataplane {

/// The rules of the last changes: whether what a flow met before them is what it meets now, told
/// without a search, which costs a probe a shape.
class RecentRules {
 public:
  /// A flow that more changes have passed by is searched for again.
  static constexpr std::uint32_t kChanges = 32;
  /// Beyond, a search is as cheap, and counted by whoever paces searches.
  static constexpr std::size_t kMostRules = 256;

  RecentRules() = default;
  ~RecentRules();
  RecentRules(const RecentRules&) = delete;
  RecentRules& operator=(const RecentRules&) = delete;

  /// Main thread: these came or went with the change that makes `generation`, before workers are
  /// told of it. Generations follow one another.
  void note(std::uint64_t generation, std::span<const PolicyRule> rules, Reclaimer& reclaimer);
  /// Worker threads: whether the flow meets no rule of the changes behind `since` up to `now`.
  /// False, too, when one of them is not known any more.
  [[nodiscard]] bool pass_by(const FlowKey& flow, bool in_clear, std::uint64_t since,
                             std::uint64_t now) const;

 private:
  struct Noted {
    std::uint64_t generation;
    std::vector<CompiledRule<std::uint32_t>> v4;
    std::vector<CompiledRule<unsigned __int128>> v6;
  };

  std::array<std::atomic<const Noted*>, kChanges> noted_{};  ///< RCU, by generation
};

}  // namespace culvert::dataplane
