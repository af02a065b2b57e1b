// How long a thread has run. A rate is of the processor time of the thread that did the work, so
// that what else runs on the machine is left out as far as the scheduler knows of it.
#pragma once

#include <atomic>
#include <ctime>
#include <functional>
#include <span>
#include <vector>

#include <pthread.h>

namespace culvert::benchmarks {

[[nodiscard]] inline double seconds_on(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// The processor time of a thread, read by another.
class ThreadClock {
 public:
  /// On the thread that is to be measured, before its work.
  void start() {
    ::pthread_getcpuclockid(::pthread_self(), &clock_);
    // Release pairs with the acquire in `has_started`: the clock before its mark.
    started_.store(true, std::memory_order_release);
  }
  [[nodiscard]] bool has_started() const { return started_.load(std::memory_order_acquire); }
  /// After `has_started`, while the thread lives.
  [[nodiscard]] double seconds() const { return seconds_on(clock_); }

 private:
  clockid_t clock_{};
  std::atomic<bool> started_{false};
};

/// A thread at work, as the main thread sees it.
struct Probe {
  const ThreadClock* clock;
  std::function<std::uint64_t()> packets;     ///< done so far
  std::function<double()> seconds_set_aside;  ///< of its time so far, not spent on packets
  std::uint64_t warm_up_packets = 0;          ///< before it is measured
};

/// Waits until each thread has worked for that long, and on some packets at least; returns
/// nanoseconds per packet, by thread. A thread that does next to nothing is given up on.
[[nodiscard]] std::vector<double> nanoseconds_per_packet(std::span<const Probe> probes,
                                                         double seconds);

}  // namespace culvert::benchmarks
