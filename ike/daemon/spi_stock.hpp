// Inbound SPIs leased from the data plane ahead of need, so that a handshake never waits for one.
#pragma once

#include <cstddef>
#include <vector>

#include "channel/messages.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::ike {

class SpiStock final : public SpiSource {
 public:
  /// Below this many a further block is asked for.
  static constexpr std::size_t kLowWater = channel::kMaxLeasedSpis;

  std::optional<channel::Spi> take() override {
    if (stock_.empty()) return std::nullopt;
    const channel::Spi spi = stock_.back();
    stock_.pop_back();
    return spi;
  }
  void give_back(channel::Spi spi) override { stock_.push_back(spi); }

  void add(const channel::Completion& lease) {
    lease_pending_ = false;
    for (std::uint32_t index = 0; index < lease.spi_count; ++index)
      stock_.push_back(lease.spis[index]);
  }
  /// The data plane took them back when the channel closed.
  void clear() {
    stock_.clear();
    lease_pending_ = false;
  }
  [[nodiscard]] bool wants_lease() const { return !lease_pending_ && stock_.size() < kLowWater; }
  void lease_sent() { lease_pending_ = true; }
  [[nodiscard]] std::size_t size() const { return stock_.size(); }

 private:
  std::vector<channel::Spi> stock_;
  bool lease_pending_ = false;
};

}  // namespace culvert::ike
