// One schedule from one seed: dice decide configuration, commands, losses; then the network heals,
// and after quiescence the invariants must hold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace culvert::simulation {

struct ScheduleOutcome {
  std::uint64_t seed = 0;
  bool wide = false;
  std::vector<std::string> failures;  ///< empty: every invariant held
  std::vector<std::string> log;       ///< the ladder
};
/// Deterministic: the same seed, the same run. `wide`: also with re-authentication every minute or two,
/// ESP in UDP, post-quantum keys, and a NAT that forgets in front of one of two.
[[nodiscard]] ScheduleOutcome run_schedule(std::uint64_t seed, bool wide = false);
/// The ladder and what failed, for people.
[[nodiscard]] std::string to_text(const ScheduleOutcome& outcome);

}  // namespace culvert::simulation
