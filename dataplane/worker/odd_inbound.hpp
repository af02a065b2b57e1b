// Packets of plain SAs that do not look as most do, short, with an option or a tag, or from
// elsewhere, among those that go the short way inbound (known_inbound.cpp): they are decrypted in
// their turn, for a number is judged by those that came before it (RFC 4303 §3.4.3). The general
// stage accepts them, one by one. Nothing of what is around them in the burst goes another way for
// that.
#pragma once

#include <cstdint>

#include "dataplane/worker/known_inbound.hpp"
#include "dataplane/worker/taking.hpp"

namespace culvert::dataplane {

/// A packet whose outer header is known to the burst: to be decrypted in its turn, dropped, or
/// undecided. False: the general stage has it, for no other of its SA goes the short way with
/// Family outside.
template <typename Family>
[[nodiscard]] bool take_odd(WorkerState& worker, Burst& burst, std::uint32_t position,
                            Taking& taking, Openings& openings);

/// Those that classify gave to the general stage, of one burst: what may be for plain SAs with one
/// family outside, in order.
class OddOnes {
 public:
  [[nodiscard]] bool is_any() const { return next_ != kNone; }
  /// Where the next one stands; behind any burst: there is none.
  [[nodiscard]] std::uint32_t next() const { return next_; }
  /// Takes them off the general stage's list.
  template <typename Family>
  void find(const WorkerState& worker, Burst& burst);
  /// Takes those in front of `position`.
  template <typename Family>
  void take_before(WorkerState& worker, Burst& burst, std::uint32_t position, Taking& taking,
                   Openings& openings);

 private:
  static constexpr std::uint32_t kNone = ~0U;
  void advance() { next_ = taken_ == positions_.size() ? kNone : positions_[taken_++]; }

  PacketList positions_;
  std::uint32_t taken_ = 0;
  std::uint32_t next_ = kNone;
};

}  // namespace culvert::dataplane
