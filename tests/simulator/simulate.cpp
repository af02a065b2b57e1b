// Runs schedules and prints the ladder of the first ones that fail.
#include <chrono>
#include <cstdio>
#include <iostream>

#include <CLI/CLI.hpp>

#include "tests/simulator/simulator.hpp"

int main(int argc, char** argv) {
  std::uint64_t seed = 1, schedules = 10'000;
  std::size_t show = 1;
  bool verbose = false, wide = false;
  CLI::App app("Two IKE machines on a bad network, one schedule a seed.");
  app.add_option("--seed", seed, "the first seed");
  app.add_option("--schedules", schedules, "how many seeds from there");
  app.add_option("--show", show, "how many failing ladders to print");
  app.add_flag("--wide", wide, "re-authentication, ESP in UDP, post-quantum keys and a NAT, too");
  app.add_flag("--verbose", verbose, "print every ladder");
  CLI11_PARSE(app, argc, argv);

  const auto started = std::chrono::steady_clock::now();
  std::size_t failed = 0;
  for (std::uint64_t i = 0; i < schedules; ++i) {
    const auto outcome = culvert::simulation::run_schedule(seed + i, wide);
    const bool bad = !outcome.failures.empty();
    if (verbose || (bad && failed < show)) {
      std::cout << culvert::simulation::to_text(outcome);
    } else if (bad) {
      std::cout << "seed " << outcome.seed << ": " << outcome.failures.front() << "\n";
    }
    failed += bad ? 1 : 0;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  std::cout << std::flush;
  std::printf("%llu schedules from seed %llu, %zu with a violation, %.0f seeds a second\n",
              static_cast<unsigned long long>(schedules), static_cast<unsigned long long>(seed),
              failed, static_cast<double>(schedules) / took.count());
  return failed == 0 ? 0 : 1;
}
