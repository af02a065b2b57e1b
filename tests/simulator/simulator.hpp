// One schedule from one seed: dice decide configuration, commands, losses; then the network heals,
// and after quiescence the invariants must hold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace culvert::simulation {

struct ScheduleOutcome {
  std::uint64_t seed = 0;
  std::vector<std::string> failures;  ///< empty: every invariant held
  std::vector<std::string> log;       ///< the ladder
};
/// Deterministic: the same seed, the same run.
[[nodiscard]] ScheduleOutcome run_schedule(std::uint64_t seed);
/// The ladder and what failed, for people.
[[nodiscard]] std::string to_text(const ScheduleOutcome& outcome);

}  // namespace culvert::simulation
