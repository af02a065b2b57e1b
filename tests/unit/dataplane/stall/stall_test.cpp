// No change of the tables makes a worker pause: full bursts from both sides are carried while
// policies among a hundred thousand, SAs and routes come and go beside them.
//
// What is measured is the worker's own processor time for each iteration, so that it does not count
// when others have the processor; and since noise only adds, each change is made in several rounds
// and the least counts: a pause that a change causes is there in every round. As many rounds
// without changes, each as long as a change's wake, tell what is left of the noise. A machine that
// others use may disturb the same change in every one of a few rounds, so there are more of them
// while the bound is exceeded.
//
// A change that makes the worker wait now and then is not there in every round. Waits and page
// faults need no clock, and others cause next to none: of them all rounds count, against those
// without changes.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <vector>

#include <catch2/catch.hpp>
#include <poll.h>
#include <sys/mman.h>

#include "benchmarks/clock.hpp"
#include "benchmarks/stalls.hpp"

using namespace culvert;
using namespace culvert::benchmarks;

namespace {

#if defined(__OPTIMIZE__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
constexpr double kSlower = 1;
#else  // instrumented, or not optimised
constexpr double kSlower = 20;
#endif
constexpr double kMostSeconds = 50e-6 * kSlower;
constexpr int kRounds = 5;
constexpr int kMostRounds = 40;
constexpr double kMostNowAndThen = 0.01;  ///< of the wakes, with a wait or a page fault
constexpr double kMostByChance = 3;       ///< where there are few of them

const std::vector<Change> kOneByOne{
    Change::policy_more,       Change::policy_less, Change::policy_in_front,
    Change::policy_from_front, Change::rekey,       Change::inbound_sa_less,
    Change::peer_moved,        Change::path_mtu,    Change::route_more,
    Change::route_less,        Change::next_hop};

struct Felt {
  double otherwise = 0;  ///< seconds of the longest iteration without a change
  double longest = 0;    ///< seconds beyond that, after the change that is felt most
  Change most_felt = Change::none;
  std::uint32_t waits = 0, faults = 0;  ///< of all changes
  double wakes = 0;                     ///< of all rounds, as what follows
  double all_waits = 0, all_faults = 0;
  double quiet_waits = 0, quiet_faults = 0;  ///< as many rounds without changes

  bool waits_now_and_then() const { return is_more(all_waits, quiet_waits); }
  bool faults_now_and_then() const { return is_more(all_faults, quiet_faults); }
  bool holds(double most_seconds) const {
    return longest < most_seconds && waits == 0 && (faults == 0 || kSlower != 1);
  }

 private:
  bool is_more(double all, double quiet) const {
    return all > quiet + std::max(kMostByChance, kMostNowAndThen * wakes);
  }
};

/// Of each change, or of those made at once, the least of the rounds so far.
class Least {
 public:
  Least(const std::vector<Change>& kinds, std::uint32_t of_each, std::uint32_t at_once)
      : kinds_(kinds), of_each_(of_each), at_once_(at_once) {}

  void another_round(StallRig& rig, double least_seconds = 0) {
    const std::vector<Wake> wakes = rig.round(kinds_, of_each_, least_seconds);
    if (wakes_.empty()) wakes_ = wakes;
    for (std::size_t change = 0; change < wakes.size(); ++change) {
      Wake& least = wakes_[change];
      least.longest = std::min(least.longest, wakes[change].longest);
      least.seconds = std::min(least.seconds, wakes[change].seconds);
      least.waits = std::min(least.waits, wakes[change].waits);
      least.faults = std::min(least.faults, wakes[change].faults);
      all_waits_ += wakes[change].waits;
      all_faults_ += wakes[change].faults;
    }
    all_wakes_ += static_cast<double>(wakes.size());
  }
  double all_wakes() const { return all_wakes_; }
  double all_waits() const { return all_waits_; }
  double all_faults() const { return all_faults_; }

  /// Of the longest wake.
  double seconds() const { return std::ranges::max(wakes_, {}, &Wake::seconds).seconds; }

  /// Changes of several kinds come in turns; the first of those made at once is named.
  Felt felt(double otherwise) const {
    Felt felt;
    felt.otherwise = otherwise;
    for (std::size_t change = 0; change < wakes_.size(); ++change) {
      const double beyond = wakes_[change].longest - otherwise;
      if (change == 0 || beyond > felt.longest) {
        felt.longest = std::max(0.0, beyond);
        felt.most_felt = kinds_[change * at_once_ % kinds_.size()];
      }
      felt.waits += wakes_[change].waits;
      felt.faults += wakes_[change].faults;
    }
    return felt;
  }

