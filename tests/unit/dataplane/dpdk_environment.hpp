// DPDK's environment for tests: once a process, no root, no huge pages, no devices.
#pragma once

#include <array>
#include <cstdio>
#include <cstdlib>

#include <pthread.h>
#include <rte_eal.h>
#include <sched.h>

namespace culvert::test {

/// Starts it at the first call. The calling thread becomes the main lcore.
inline void need_dpdk() {
  static const bool started = [] {
    // rte_eal_init may permute the pointers and keeps them.
    static std::array<char, 32> words[] = {
        {"test"},     {"--no-huge"}, {"--no-shconf"}, {"--no-pci"}, {"--no-telemetry"},
        {"--lcores"}, {"0@0"},       {"-m"},          {"512"},      {"--log-level=error"},
    };
    static std::array<char*, std::size(words) + 1> arguments{};
    for (std::size_t i = 0; i < std::size(words); ++i) arguments[i] = words[i].data();
    // DPDK pins this thread; the tests' own threads would inherit that.
    cpu_set_t before;
    pthread_getaffinity_np(pthread_self(), sizeof(before), &before);
    if (rte_eal_init(static_cast<int>(std::size(words)), arguments.data()) < 0) {
      std::fputs("DPDK's environment did not start\n", stderr);
      std::abort();
    }
    pthread_setaffinity_np(pthread_self(), sizeof(before), &before);
    return true;
  }();
  static_cast<void>(started);
}

}  // namespace culvert::test
