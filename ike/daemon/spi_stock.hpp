// Inbound SPIs leased from the data plane ahead of need, so that a handshake never waits for one.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <set>

#include "channel/messages.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::ike {

class SpiStock final : public SpiSource {
 public:
  /// Blocks are asked for until so many are here or on their way: a block at the least, and what a
  /// storm of rekeys takes in the milliseconds that a block needs, up to an eighth of what the data
  /// plane has room for. Of a small one half: one for each child that its limits allow.
  static constexpr std::size_t kLowWater = channel::kMaxLeasedSpis;
  static constexpr std::size_t kHighestLowWater = 1024;
  static constexpr std::size_t low_water_for(std::size_t most_sas) {
    const std::size_t for_children = std::clamp(most_sas / 2, std::size_t{1}, kLowWater);
    return std::clamp(most_sas / 8, for_children, kHighestLowWater);
  }
  /// How long a refused lease is not asked for again: what is missing is room in the data plane.
  static constexpr std::chrono::seconds kRefusedPause{1};

  explicit SpiStock(std::size_t low_water = kLowWater) : low_water_(low_water) {}

  std::optional<channel::Spi> take() override {
    if (stock_.empty()) return std::nullopt;
    const channel::Spi spi = stock_.back();
    stock_.pop_back();
    taken_.insert(spi);
    return spi;
  }
  /// Ignored unless it was taken from the present lease: an SPI leased by a data plane that has
  /// gone would be refused by the one that is there now.
  /// It is the last to be taken again: a peer that refused a child after it had installed half of
  /// it (libreswan 4.10 when rekeys cross) would refuse each further offer of the same SPI.
  void give_back(channel::Spi spi) override {
    if (taken_.erase(spi) != 0) stock_.push_front(spi);
  }
  /// The data plane has left us one of an earlier life: as if taken.
  void keep(channel::Spi spi) { taken_.insert(spi); }
  /// An SA stands under `spi` now: it is the data plane's again when the SA is deleted.
  void installed(channel::Spi spi) { taken_.erase(spi); }

  void add(const channel::Completion& lease, Instant now) {
    if (leases_pending_ > 0) --leases_pending_;
    granted_ = lease.outcome == channel::Outcome::ok;
    if (!granted_) {
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
    leases_pending_ = 0;
    granted_ = false;
    not_before_ = Instant{};
  }
  [[nodiscard]] bool wants_lease(Instant now) const {
    // Several at once only of a data plane that has just granted one.
    if (!granted_ && leases_pending_ > 0) return false;
    const std::size_t coming = leases_pending_ * block();
    return stock_.size() + coming < low_water_ && now >= not_before_;
  }
  /// How many to ask for at once.
  [[nodiscard]] std::uint32_t block() const {
    return static_cast<std::uint32_t>(std::min(low_water_, channel::kMaxLeasedSpis));
  }
  [[nodiscard]] bool awaits_lease() const { return leases_pending_ != 0; }
  void lease_sent() { ++leases_pending_; }
  [[nodiscard]] std::size_t size() const { return stock_.size(); }

 private:
  std::deque<channel::Spi> stock_;  ///< taken from the back
  std::set<channel::Spi> taken_;    ///< of the present lease, not installed yet
  std::size_t low_water_;
  std::size_t leases_pending_ = 0;
  bool granted_ = false;  ///< the last one
  Instant not_before_{};
};

}  // namespace culvert::ike