 private:
  std::vector<Change> kinds_;
  std::uint32_t of_each_, at_once_;
  std::vector<Wake> wakes_;
  double all_wakes_ = 0, all_waits_ = 0, all_faults_ = 0;
};

Felt feel(StallRig& rig, const std::vector<Change>& kinds, std::uint32_t of_each,
          int rounds = kRounds, int most_rounds = kMostRounds, std::uint32_t at_once = 1,
          double most_seconds = kMostSeconds) {
  Least changes(kinds, of_each, at_once);
  Least quiet({Change::none}, static_cast<std::uint32_t>(kinds.size()) * of_each, at_once);
  Felt felt;
  for (int round = 0; round < most_rounds && (round < rounds || !felt.holds(most_seconds));
       ++round) {
    changes.another_round(rig);
    quiet.another_round(rig, changes.seconds());
    felt = changes.felt(quiet.felt(0).longest);
  }
  felt.wakes = changes.all_wakes();
  felt.all_waits = changes.all_waits();
  felt.all_faults = changes.all_faults();
  felt.quiet_waits = quiet.all_waits();
  felt.quiet_faults = quiet.all_faults();
  return felt;
}

std::string text_of(const Felt& felt) {
  return "the longest iteration takes " + std::to_string(felt.otherwise * 1e6) + " µs, " +
         std::to_string(felt.longest * 1e6) + " µs more after: " + to_string(felt.most_felt) +
         "; waits " + std::to_string(felt.waits) + ", page faults " + std::to_string(felt.faults) +
         "; of " + std::to_string(felt.wakes) + " wakes: waits " + std::to_string(felt.all_waits) +
         " and without changes " + std::to_string(felt.quiet_waits) + ", page faults " +
         std::to_string(felt.all_faults) + " and " + std::to_string(felt.quiet_faults);
}

}  // namespace

TEST_CASE("worker: no change of policies, SAs or routes keeps it for 50 µs") {
  start_stall_environment();
  StallSettings settings;
  settings.shapes = GENERATE(Shapes::few, Shapes::many);
  StallRig rig(settings);
  const Felt felt = feel(rig, kOneByOne, 20);
  INFO(text_of(felt));
  CHECK(felt.longest < kMostSeconds);
  CHECK(felt.waits == 0);
  CHECK_FALSE(felt.waits_now_and_then());
  if (kSlower != 1) return;  // an instrumented build has pages of its own
  CHECK(felt.faults == 0);
  CHECK_FALSE(felt.faults_now_and_then());
}

TEST_CASE("worker: four changes at once keep it for less than twice the bound of one") {
  start_stall_environment();
  StallSettings settings;
  settings.shapes = GENERATE(Shapes::few, Shapes::many);
  // In the end each has had others before and behind it: there are eleven kinds.
  settings.at_once = 4;
  StallRig rig(settings);
  // One search among many shapes takes nearly all of the bound, and several changes may want two.
  const double most = 2 * kMostSeconds;
  const Felt felt = feel(rig, kOneByOne, 20, kRounds, kMostRounds, settings.at_once, most);
  INFO(text_of(felt));
  CHECK(felt.longest < most);
  CHECK(felt.waits == 0);
  CHECK_FALSE(felt.waits_now_and_then());
  if (kSlower != 1) return;  // an instrumented build has pages of its own
  CHECK(felt.faults == 0);
  CHECK_FALSE(felt.faults_now_and_then());
}

TEST_CASE("worker: a hundred thousand policies that are loaded at once do not keep it for 50 µs") {
  start_stall_environment();
  StallSettings settings;
  settings.shapes = GENERATE(Shapes::few, Shapes::many);
  StallRig rig(settings);
  const Felt felt =
      feel(rig, {Change::all_policies_again}, 1, kSlower == 1 ? 10 : 2, kSlower == 1 ? 40 : 2);
  INFO(text_of(felt));
  CHECK(felt.longest < kMostSeconds);
  CHECK(felt.waits == 0);
  CHECK_FALSE(felt.waits_now_and_then());
  if (kSlower != 1) return;  // an instrumented build has pages of its own
  CHECK(felt.faults == 0);
  CHECK_FALSE(felt.faults_now_and_then());
}

TEST_CASE("worker: what would make it pause at a change is seen") {
  start_stall_environment();
  StallSettings settings;
  settings.policies = 1000;
  // Given a worker that does something of its own at a change
  std::atomic<bool> changed{false};
  settings.beside_change = [&](Change kind) { changed = kind == Change::path_mtu; };
  const auto at_change = [&](std::function<void()> pause) {
    settings.in_iteration = [&changed, pause] {
      if (changed.exchange(false)) pause();
    };
    StallRig rig(settings);
    return feel(rig, {Change::path_mtu, Change::route_more, Change::route_less}, 5, kRounds,
                kRounds);
  };
  SECTION("work") {
    const Felt felt = at_change([] {
      const double until = seconds_on(CLOCK_THREAD_CPUTIME_ID) + 2 * kMostSeconds;
      while (seconds_on(CLOCK_THREAD_CPUTIME_ID) < until) continue;
    });
    CHECK(felt.longest > kMostSeconds);
    CHECK(felt.most_felt == Change::path_mtu);
  }
  SECTION("waiting for somebody") {
    const Felt felt = at_change([] { ::poll(nullptr, 0, 1); });
    // Not 5: a worker that is turned out while it goes to sleep has not given up by itself.
    CHECK(felt.waits != 0);
  }
  SECTION("waiting for somebody, each third time") {
    int times = 0;
    const Felt felt = at_change([&times] {
      if (++times % 3 == 0) ::poll(nullptr, 0, 1);
    });
    CHECK(felt.waits_now_and_then());
  }
  SECTION("memory that nobody has touched") {
    const Felt felt = at_change([] {
      void* const page =
          ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      *static_cast<volatile char*>(page) = 1;
      ::munmap(page, 4096);
    });
    CHECK(felt.faults != 0);
  }
}
