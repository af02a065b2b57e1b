// Valid requests without rest, in the place of the key daemon. Prints what was answered.
//
// usage: churn CHANNEL.SOCK SECONDS LOCAL REMOTE LOCAL_TS REMOTE_TS [SEED]
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "channel/client.hpp"

namespace culvert::test {
namespace {

using namespace channel;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kRequestsPerSecond = 1000;
constexpr std::size_t kPairs = 16;  ///< at most installed at once

struct Place {
  std::string local, remote, local_ts, remote_ts;
};

class Churn {
 public:
  Churn(Client& client, Place place, std::uint64_t seed)
      : client_(client), place_(std::move(place)), random_(seed), next_id_(random_() | 1U) {}

  /// False when it fell behind by half or was told that a request made no sense.
  bool run(std::chrono::seconds duration) {
    const auto start = Clock::now();
    std::uint64_t made = 0;
    while (Clock::now() - start < duration) {
      const auto elapsed = std::chrono::duration<double>(Clock::now() - start).count();
      while (static_cast<double>(made) < elapsed * static_cast<double>(kRequestsPerSecond)) {
        change();
        ++made;
      }
      client_.flush();
      take_events();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::printf("%llu requests in %lld s:", static_cast<unsigned long long>(sent_),
                static_cast<long long>(duration.count()));
    for (const auto& [outcome, count] : outcomes_) {
      std::printf(" %s %llu", std::string(to_string(outcome)).c_str(),
                  static_cast<unsigned long long>(count));
    }
    std::printf("\n");
    const auto wanted = kRequestsPerSecond * static_cast<std::uint64_t>(duration.count());
    return sent_ > wanted / 2 && outcomes_[Outcome::ok] > sent_ / 4 &&
           outcomes_[Outcome::unknown_request] == 0 && outcomes_[Outcome::invalid_field] == 0;
  }

 private:
  struct Pair {
    SaId in{}, out{};
    PolicyId policy{};
    bool is_up = false;
  };

  /// One request of those that are possible now.
  void change() {
    if (spis_.size() < 8) {
      Request lease = request(RequestType::lease_spis);
      lease.body.lease_spis = {32};
      send(lease);
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
        Request moved = request(RequestType::switch_outbound);
        moved.body.switch_outbound = {pair.policy, other.is_up ? other.out : pair.out};
        return send(moved);
      }
    }
  }

  void bring_up(Pair& pair) {
    pair = {SaId{next_id_++}, SaId{next_id_++}, PolicyId{next_id_++}, true};
    install(pair.in, Direction::in, spis_.back());
    spis_.pop_back();
    install(pair.out, Direction::out, Spi{static_cast<std::uint32_t>(random_() | 0x100U)});
    Request policy = request(RequestType::install_policy);
    policy.body.install_policy = {};
    policy.body.install_policy.policy = pair.policy;
    policy.body.install_policy.outbound = pair.out;
    policy.body.install_policy.local_selectors = selectors(place_.local_ts);
    policy.body.install_policy.remote_selectors = selectors(place_.remote_ts);
    send(policy);
  }

  void take_down(Pair& pair) {
    Request policy = request(RequestType::delete_policy);
    policy.body.delete_policy = {pair.policy};
    // In either order: an SA that goes first turns its policies into traps.
    const bool policy_first = random_() % 2 == 0;
    if (policy_first) send(policy);
    for (const SaId sa : {pair.out, pair.in}) {
      Request removal = request(RequestType::delete_sa);
      removal.body.delete_sa = {sa};
      send(removal);
    }
    if (!policy_first) send(policy);
    pair.is_up = false;
  }

  void move(SaId sa) {
    Request moved = request(RequestType::update_endpoints);
    moved.body.update_endpoints = {sa, {address(place_.local), 0}, {address(place_.remote), 0}};
    send(moved);
  }

  void install(SaId sa, Direction direction, Spi spi) {
    Request made = request(RequestType::install_sa);
    InstallSa body;
    body.sa = sa;
    body.direction = direction;
    body.esn = random_() % 2 == 0;
    body.spi = spi;
    body.replay_window = direction == Direction::in ? 1024 : 0;
    body.suite = {crypto::Encryption::aes_gcm_16, 128, crypto::Integrity::none};
    body.local = {address(place_.local), 0};
    body.remote = {address(place_.remote), 0};
    body.local_selectors = selectors(place_.local_ts);
    body.remote_selectors = selectors(place_.remote_ts);
    std::array<std::uint8_t, 20> key{};
    for (auto& byte : key) byte = static_cast<std::uint8_t>(random_());
    static_cast<void>(body.key.assign(key));
    made.body.install_sa = body;
    send(made);
  }

  Request request(RequestType type) {
    Request made;
    made.type = type;
    made.id = RequestId{next_id_++};
    return made;
  }
  static wire::IpAddress address(const std::string& text) {
    return wire::IpAddress::parse(text).value();
  }
  static SelectorSet selectors(const std::string& text) {
    SelectorSet set;
    set.items[set.count++] = wire::TrafficSelector::parse(text).value();
    return set;
  }

  void send(const Request& request) {
    while (!client_.send(request)) {
      client_.flush();
      take_events();
      std::this_thread::yield();
    }
    ++sent_;
  }

  void take_events() {
    client_.acknowledge();
    while (const auto event = client_.next_event()) {
      if (event->type != EventType::completion) continue;
      const Completion& completion = event->body.completion;
      ++outcomes_[completion.outcome];
      for (std::uint32_t i = 0; i < completion.spi_count; ++i) {
        spis_.push_back(completion.spis[i]);
      }
    }
  }

  Client& client_;
  Place place_;
  std::mt19937_64 random_;
  std::uint64_t next_id_;
  std::uint64_t sent_ = 0;
  std::array<Pair, kPairs> pairs_;
  std::vector<Spi> spis_;
  std::map<Outcome, std::uint64_t> outcomes_;
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
