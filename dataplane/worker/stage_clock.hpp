// Where a worker's time goes, stage by stage: for the packet-rate suite. A worker that is given no
// clock looks at one pointer some ten times a burst.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace culvert::dataplane {

/// Time is of the stage that was entered last. Packets of known flows go through several in one
/// pass; it is then of the first that is named.
enum class Stage : std::uint8_t {
  loop,      ///< what is once an iteration: quiescent report, counters, the other rings
  rx,        ///< the driver, received counters
  classify,  ///< Ethernet, IP, checksum; what may be ESP or a known flow is told apart
  lookup,    ///< inbound: SA, window, nonce. Outbound and decrypted: flow, policy
  header,    ///< sequence numbers, outer headers, trailer, nonce; of a known flow all headers
  crypto,    ///< the engine
  check,     ///< ICV compare, trailer, inner header, selectors, window, lifetimes
  forward,   ///< route, Ethernet header, transmit queue
  tx,        ///< the driver, buffers given back
};
inline constexpr std::size_t kStages = 9;

/// Worker-local. Times in TSC cycles.
class StageClock {
 public:
  /// A stage of a burst takes microseconds. What took longer than this was the scheduler's doing
  /// and belongs to no stage.
  static constexpr std::uint64_t kInterrupted = 500'000;

  void enter(Stage stage, std::uint64_t now) {
    const std::uint64_t passed = now - since_;
    if (passed < kInterrupted) cycles_[static_cast<std::size_t>(stage_)] += passed;
    ++entries_[static_cast<std::size_t>(stage)];
    stage_ = stage;
    since_ = now;
  }
  [[nodiscard]] std::uint64_t cycles(Stage stage) const {
    return cycles_[static_cast<std::size_t>(stage)];
  }
  [[nodiscard]] std::uint64_t entries(Stage stage) const {
    return entries_[static_cast<std::size_t>(stage)];
  }

 private:
  std::array<std::uint64_t, kStages> cycles_{}, entries_{};
  std::uint64_t since_ = 0;
  Stage stage_ = Stage::loop;
};

}  // namespace culvert::dataplane
