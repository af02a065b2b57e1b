// Which cores a measurement runs on.
#pragma once

#include <string_view>
#include <vector>

namespace culvert::benchmarks {

/// Of the kernel's lists: "2-3,8". Ends where it cannot be read.
[[nodiscard]] std::vector<unsigned> parse_core_list(std::string_view text);

/// The main thread's core, then those for what is measured, the best first: isolated ones, which
/// nothing else runs on. `own`: the process's affinity mask; where somebody has chosen it
/// (taskset), these and no others. `isolated` (isolcpus) are not in a mask that nobody chose.
/// `reachable`: what the system allows. All ascending.
[[nodiscard]] std::vector<unsigned> cores_to_measure_on(const std::vector<unsigned>& own,
                                                        const std::vector<unsigned>& reachable,
                                                        const std::vector<unsigned>& isolated);

}  // namespace culvert::benchmarks
