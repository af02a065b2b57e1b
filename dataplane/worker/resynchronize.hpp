// The way back into step for a receiver that has lost 2^32 packets or more of an SA with extended
// sequence numbers: the upper half of a number is not sent, and the window no longer tells it (RFC
// 4303 appendix A3). Worker-local.
//
// Whoever forges packets can bring an SA here, so that there are bounds: 64 that fail in a row buy
// kResyncTries decryptions of one packet, and a worker does that for one packet a millisecond at
// most, whatever the SA: so little that it is done here and not "in the background" (A3.1), for a
// window has one writer. Only numbers above the window are tried: nothing that was received before
// can be received again.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/tables/sa.hpp"

namespace culvert::dataplane {

class WorkerState;
struct OpenedPacket;

/// "The value used to trigger the re-synchronization process is a local parameter" (RFC 4303
/// §A3.1): as many as a burst has, so that those behind the packet that brought an SA back, which
/// were decrypted with the upper half of before, do not begin it anew.
inline constexpr std::uint32_t kFailuresBeforeResync = 64;
/// "The number of retries should be limited" (RFC 4303 §A3.2). At ten million packets a second
/// eight times 2^32 of them are an hour, after which there is a new SA.
inline constexpr std::uint32_t kResyncTries = 8;

class Resynchronizer {
 public:
  explicit Resynchronizer(std::uint64_t period) : period_(period) {}

  /// A packet of the SA did not authenticate. "Receipt of a valid packet on the SA resets the
  /// counter to zero" (RFC 4303 §A3.1): each is one of `packets`, and nothing else of it is looked
  /// at.
  void count_failure(InboundSa& sa, std::uint64_t tsc) const {
    if (!sa.has_esn) return;
    FailedPackets& failed = sa.details->failed;
    const std::uint64_t packets = sa.packets.load(std::memory_order_relaxed);
    if (failed.after_packets != packets) failed = {packets, 0};
    ++failed.in_a_row;
    if (failed.in_a_row >= kFailuresBeforeResync && tsc >= not_before) {
      sa.resync_due.store(true, std::memory_order_relaxed);
    }
  }

  /// The first packet of an SA that is due, before it is decrypted in place: as it came. `index`:
  /// of its operation in the burst.
  void keep(InboundSa& sa, std::uint32_t index, const crypto::esp::Operation& operation,
            std::uint64_t tsc) {
    sa.resync_due.store(false, std::memory_order_relaxed);
    if (has_kept() || tsc < not_before) return;
    // Authentic ones may have come since.
    const FailedPackets& failed = sa.details->failed;
    const bool is_due = failed.in_a_row >= kFailuresBeforeResync &&
                        failed.after_packets == sa.packets.load(std::memory_order_relaxed);
    if (!is_due) return;
    // A large packet takes as long as many.
    not_before = tsc + period_ * (1 + operation.text_bytes / 2048);
    index_ = index;
    std::memcpy(text_.data(), operation.text, operation.text_bytes);
  }
  [[nodiscard]] bool has_kept() const { return index_ != kNone; }

  /// When the packet that was kept did not authenticate, higher upper halves are tried. If one is
  /// right, its ICV and text are as with any authentic packet. `packets`: the burst's, decrypted.
  void try_kept(WorkerState& worker, std::span<OpenedPacket> packets);

  std::uint64_t not_before = 0;  ///< TSC: nothing is kept until then

 private:
  static constexpr std::uint32_t kNone = ~0U;

  std::uint64_t period_;
  std::uint32_t index_ = kNone;
  std::array<std::uint8_t, 1U << 16U> text_;  ///< as long as a packet can be; seldom touched
};

}  // namespace culvert::dataplane
