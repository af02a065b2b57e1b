// One thread's epoll loop: descriptors, timers at absolute times, signals. Not thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>

namespace culvert::runtime {

/// A point on CLOCK_MONOTONIC, since boot.
using Instant = std::chrono::nanoseconds;
[[nodiscard]] Instant now();

/// Names a timer that was set; never reused within a loop.
enum class TimerId : std::uint64_t {};

class EventLoop {
 public:
  using Callback = std::function<void()>;

  static std::expected<std::unique_ptr<EventLoop>, std::string> create();
  virtual ~EventLoop() = default;

  /// Calls `on_readable` (level-triggered) while `descriptor` is readable or hung up. The
  /// descriptor stays the caller's, who removes it before closing it, or adds what has its number
  /// next. Adding it again replaces the callback.
  virtual std::expected<void, std::string> add(int descriptor, Callback on_readable) = 0;
  virtual void remove(int descriptor) = 0;

  /// Calls once, at or soon after `when`; in the past means in this loop's next turn. Timers run in
  /// the order of their times. Callbacks may set and cancel timers, themselves included.
  virtual TimerId set_timer(Instant when, Callback on_time) = 0;
  virtual void cancel_timer(TimerId timer) = 0;

  /// Blocks `signal` (SIGTERM, SIGINT, SIGHUP) for the calling thread and calls back from the loop
  /// instead. Call before starting threads, so that they inherit the mask.
  virtual std::expected<void, std::string> on_signal(int signal, Callback callback) = 0;

  /// Runs until `stop`.
  virtual void run() = 0;
  /// One turn: waits at most `wait` for something to happen, then calls what is due.
  virtual void run_once(std::chrono::milliseconds wait) = 0;
  virtual void stop() = 0;
};

}  // namespace culvert::runtime
