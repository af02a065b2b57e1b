// What a random test begins with.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace culvert::test {

/// Drawn once a process, or CULVERT_TEST_SEED. Printed at once, for a crash leaves no time to;
/// there tests/tools/retries.py finds it, so that a failure is tried again with the same input.
inline std::uint64_t random_seed() {
  static const std::uint64_t seed = [] {
    const char* const given = std::getenv("CULVERT_TEST_SEED");
    const std::uint64_t chosen =
        given == nullptr ? std::random_device{}() : std::strtoull(given, nullptr, 0);
    std::printf("CULVERT_TEST_SEED=%llu\n", static_cast<unsigned long long>(chosen));
    std::fflush(stdout);
    return chosen;
  }();
  return seed;
}

}  // namespace culvert::test
