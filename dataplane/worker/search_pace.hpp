// How many packets a worker takes at once after a change of policies. Each of them may have to be
// searched for: a burst of sixty-four would keep the worker from its ports for a hundred
// microseconds where memory is slow, and for milliseconds where policies have many shapes. In small
// bursts the same packets wait in the ports' queues instead, and those behind them are not lost.
#pragma once

#include <algorithm>
#include <cstdint>

#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/spd.hpp"

namespace culvert::dataplane {

/// Worker-local.
class SearchPace {
 public:
  /// When the worker begins: what is in force then is no change, nobody has waited for less.
  explicit SearchPace(const SpdSnapshot& policies) : generation_(policies.generation()) {}
  SearchPace() = default;
  /// Once an iteration, before packets are received.
  void see(const SpdSnapshot& policies) {
    const std::uint64_t generation = policies.generation();
    if (generation == generation_) [[likely]]
      return;
    generation_ = generation;
    most_ = searches_ = at_once(policies.probes());
    searched_ = 0;
    bursts_ = 0;
  }
  /// Packets to receive from one queue.
  [[nodiscard]] std::uint16_t most() const { return most_; }
  /// Whether a change bounds it: then one queue an iteration.
  [[nodiscard]] bool is_small() const { return most_ != kBurstPackets; }
  void count_search() { ++searched_; }
  /// Since the last small burst, or the last change.
  [[nodiscard]] std::uint32_t searched() const { return searched_; }
  /// A burst of so many packets is done. The next one may be twice as large, as far as what was
  /// searched for in this one lets expect no more searches than may be. Flows that are new all the
  /// time are no doing of the change: it does not matter any more after some bursts.
  void end_burst(std::uint32_t packets) {
    if (!is_small()) [[likely]]
      return;
    const std::uint32_t expected =
        searched_ == 0 ? kBurstPackets
                       : std::max<std::uint32_t>(searches_ * packets / searched_, 1);
    const std::uint32_t next = ++bursts_ == kBursts
                                   ? kBurstPackets
                                   : std::min<std::uint32_t>({2U * most_, expected, kBurstPackets});
    most_ = static_cast<std::uint16_t>(next);
    searched_ = 0;
  }

 private:
  /// A search of a list that nobody has looked at yet costs as much as fifty probes and those that
  /// it asks; a hundred may go into an iteration, which is one search as a rule.
  static constexpr std::size_t kProbesABurst = 100, kProbesOfMemory = 50;
  static constexpr std::uint32_t kBursts = 1000;

  static std::uint16_t at_once(std::size_t probes) {
    return static_cast<std::uint16_t>(
        std::clamp<std::size_t>(kProbesABurst / (kProbesOfMemory + probes), 1, kBurstPackets));
  }

  std::uint16_t most_ = kBurstPackets;
  std::uint16_t searches_ = kBurstPackets;  ///< of one burst
  std::uint64_t generation_ = 0;            ///< of policies, seen last
  std::uint32_t searched_ = 0;              ///< in the burst in hand
  std::uint32_t bursts_ = 0;                ///< since the generation was new
};

}  // namespace culvert::dataplane
