// The anti-replay service as RFC 4303 §3.4.3 tells it: a set of what was received, no cleverness.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>

namespace culvert::model {

enum class Replay : std::uint8_t { fresh, duplicate, left_of_window };

/// A window of `packets` whose right edge is the highest number verified. `before`: as if all
/// numbers up to this one had been received.
class ReplayModel {
 public:
  explicit ReplayModel(std::uint64_t packets, std::uint64_t before = 0)
      : packets_(packets), before_(before), highest_(before), highest_then_(before) {}

  [[nodiscard]] Replay check(std::uint64_t sequence) const {
    return check_at(highest_, sequence, is_received(sequence));
  }
  Replay commit(std::uint64_t sequence) {
    const Replay verdict = check(sequence);
    if (verdict != Replay::fresh) return verdict;
    received_.insert(sequence);
    of_burst_.insert(sequence);
    highest_ = std::max(highest_, sequence);
    return verdict;
  }
  [[nodiscard]] std::uint64_t highest() const { return highest_; }

  /// Packets that come at once are checked before any of them is verified.
  void burst_begins() {
    of_burst_.clear();
    highest_then_ = highest_;
    while (!received_.empty() && *received_.begin() + packets_ <= highest_) {
      received_.erase(received_.begin());
    }
  }
  /// `check` as it was when they came, and the highest number at that time.
  [[nodiscard]] Replay check_then(std::uint64_t sequence) const {
    return check_at(highest_then_, sequence,
                    is_received(sequence) && !of_burst_.contains(sequence));
  }
  [[nodiscard]] std::uint64_t highest_then() const { return highest_then_; }

 private:
  [[nodiscard]] bool is_received(std::uint64_t sequence) const {
    return sequence <= before_ || received_.contains(sequence);
  }
  [[nodiscard]] Replay check_at(std::uint64_t highest, std::uint64_t sequence,
                                bool is_received) const {
    if (sequence == 0) return Replay::left_of_window;  // numbers begin at 1 (§2.2)
    if (sequence <= highest && highest - sequence >= packets_) return Replay::left_of_window;
    return is_received ? Replay::duplicate : Replay::fresh;
  }

  std::uint64_t packets_, before_;
  std::uint64_t highest_, highest_then_;
  std::set<std::uint64_t> received_, of_burst_;
};

/// RFC 4303 A2.2 by search: the number that ends in `low` and is the first at or right of the
/// window's bottom. Numbers do not go below zero.
[[nodiscard]] inline std::uint64_t extended_by_search(std::uint64_t highest, std::uint32_t window,
                                                      std::uint32_t low) {
  constexpr std::uint64_t kSubspace = std::uint64_t{1} << 32U;
  const std::uint64_t bottom = highest + 1 >= window ? highest + 1 - window : 0;
  const std::uint64_t high = highest / kSubspace;
  for (std::uint64_t candidate_high = high == 0 ? 0 : high - 1;; ++candidate_high) {
    const std::uint64_t candidate = candidate_high * kSubspace + low;
    if (candidate >= bottom) return candidate;
  }
}

}  // namespace culvert::model
