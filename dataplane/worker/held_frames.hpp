// Frames that a device gave and that are not taken yet. A worker may want fewer at once than a
// device gives: "Some drivers using vector instructions require that nb_pkts is divisible by 4 or
// 8" (rte_eth_rx_burst), and give none to whoever asks for less. Worker-local.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

struct rte_mbuf;

namespace culvert::dataplane {

/// Of one port, in the order in which they came.
class HeldFrames {
 public:
  /// What every driver gives at once.
  static constexpr std::uint16_t kLeastAsked = 8;

  [[nodiscard]] bool is_empty() const { return first_ == end_; }
  /// Fills it, which is empty, by `receive(frames, kLeastAsked)`: how many there were.
  template <typename Receive>
  void fill(const Receive& receive) {
    first_ = 0;
    end_ = static_cast<std::uint16_t>(receive(frames_.data(), kLeastAsked));
  }
  /// The first `most` of them at most, into `to`. How many.
  std::uint16_t take(rte_mbuf** to, std::uint16_t most) {
    const std::uint16_t count = std::min<std::uint16_t>(most, end_ - first_);
    std::copy_n(frames_.begin() + first_, count, to);
    first_ = static_cast<std::uint16_t>(first_ + count);
    return count;
  }

 private:
  std::array<rte_mbuf*, kLeastAsked> frames_;
  std::uint16_t first_ = 0, end_ = 0;
};

}  // namespace culvert::dataplane
