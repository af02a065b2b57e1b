// Valid requests without rest, in the place of the key daemon. Prints what was answered.
//
// usage: churn CHANNEL.SOCK SECONDS LOCAL REMOTE LOCAL_TS REMOTE_TS [SEED]
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>

#include "tests/churn/key_daemon.hpp"
#include "tests/random_seed.hpp"

namespace culvert::test {
namespace {

using namespace channel;
using Clock = std::chrono::steady_clock;

/// Each installs, moves or deletes 0.7 SAs, and installs, switches or deletes 0.55 policies.
constexpr double kStepsPerSecond = 2000;
/// A machine that others use, and a gateway with sanitizers; where both are one's own it is not
/// longer. It bounds the test, and is no claim of a rate.
constexpr int kMostTimesAsLong = 20;
constexpr std::uint32_t kLeased = 64;
constexpr std::size_t kPairs = 16;  ///< at most installed at once

class Churn : public KeyDaemon {
 public:
  using KeyDaemon::KeyDaemon;

  /// As many steps as the time has room for: a machine with other work takes longer over them.
  /// False when it took far too long, or anything was refused: each is of what is there, in its
  /// order.
  bool run(std::chrono::seconds duration) {
    const auto start = Clock::now();
    const auto seconds = [&] {
      return std::chrono::duration<double>(Clock::now() - start).count();
    };
    const auto due = [&] { return static_cast<std::uint64_t>(seconds() * kStepsPerSecond); };
    const auto wanted =
        static_cast<std::uint64_t>(kStepsPerSecond * static_cast<double>(duration.count()));
    std::uint64_t made = 0;
    while (made < wanted && seconds() < kMostTimesAsLong * static_cast<double>(duration.count())) {
      for (const std::uint64_t now = std::min(due(), wanted); made < now && can_change(); ++made) {
        change();
      }
      flush();
      take_events();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const double lasted = seconds();
    if (made == wanted) wait_for_answers();
    std::printf("%llu changes of SAs and %llu of policies in %.1f s:",
                static_cast<unsigned long long>(sa_changes_),
                static_cast<unsigned long long>(policy_changes_), lasted);
    for (const auto& [outcome, count] : outcomes()) {
      std::printf(" %s %llu", std::string(to_string(outcome)).c_str(),
                  static_cast<unsigned long long>(count));
    }
    std::printf("\n");
    return made == wanted && outcomes()[Outcome::ok] == sent();
  }

 private:
  struct Pair {
    SaId in{}, out{};
    PolicyId policy{};
    bool is_up = false;
  };

  /// Whether there is an SPI for what may come up, or none is asked for.
  [[nodiscard]] bool can_change() const { return spis() != 0 || answered() >= lease_sent_; }
  /// One of those that are possible now.
  void change() {
    // As many as last while the daemon reloads; not again before the answer, for leases that come
    // at once would take all of its room.
    if (spis() < 2 * kLeased && answered() >= lease_sent_) {
      lease(kLeased);
      lease_sent_ = sent();
      return;
    }
    Pair& pair = pairs_[random_() % kPairs];
    if (!pair.is_up) return bring_up(pair);
    switch (random_() % 5) {
      case 0:
        return take_down(pair);
      case 1:
        return move(random_() % 2 == 0 ? pair.in : pair.out);
      case 2: {
        Request query = request(RequestType::query_sa);
        query.body.query_sa = {pair.in};
        return send(query);
      }
      default: {
        // Somebody else's SA may take this policy's traffic: whatever is installed.
        const Pair& other = pairs_[random_() % kPairs];
        ++policy_changes_;
        Request moved = request(RequestType::switch_outbound);
        moved.body.switch_outbound = {pair.policy, other.is_up ? other.out : pair.out};
        return send(moved);
      }
    }
  }

  void bring_up(Pair& pair) {
    pair = {SaId{number()}, SaId{number()}, PolicyId{number()}, true};
    sa_changes_ += 2;
    ++policy_changes_;
    install(pair.in, Direction::in, take_spi());
    install(pair.out, Direction::out, Spi{static_cast<std::uint32_t>(random_() | 0x100U)});
    install_policy(pair.policy, pair.out);
  }

  void take_down(Pair& pair) {
    sa_changes_ += 2;
    ++policy_changes_;
    Request policy = request(RequestType::delete_policy);
    policy.body.delete_policy = {pair.policy};
    // In either order: an SA that goes first turns its policies into traps.
    const bool policy_first = random_() % 2 == 0;
    if (policy_first) send(policy);
    for (const SaId sa : {pair.out, pair.in}) remove(sa);
    if (!policy_first) send(policy);
    pair.is_up = false;
  }

  void move(SaId sa) {
    ++sa_changes_;
    Request moved = request(RequestType::update_endpoints);
    moved.body.update_endpoints = {sa, {address(place().local), 0}, {address(place().remote), 0}};
    send(moved);
  }

  std::array<Pair, kPairs> pairs_;
  std::uint64_t lease_sent_ = 0;  ///< requests until then
  std::uint64_t sa_changes_ = 0, policy_changes_ = 0;
};

}  // namespace
}  // namespace culvert::test

int main(int argc, char** argv) {
  if (argc < 7) {
    std::fprintf(stderr,
                 "usage: churn CHANNEL.SOCK SECONDS LOCAL REMOTE LOCAL_TS REMOTE_TS [SEED]\n");
    return 2;
  }
  const std::uint64_t seed =
      argc > 7 ? std::strtoull(argv[7], nullptr, 0) : culvert::test::random_seed();
  const auto client = culvert::channel::Client::connect(argv[1]);
  if (!client) {
    std::fprintf(stderr, "%s\n", client.error().c_str());
    return 2;
  }
  culvert::test::Churn churn(**client, {argv[3], argv[4], argv[5], argv[6]}, seed);
  return churn.run(std::chrono::seconds(std::strtol(argv[2], nullptr, 10))) ? 0 : 1;
}
