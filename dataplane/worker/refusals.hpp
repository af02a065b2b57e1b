// What the short way of inbound packets refuses by itself, so that a flood costs little: packets
// with an SPI of nobody, replays, forgeries. They end as in the general stage, with the same reason
// and counts; those of one SA and reason after another are counted at once.
#pragma once

#include "dataplane/worker/decapsulate.hpp"
#include "dataplane/worker/inbound.hpp"
#include "dataplane/worker/late_packets.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane {

/// Whether the window has or has passed the number of a packet that is for its SA.
inline bool is_replay(const ArrivedEsp& arrived) {
  InboundSa& sa = *arrived.sa;
  return sa.replay_window().check(sa.extend(arrived.sequence())) != ReplayVerdict::fresh;
}

/// Of one burst.
class Refusals {
 public:
  Refusals(WorkerState& worker, Burst& burst)
      : worker_(worker), burst_(burst), has_displaced_(worker.tables.sad->has_displaced()) {}
  ~Refusals() {
    count();
    if (unknown_ != 0) {
      worker_.counters.drop(DropDirection::in, DropReason::sa_not_found, unknown_);
    }
  }
  Refusals(const Refusals&) = delete;
  Refusals& operator=(const Refusals&) = delete;

  void add(std::uint32_t position, SaDetails* details, DropReason reason) {
    if (details != details_ || reason != reason_) [[unlikely]] {
      count();
      details_ = details;
      reason_ = reason;
    }
    ++packets_;
    worker_.give_back(burst_.packets[position]);
  }
  /// ESP without an SA: true when it ended here. What may be a manual SA's, in transit or IKE is
  /// left.
  template <typename Family>
  [[nodiscard]] bool take_unknown(const ArrivedEsp& arrived) {
    // Zero is the marker of IKE behind UDP (RFC 3948 §2.2).
    const std::uint32_t spi = arrived.spi();
    if (spi == 0) [[unlikely]]
      return false;
    if (has_displaced_ && worker_.tables.sad->inbound(spi) != nullptr) [[unlikely]]
      return false;
    if (!is_ours(Family::addresses(arrived.ip()))) return false;
    // Relaxed: nothing is read because of it.
    if (arrived.sa->leased.load(std::memory_order_relaxed) == spi &&
        hold_early(worker_, burst_, arrived.position, spi)) [[unlikely]] {
      return true;
    }
    if (hint_unknown_spi(worker_, burst_, arrived.position)) [[unlikely]]
      return true;
    ++unknown_;
    worker_.give_back(burst_.packets[arrived.position]);
    return true;
  }
  /// A number that is not above the SA's highest: true when the window has it or has passed it, and
  /// the packet ended here, undecrypted (RFC 4303 §3.4.3).
  [[nodiscard]] bool take_replay(const ArrivedEsp& arrived, InboundSa& sa, std::uint64_t sequence) {
    const auto reason = refused_by_window(sa.replay_window().check(sequence));
    if (!reason) return false;
    if (*reason == DropReason::replay_left_of_window) count_left(sa, sequence);
    add(arrived.position, sa.details, *reason);
    return true;
  }
  /// What did not authenticate.
  void take_forgery(std::uint32_t position, InboundSa& sa, std::uint64_t sequence) {
    count_if_left(sa, sequence);
    worker_.resynchronizer.count_failure(sa, burst_.tsc);
    add(position, sa.details, DropReason::icv_mismatch);
  }

 private:
  void count() {
    if (packets_ == 0) return;
    details_->count_drop(reason_, packets_);
    worker_.counters.drop(DropDirection::in, reason_, packets_);
    packets_ = 0;
  }
  /// A flood comes to one address: the last answer is asked first. Routes do not change under a
  /// burst in a way that it could see (RCU).
  [[nodiscard]] bool is_ours(std::uint64_t addresses) {
    const auto address_raw = static_cast<std::uint32_t>(addresses >> 32U);
    if (address_raw != asked_) [[unlikely]] {
      asked_ = address_raw;
      const std::uint32_t address = wire::Be32::from_raw(address_raw).host();
      asked_is_ours_ = worker_.tables.fib->lookup_v4(address) == Adjacencies::kLocal;
    }
    return asked_is_ours_;
  }
  [[nodiscard]] bool is_ours(const std::array<std::uint64_t, 4>& addresses) {
    const std::array<std::uint64_t, 2> destination{addresses[2], addresses[3]};
    if (destination != asked_v6_) [[unlikely]] {
      asked_v6_ = destination;
      const auto* const address = reinterpret_cast<const std::uint8_t*>(destination.data());
      asked_v6_is_ours_ = worker_.tables.fib->lookup_v6(address) == Adjacencies::kLocal;
    }
    return asked_v6_is_ours_;
  }

  WorkerState& worker_;
  Burst& burst_;
  SaDetails* details_ = nullptr;
  DropReason reason_{};
  std::uint32_t packets_ = 0;
  std::uint32_t unknown_ = 0;  ///< packets of no SA
  bool has_displaced_;         ///< an SA may stand elsewhere than its SPI says
  std::uint32_t asked_ = 0;    ///< as in the packet; 0.0.0.0 is nobody's
  bool asked_is_ours_ = false;
  std::array<std::uint64_t, 2> asked_v6_{};  ///< likewise; :: is nobody's
  bool asked_v6_is_ours_ = false;
};

}  // namespace culvert::dataplane
