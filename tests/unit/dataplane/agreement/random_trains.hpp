// Trains: packets of one flow that differ in size only, some of them of the size by which an SA
// comes to its limit to the byte. And whether an SA is near its limit.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/model/gateway_model.hpp"
#include "tests/unit/dataplane/agreement/random_vlans.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

class RandomTrains : protected RandomVlans {
 protected:
  using RandomVlans::RandomVlans;

  bool is_train_ = false;                   ///< this burst
  std::optional<std::uint32_t> train_spi_;  ///< of the peer's; nullopt: it comes in clear

  /// Its packets are small enough to go whole, in clear or by one SA. They stay in order on
  /// whatever way they go.
  void begin_train(bool from_wan) {
    train_ = any_options(false);
    if (second_) train_.fragment = 0;  // the sound ones would meet at one worker, the others not
    train_bytes_ = 8 + below(140);
    train_spi_.reset();
    is_exact_ = false;
    std::vector<std::uint32_t> counted;
    for (const auto& [spi, sa] : model_.inbound) {
      if (!sa.stopped && is_counted(sa)) counted.push_back(spi);
    }
    if (from_wan && !counted.empty() && !one_in(3)) train_spi_ = any(counted);
    if (one_in(2)) aim_at_limit();
  }
  Packet train_packet() { return resized(train_, train_bytes()); }

  /// An SA whose time is over clamps what SYNs announce until its worker comes to know: none is
  /// sent then.
  void look_for_syns() {
    may_be_syn_ = !is_train_ && std::ranges::none_of(model_.outbound, [](const auto& entry) {
      return entry.second.stopped;
    });
  }

  static bool is_counted(const model::LifeModel& sa) {
    return sa.hard_packets != ~0ULL || sa.hard_bytes != ~0ULL;
  }
  void for_each_life(auto&& look_at) {
    for (auto& [spi, sa] : model_.inbound) look_at(sa);
    for (auto& [slot, sa] : model_.outbound) look_at(sa);
  }
  /// Whether the last packet may have been among the last of an SA. A burst ends there: within one
  /// it is open which packets come before the limit.
  bool limit_is_near() {
    bool is_near = false;
    for_each_life([&](model::LifeModel& sa) { is_near |= sa.was_asked && sa.is_near_its_end(); });
    return is_near;
  }
  /// Whether an SA may end within a burst, or by what becomes whole behind it.
  bool a_limit_is_near() {
    bool is_near = false;
    for_each_life([&](model::LifeModel& sa) {
      constexpr std::uint64_t kNearPackets = 128, kNearBytes = 20'000;
      is_near |= !sa.stopped && sa.is_within(kNearPackets, kNearBytes);
    });
    return is_near;
  }

 private:
  std::size_t train_bytes() { return is_exact_ ? train_bytes_ : 8 + below(140); }
  /// All of one size, by which an SA comes to its limit to the byte, or goes a byte beyond.
  void aim_at_limit() {
    std::vector<std::uint64_t> left;
    const auto look_at = [&](const model::LifeModel& sa) {
      if (!sa.stopped && sa.hard_bytes - sa.bytes < 40'000)
        left.push_back(sa.hard_bytes - sa.bytes);
    };
    if (train_spi_) {
      look_at(model_.inbound.at(*train_spi_));
    } else {
      for (const auto& [slot, sa] : model_.outbound) look_at(sa);
    }
    if (left.empty()) return;
    std::uint64_t packets = 1;
    const std::uint64_t bytes = any(left);
    while (bytes / packets >= 1300 || (bytes % packets != 0 && packets < 20)) ++packets;
    const std::uint64_t total = bytes / packets + (one_in(4) ? 1 : 0);
    const bool v4 = train_.source.find(':') == std::string::npos;
    const std::size_t headers = (v4 ? 20 : 40) + std::min<std::size_t>(train_.payload.size(), 20);
    is_exact_ = total >= headers + 8 && total < 1400;
    if (is_exact_) train_bytes_ = total - headers;
  }

  PacketOptions train_;
  bool is_exact_ = false;
  std::size_t train_bytes_ = 0;
};

}  // namespace culvert::test
