// Which rows there are.
#pragma once

#include <string>
#include <vector>

#include "benchmarks/workload.hpp"

namespace culvert::benchmarks {

/// A theme of the report and its rows. A row that an earlier suite has is not repeated.
struct Suite {
  std::string name;
  std::vector<Case> cases;
};

/// With everything as it is unless a suite varies it.
[[nodiscard]] Case ordinary_case(Direction direction, std::uint32_t size, std::uint32_t sas);
/// The rows of the summary: both directions, 64, 512, 1420 and IMIX, 1 and 1024 SAs.
[[nodiscard]] std::vector<Case> quick_cases();
/// Of which the stages are told apart.
[[nodiscard]] std::vector<Case> stage_cases();
/// rates, workers, policies, windows, floods, ipv6, forms, transforms, sas: what takes longest
/// comes last.
[[nodiscard]] std::vector<Suite> all_suites();

}  // namespace culvert::benchmarks
