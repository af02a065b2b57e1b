// Valid requests without rest, in the place of the key daemon. Prints what was answered.
//
// usage: churn CHANNEL.SOCK SECONDS LOCAL REMOTE LOCAL_TS REMOTE_TS [SEED]
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>

#include "tests/churn/key_daemon.hpp"

namespace culvert::test {
namespace {

using namespace channel;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kRequestsPerSecond = 1000;
constexpr std::size_t kPairs = 16;  ///< at most installed at once

class Churn : public KeyDaemon {
 public:
  using KeyDaemon::KeyDaemon;

  /// False when it fell behind by a tenth, half of it was refused, or a request made no sense.
  bool run(std::chrono::seconds duration) {
    const auto start = Clock::now();
    std::uint64_t made = 0;
    while (Clock::now() - start < duration) {
      const auto elapsed = std::chrono::duration<double>(Clock::now() - start).count();
      while (static_cast<double>(made) < elapsed * static_cast<double>(kRequestsPerSecond)) {
        change();
        ++made;
      }
      flush();
      take_events();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::printf("%llu requests in %lld s:", static_cast<unsigned long long>(sent()),
                static_cast<long long>(duration.count()));
    for (const auto& [outcome, count] : outcomes()) {
      std::printf(" %s %llu", std::string(to_string(outcome)).c_str(),
                  static_cast<unsigned long long>(count));
    }
    std::printf("\n");
    const auto wanted = kRequestsPerSecond * static_cast<std::uint64_t>(duration.count());
    return sent() > wanted * 9 / 10 && outcomes()[Outcome::ok] > sent() / 2 &&
           outcomes()[Outcome::unknown_request] == 0 && outcomes()[Outcome::invalid_field] == 0;
  }

 private:
  struct Pair {
    SaId in{}, out{};
    PolicyId policy{};
    bool is_up = false;
  };

  /// One request of those that are possible now.
  void change() {
    if (spis() < 8) return lease(32);
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
        Request moved = request(RequestType::switch_outbound);
        moved.body.switch_outbound = {pair.policy, other.is_up ? other.out : pair.out};
        return send(moved);
      }
    }
  }

  void bring_up(Pair& pair) {
    pair = {SaId{number()}, SaId{number()}, PolicyId{number()}, true};
    install(pair.in, Direction::in, take_spi());
    install(pair.out, Direction::out, Spi{static_cast<std::uint32_t>(random_() | 0x100U)});
    install_policy(pair.policy, pair.out);
  }

  void take_down(Pair& pair) {
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
    Request moved = request(RequestType::update_endpoints);
    moved.body.update_endpoints = {sa, {address(place().local), 0}, {address(place().remote), 0}};
    send(moved);
  }

  std::array<Pair, kPairs> pairs_;
};

}  // namespace
}  // namespace culvert::test

int main(int argc, char** argv) {
  if (argc < 7) {
    std::fprintf(stderr,
                 "usage: churn CHANNEL.SOCK SECONDS LOCAL REMOTE LOCAL_TS REMOTE_TS [SEED]\n");
    return 2;
  }
  const std::uint64_t seed = argc > 7 ? std::strtoull(argv[7], nullptr, 0) : std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  const auto client = culvert::channel::Client::connect(argv[1]);
  if (!client) {
    std::fprintf(stderr, "%s\n", client.error().c_str());
    return 2;
  }
  culvert::test::Churn churn(**client, {argv[3], argv[4], argv[5], argv[6]}, seed);
  return churn.run(std::chrono::seconds(std::strtol(argv[2], nullptr, 10))) ? 0 : 1;
}
