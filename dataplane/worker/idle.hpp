// What a worker does when nothing comes: spin, then pause, then sleep in growing steps.
#pragma once

#include <cstdint>

#include "config/config.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/reclaimer.hpp"

namespace culvert::dataplane {

/// How long to sleep after `empty_polls` polls without a packet, in microseconds; 0: not at all.
/// Traffic at any steady rate above some 20 000 packets a second never lets it sleep; a worker that
/// has been idle for some 65 ms wakes 1 250 times a second, and a first packet waits 800 µs at
/// most. (500 µs: 7 to 13 % of a core in a virtual machine, whose wake-ups cost 40 µs each.)
[[nodiscard]] constexpr std::uint32_t sleep_microseconds(std::uint32_t empty_polls) {
  constexpr std::uint32_t kPollsBeforeSleep = 1024, kLongest = 800, kStep = 5;
  if (empty_polls < kPollsBeforeSleep) return 0;
  const std::uint32_t steps = empty_polls - kPollsBeforeSleep + 1;
  return steps > kLongest / kStep ? kLongest : steps * kStep;
}

class Idler {
 public:
  /// Call on the worker's thread.
  Idler(config::IdleMode mode, WorkerId worker, Reclaimer& reclaimer);
  /// After an iteration that found packets.
  void was_busy() { empty_polls_ = 0; }
  /// After one that did not. Asleep, the worker is offline: the main thread does not wait for it.
  void was_idle();

 private:
  config::IdleMode mode_;
  WorkerId worker_;
  Reclaimer& reclaimer_;
  std::uint32_t empty_polls_ = 0;
};

}  // namespace culvert::dataplane
