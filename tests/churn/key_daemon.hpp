// What stands in the place of the key daemon: valid requests, and what is answered.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "channel/client.hpp"
#include "config/child_id.hpp"

namespace culvert::test {

/// The one child whose SAs are made, by the name that the scenarios give it.
inline constexpr config::ChildId kChild = config::child_id("to-branch", "net");
struct Place {
  std::string local, remote, local_ts, remote_ts;
};

class KeyDaemon {
 public:
  KeyDaemon(channel::Client& client, Place place, std::uint64_t seed)
      : random_(seed), client_(client), place_(std::move(place)), next_id_(random_() | 1U) {}

  [[nodiscard]] std::uint64_t sent() const { return sent_; }
  [[nodiscard]] std::uint64_t answered() const { return answered_; }
  /// SAs that a snapshot had.
  [[nodiscard]] std::uint64_t told() const { return told_; }
  [[nodiscard]] std::map<channel::Outcome, std::uint64_t>& outcomes() { return outcomes_; }

 protected:
  channel::Request request(channel::RequestType type) {
    channel::Request made;
    made.type = type;
    made.id = channel::RequestId{number()};
    return made;
  }
  /// Never the same again.
  std::uint64_t number() { return next_id_++; }

  void lease(std::uint32_t count) {
    channel::Request made = request(channel::RequestType::lease_spis);
    made.body.lease_spis = {count};
    send(made);
  }
  /// From those leased; precondition: there is one.
  channel::Spi take_spi() {
    const channel::Spi spi = spis_.back();
    spis_.pop_back();
    return spi;
  }
  [[nodiscard]] std::size_t spis() const { return spis_.size(); }

  void install(channel::SaId sa, channel::Direction direction, channel::Spi spi) {
    channel::Request made = request(channel::RequestType::install_sa);
    channel::InstallSa body;
    body.sa = sa;
    body.direction = direction;
    body.child_id = kChild;
    body.esn = random_() % 2 == 0;
    body.spi = spi;
    body.replay_window = direction == channel::Direction::in ? 1024 : 0;
    // Of the child that the scenarios configure: the data plane takes no other.
    body.suite = {crypto::Encryption::aes_gcm_16, 256, crypto::Integrity::none};
    body.local = {address(place_.local), 0};
    body.remote = {address(place_.remote), 0};
    body.local_selectors = selectors(place_.local_ts);
    body.remote_selectors = selectors(place_.remote_ts);
    std::array<std::uint8_t, 36> key{};
    for (auto& byte : key) byte = static_cast<std::uint8_t>(random_());
    static_cast<void>(body.key.assign(key));
    made.body.install_sa = body;
    send(made);
  }
  void remove(channel::SaId sa) {
    channel::Request removal = request(channel::RequestType::delete_sa);
    removal.body.delete_sa = {sa};
    send(removal);
  }
  void take_snapshot() { send(request(channel::RequestType::take_snapshot)); }
  void install_policy(channel::PolicyId id, channel::SaId outbound) {
    channel::Request policy = request(channel::RequestType::install_policy);
    policy.body.install_policy = {};
    policy.body.install_policy.policy = id;
    policy.body.install_policy.child_id = kChild;
    policy.body.install_policy.outbound = outbound;
    policy.body.install_policy.local_selectors = selectors(place_.local_ts);
    policy.body.install_policy.remote_selectors = selectors(place_.remote_ts);
    send(policy);
  }

  [[nodiscard]] const Place& place() const { return place_; }
  static wire::IpAddress address(const std::string& text) {
    return wire::IpAddress::parse(text).value();
  }

  void send(const channel::Request& request) {
    while (!client_.send(request)) {
      client_.flush();
      take_events();
      std::this_thread::yield();
    }
    ++sent_;
  }
  void flush() { client_.flush(); }
  void wait_for_answers() {
    while (answered() < sent()) {
      flush();
      take_events();
      std::this_thread::yield();
    }
  }
  void take_events() {
    client_.acknowledge();
    while (const auto event = client_.next_event()) {
      if (event->type == channel::EventType::snapshot_sa) ++told_;
      if (event->type != channel::EventType::completion) continue;
      const channel::Completion& completion = event->body.completion;
      ++answered_;
      ++outcomes_[completion.outcome];
      for (std::uint32_t i = 0; i < completion.spi_count; ++i) {
        spis_.push_back(completion.spis[i]);
      }
    }
  }

  std::mt19937_64 random_;

 private:
  static channel::SelectorSet selectors(const std::string& text) {
    channel::SelectorSet set;
    set.items[set.count++] = wire::TrafficSelector::parse(text).value();
    return set;
  }

  channel::Client& client_;
  Place place_;
  std::uint64_t next_id_;
  std::uint64_t sent_ = 0, answered_ = 0, told_ = 0;
  std::vector<channel::Spi> spis_;
  std::map<channel::Outcome, std::uint64_t> outcomes_;
};

}  // namespace culvert::test
