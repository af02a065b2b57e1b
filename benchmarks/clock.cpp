#include "benchmarks/clock.hpp"

#include <algorithm>
#include <cstdint>

#include <rte_cycles.h>

namespace culvert::benchmarks {
namespace {

constexpr double kWarmUpSeconds = 0.05;
constexpr unsigned kLookEveryMicroseconds = 2000;
/// A policy search of milliseconds a packet is measured over these at least, if that takes no
/// longer than kLongestSeconds.
constexpr std::uint64_t kLeastPackets = 1024;
constexpr double kLongestSeconds = 20;

struct Reading {
  std::uint64_t packets;
  double seconds;
};

Reading read(const Probe& probe) {
  return {probe.packets(), probe.clock->seconds() - probe.seconds_set_aside()};
}

/// Until `is_over` of each thread's reading since `before`, or kLongestSeconds have gone by.
template <typename IsOver>
void wait_for(std::span<const Probe> probes, const std::vector<Reading>& before, IsOver is_over) {
  const double begin = seconds_on(CLOCK_MONOTONIC);
  const auto over = [&] {
    for (std::size_t n = 0; n < probes.size(); ++n) {
      const Reading now = read(probes[n]);
      if (!is_over(probes[n], now.packets - before[n].packets, now.seconds - before[n].seconds)) {
        return false;
      }
    }
    return true;
  };
  while (!over() && seconds_on(CLOCK_MONOTONIC) - begin < kLongestSeconds) {
    rte_delay_us_sleep(kLookEveryMicroseconds);
  }
}

}  // namespace

std::vector<double> nanoseconds_per_packet(std::span<const Probe> probes, double seconds) {
  for (const Probe& probe : probes) {
    while (!probe.clock->has_started()) rte_delay_us_sleep(kLookEveryMicroseconds);
  }
  const auto readings = [&] {
    std::vector<Reading> all;
    for (const Probe& probe : probes) all.push_back(read(probe));
    return all;
  };
  const double warm_up = std::min(kWarmUpSeconds, seconds);
  wait_for(probes, readings(), [&](const Probe& probe, std::uint64_t packets, double passed) {
    return passed >= warm_up && packets >= probe.warm_up_packets;
  });
  const std::vector<Reading> before = readings();
  wait_for(probes, before, [&](const Probe&, std::uint64_t packets, double passed) {
    return passed >= seconds && packets >= kLeastPackets;
  });
  std::vector<double> result;
  for (std::size_t n = 0; n < probes.size(); ++n) {
    const Reading after = read(probes[n]);
    const std::uint64_t packets = std::max<std::uint64_t>(1, after.packets - before[n].packets);
    result.push_back((after.seconds - before[n].seconds) * 1e9 / static_cast<double>(packets));
  }
  return result;
}

}  // namespace culvert::benchmarks
