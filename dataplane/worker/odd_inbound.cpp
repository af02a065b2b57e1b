#include "dataplane/worker/odd_inbound.hpp"

#include "dataplane/worker/inbound.hpp"

namespace culvert::dataplane {
namespace {

/// Whether what looks otherwise is for a plain SA of this worker's whose others go the short way,
/// with Family outside, and of a length to be judged by the window: what is too short or does not
/// end as RFC 4303 §2.4 has it is dropped before.
template <typename Family>
bool meets_window(const WorkerState& worker, const InboundSa& sa, const EspAt& at,
                  std::uint64_t now) {
  // Acquire as in `is_for`.
  return at.bytes >= kAroundPlain + wire::esp::kAlignment &&
         (at.bytes - kAroundPlain) % wire::esp::kAlignment == 0 &&
         sa.spi.load(std::memory_order_acquire) == wire::load_u32(at.esp) &&
         sa.plain_in_front != 0 && sa.outer_is_v4 == std::is_same_v<Family, Ipv4> &&
         goes_on(sa, now) && is_mine(worker, sa);
}

}  // namespace

template <typename Family>
bool take_odd(WorkerState& worker, Burst& burst, std::uint32_t position, Taking& taking,
              Openings& openings) {
  const EspAt at = esp_of(burst.ip[position], burst.header[position]);
  if (at.bytes < wire::esp::kHeaderBytes) return false;
  InboundSa& sa = *worker.tables.sad->place_of(wire::load_u32(at.esp));
  if (!meets_window<Family>(worker, sa, at, burst.tsc)) return false;
  const auto worth = worth_opening(worker, burst, position, sa, at);
  if (!worth) return true;
  openings.meet(sa);
  const std::uint64_t last_sequence = taking.last_sequence;
  const std::uint8_t notes = worth->peer_moved
                                 ? CryptoScratch::Opening::kOdd | CryptoScratch::Opening::kMoved
                                 : CryptoScratch::Opening::kOdd;
  const auto bytes = static_cast<std::uint32_t>(at.bytes);
  if (sa.has_esn) {
    take<true>(taking, worker.scratch, sa, at.esp, bytes, position, notes, worth->sequence);
  } else {
    take<false>(taking, worker.scratch, sa, at.esp, bytes, position, notes, worth->sequence);
  }
  taking.last_sequence = last_sequence;
  return true;
}

template <typename Family>
void OddOnes::find(const WorkerState& worker, Burst& burst) {
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < burst.encrypted.size(); ++i) {
    const std::uint8_t position = burst.encrypted[i];
    const EspAt at = esp_of(burst.ip[position], burst.header[position]);
    if (at.bytes >= wire::esp::kHeaderBytes &&
        meets_window<Family>(worker, *worker.tables.sad->place_of(wire::load_u32(at.esp)), at,
                             burst.tsc)) {
      positions_.push(position);
    } else {
      burst.encrypted[kept++] = position;
    }
  }
  burst.encrypted.shrink(kept);
  advance();
}

template <typename Family>
void OddOnes::take_before(WorkerState& worker, Burst& burst, std::uint32_t position, Taking& taking,
                          Openings& openings) {
  for (; next_ < position; advance()) {
    // Its SA may have been stopped meanwhile.
    if (!take_odd<Family>(worker, burst, next_, taking, openings)) burst.encrypted.push(next_);
  }
}

template bool take_odd<Ipv4>(WorkerState&, Burst&, std::uint32_t, Taking&, Openings&);
template bool take_odd<Ipv6>(WorkerState&, Burst&, std::uint32_t, Taking&, Openings&);
template void OddOnes::find<Ipv4>(const WorkerState&, Burst&);
template void OddOnes::find<Ipv6>(const WorkerState&, Burst&);
template void OddOnes::take_before<Ipv4>(WorkerState&, Burst&, std::uint32_t, Taking&, Openings&);
template void OddOnes::take_before<Ipv6>(WorkerState&, Burst&, std::uint32_t, Taking&, Openings&);

}  // namespace culvert::dataplane
