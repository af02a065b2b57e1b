// How many fragments for us a worker looks at that are of nobody whom the configuration names: each
// costs a look over what waits, and anybody can send them. Worker-local; pure: time comes in.
#pragma once

#include <algorithm>
#include <cstdint>

namespace culvert::dataplane {

class FragmentBudget {
 public:
  /// Some 3 Gbit/s of frames of 1500 bytes, in a few hundredths of a worker's time.
  static constexpr std::uint64_t kPerMillisecond = 256;
  /// As many as may wait.
  static constexpr std::uint64_t kAtOnce = 1024;

  /// `millisecond`: in the units of `now`; 0: without bound.
  explicit FragmentBudget(std::uint64_t millisecond) : each_(millisecond / kPerMillisecond) {}

  /// False: it was one too many.
  [[nodiscard]] bool take(std::uint64_t now) {
    // A guest that was reset, or a machine that hibernated, may count anew: by that time nothing is
    // to be paid for.
    if (paid_until_ > now + kAtOnce * each_) [[unlikely]]
      paid_until_ = now;
    paid_until_ = std::max(paid_until_, now);
    if (paid_until_ - now > (kAtOnce - 1) * each_) return false;
    paid_until_ += each_;
    return true;
  }

 private:
  std::uint64_t each_;
  std::uint64_t paid_until_ = 0;  ///< when those that were taken have all been paid for
};

}  // namespace culvert::dataplane
