// Very many SAs, in the place of the key daemon: as many inbound as outbound ones are installed,
// told of by a snapshot, and removed again. Prints the rates.
//
// usage: many_sas CHANNEL.SOCK PID PAIRS LOCAL REMOTE LOCAL_TS REMOTE_TS
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "channel/messages.hpp"
#include "tests/churn/key_daemon.hpp"

namespace culvert::test {
namespace {

using namespace channel;
using Clock = std::chrono::steady_clock;

class ManySas : public KeyDaemon {
 public:
  using KeyDaemon::KeyDaemon;

  /// SAs a second; 0 when one was refused.
  double install_pairs(std::uint64_t pairs) {
    return rate_of(2 * pairs, [&] {
      for (std::uint64_t pair = 0; pair < pairs; ++pair) {
        while (spis() == 0) lease_more(pairs - pair);
        install(next_, Direction::in, take_spi());
        next_ = SaId{static_cast<std::uint64_t>(next_) + 1};
        install(next_, Direction::out, Spi{static_cast<std::uint32_t>(0x10000 + pair)});
        next_ = SaId{static_cast<std::uint64_t>(next_) + 1};
      }
    });
  }
  /// All of them, told of by a snapshot.
  double snapshot(std::uint64_t pairs) {
    const double rate = rate_of(2 * pairs, [&] { take_snapshot(); });
    if (told() == 2 * pairs) return rate;
    std::printf("told of %llu SAs\n", static_cast<unsigned long long>(told()));
    return 0;
  }
  double remove_all() {
    const auto count = static_cast<std::uint64_t>(next_) - kFirst;
    return rate_of(count, [&] {
      for (std::uint64_t sa = kFirst; sa < kFirst + count; ++sa) remove(SaId{sa});
    });
  }

 private:
  static constexpr std::uint64_t kFirst = 1;

  void lease_more(std::uint64_t wanted) {
    lease(static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, kMaxLeasedSpis)));
    wait_for_answers();
  }
  template <typename Work>
  double rate_of(std::uint64_t count, Work work) {
    const auto start = Clock::now();
    work();
    wait_for_answers();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    for (const auto& [outcome, times] : outcomes()) {
      if (outcome == Outcome::ok || times == 0) continue;
      std::printf("refused: %s\n", std::string(to_string(outcome)).c_str());
      return 0;
    }
    return static_cast<double>(count) / seconds;
  }

  SaId next_{kFirst};
};

/// Memory that it has, the pool's huge pages included, in which tables are where some are free.
double resident_bytes(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/smaps_rollup");
  double kib = 0;
  for (std::string line; std::getline(file, line);) {
    for (const char* const name : {"Rss:", "Shared_Hugetlb:", "Private_Hugetlb:"}) {
      if (line.starts_with(name)) kib += std::stod(line.substr(std::strlen(name)));
    }
  }
  return kib * 1024;
}

}  // namespace
}  // namespace culvert::test

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr,
                 "usage: many_sas CHANNEL.SOCK PID PAIRS LOCAL REMOTE LOCAL_TS REMOTE_TS\n");
    return 2;
  }
  const auto client = culvert::channel::Client::connect(argv[1]);
  if (!client) {
    std::fprintf(stderr, "%s\n", client.error().c_str());
    return 2;
  }
  const std::uint64_t pairs = std::strtoull(argv[3], nullptr, 10);
  culvert::test::ManySas daemon(**client, {argv[4], argv[5], argv[6], argv[7]}, 1);
  const double before = culvert::test::resident_bytes(argv[2]);
  const double installed = daemon.install_pairs(pairs);
  const double grown = culvert::test::resident_bytes(argv[2]) - before;
  const double told = installed == 0 ? 0 : daemon.snapshot(pairs);
  const double peak = culvert::test::resident_bytes(argv[2]) - before - grown;
  const double removed = told == 0 ? 0 : daemon.remove_all();
  std::printf(
      "installed %.0f a second, %.0f bytes each; told of %.0f a second, %.0f bytes each more; "
      "removed %.0f a second\n",
      installed, grown / (2.0 * static_cast<double>(pairs)), told,
      peak / (2.0 * static_cast<double>(pairs)), removed);
  return removed == 0 ? 1 : 0;
}
