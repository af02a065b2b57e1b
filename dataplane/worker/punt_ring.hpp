// When the main thread has to be woken for a packet in one of its rings, and when it may go to
// sleep. Whoever looks at the other's end before his own change is visible there may see what was:
// the worker a packet in front of its own, the main thread an empty ring. One fence on each side,
// between change and look, has at least one of the two see the other's change.
#pragma once

#include <atomic>
#include <cstdint>

#include <rte_ring.h>
#include <rte_ring_elem.h>

namespace culvert::dataplane {

/// Worker, behind putting one element there: false where the main thread has others to take before
/// it, which somebody has woken it for, or has it already.
[[nodiscard]] inline bool has_to_wake(const rte_ring* ring) {
  // Pairs with the fence in `take_some`.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint32_t put = __atomic_load_n(&ring->prod.tail, __ATOMIC_RELAXED);
  const std::uint32_t taken = __atomic_load_n(&ring->cons.tail, __ATOMIC_RELAXED);
  return put - taken == 1;
}

struct Taken {
  unsigned int count = 0;
  bool is_more = false;  ///< in the ring: nobody will ring for it
};
/// Main thread: up to `most` of the elements of `bytes` bytes.
[[nodiscard]] inline Taken take_some(rte_ring* ring, void* elements, unsigned int bytes,
                                     unsigned int most) {
  const unsigned int count = rte_ring_sc_dequeue_burst_elem(ring, elements, bytes, most, nullptr);
  if (count == 0) return {};  // whoever puts one behind this finds that it is the only one
  // Pairs with the fence in `has_to_wake`.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return {count, rte_ring_empty(ring) == 0};
}

}  // namespace culvert::dataplane
