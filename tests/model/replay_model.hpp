// The anti-replay service as RFC 4303 §3.4.3 tells it: a set of what was received, no cleverness.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>

namespace culvert::model {

enum class Replay : std::uint8_t { fresh, duplicate, left_of_window };

/// A window of `packets` whose right edge is the highest number verified.
class ReplayModel {
 public:
  explicit ReplayModel(std::uint64_t packets) : packets_(packets) {}

  [[nodiscard]] Replay check(std::uint64_t sequence) const {
    if (sequence == 0) return Replay::left_of_window;  // numbers begin at 1 (§2.2)
    if (sequence + packets_ <= highest_) return Replay::left_of_window;
    return received_.contains(sequence) ? Replay::duplicate : Replay::fresh;
  }
  Replay commit(std::uint64_t sequence) {
    const Replay verdict = check(sequence);
    if (verdict != Replay::fresh) return verdict;
    received_.insert(sequence);
    highest_ = std::max(highest_, sequence);
    while (!received_.empty() && *received_.begin() + packets_ <= highest_) {
      received_.erase(received_.begin());
    }
    return verdict;
  }
  [[nodiscard]] std::uint64_t highest() const { return highest_; }

 private:
  std::uint64_t packets_;
  std::uint64_t highest_ = 0;
  std::set<std::uint64_t> received_;
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
