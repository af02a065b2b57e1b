// Work on the workers' lcores, one lane each, measured from the main thread.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <rte_launch.h>

#include "benchmarks/clock.hpp"

namespace culvert::benchmarks {

/// Ends the program: the suite has no half results.
[[noreturn]] void give_up(const std::string& why);

/// The lcore of a worker; gives up when there are fewer.
[[nodiscard]] unsigned lcore_of(std::size_t worker);

/// Runs `function` with each lane on a lcore of its own, takes nanoseconds per packet by lane, and
/// stops them. A lane has `std::atomic<bool> stop`.
template <typename Lane>
[[nodiscard]] std::vector<double> measure_on_lcores(std::vector<Lane>& lanes,
                                                    lcore_function_t* function,
                                                    std::span<const Probe> probes, double seconds) {
  for (std::size_t worker = 0; worker < lanes.size(); ++worker) {
    rte_eal_remote_launch(function, &lanes[worker], lcore_of(worker));
  }
  std::vector<double> result = nanoseconds_per_packet(probes, seconds);
  for (Lane& lane : lanes) lane.stop.store(true, std::memory_order_relaxed);
  for (std::size_t worker = 0; worker < lanes.size(); ++worker) {
    rte_eal_wait_lcore(lcore_of(worker));
  }
  return result;
}

}  // namespace culvert::benchmarks
