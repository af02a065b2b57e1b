// Inbound SPIs leased from the data plane ahead of need, so that a handshake never waits for one.
#pragma once

#include <chrono>
#include <cstddef>
#include <set>
#include <vector>

#include "channel/messages.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::ike {

class SpiStock final : public SpiSource {
 public:
  /// Below this many a further block is asked for.
  static constexpr std::size_t kLowWater = channel::kMaxLeasedSpis;
  /// How long a refused lease is not asked for again: what is missing is room in the data plane.
  static constexpr std::chrono::seconds kRefusedPause{1};

  std::optional<channel::Spi> take() override {
    if (stock_.empty()) return std::nullopt;
    const channel::Spi spi = stock_.back();
    stock_.pop_back();
    taken_.insert(spi);
    return spi;
  }
  /// Ignored unless it was taken from the present lease: an SPI leased by a data plane that has
  /// gone would be refused by the one that is there now.
  void give_back(channel::Spi spi) override {
    if (taken_.erase(spi) != 0) stock_.push_back(spi);
  }
  /// The data plane has left us one of an earlier life: as if taken.
  void keep(channel::Spi spi) { taken_.insert(spi); }
  /// An SA stands under `spi` now: it is the data plane's again when the SA is deleted.
  void installed(channel::Spi spi) { taken_.erase(spi); }

  void add(const channel::Completion& lease, Instant now) {
    lease_pending_ = false;
    if (lease.outcome != channel::Outcome::ok) {
      not_before_ = now + kRefusedPause;
      return;
    }
    for (std::uint32_t index = 0; index < lease.spi_count; ++index) {
      stock_.push_back(lease.spis[index]);
    }
  }
  /// The data plane took them back when the channel closed.
  void clear() {
    stock_.clear();
    taken_.clear();
    lease_pending_ = false;
    not_before_ = Instant{};
  }
  [[nodiscard]] bool wants_lease(Instant now) const {
    return !lease_pending_ && stock_.size() < kLowWater && now >= not_before_;
  }
  void lease_sent() { lease_pending_ = true; }
  [[nodiscard]] std::size_t size() const { return stock_.size(); }

 private:
  std::vector<channel::Spi> stock_;
  std::set<channel::Spi> taken_;  ///< of the present lease, not installed yet
  bool lease_pending_ = false;
  Instant not_before_{};
};

}  // namespace culvert::ike
