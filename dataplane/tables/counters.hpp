// What a worker counts. Single writer: its worker (the main thread has a set of its own); read by
// the main thread with relaxed loads, which on the writer's side are plain stores.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/ids.hpp"

namespace culvert::dataplane {

/// A counter with one writer: no locked instruction, no torn read.
class Counter {
 public:
  void add(std::uint64_t amount) {
    // Relaxed: one writer; readers want a recent value, no ordering.
    value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t read() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// Frames of one port; kept for ports whose device has VLANs, since the device counts them all.
struct PortCounters {
  Counter received, received_bytes;
  Counter sent, sent_bytes;
};

/// From how many tenths of a millisecond on an iteration with packets is counted as long: a full
/// burst takes less than the first. What is longer waited for its processor, as a rule.
inline constexpr std::array<std::uint32_t, 3> kLongIterations{1, 10, 100};

/// Every packet ends once: received + originated = sent + delivered + dropped, summed over all
/// workers and the main thread, once the queues are still.
struct alignas(128) WorkerCounters {
  Counter received, received_bytes;  ///< from a port; Ethernet frames without FCS
  Counter sent, sent_bytes;          ///< taken by a port
  Counter delivered;                 ///< consumed by us: IKE, ARP, echo requests, …
  Counter originated;                ///< made by us: replies, ICMP errors, IKE, ARP, …
  Counter fragments_made;            ///< by us, of packets that did not fit
  Counter reassembled;               ///< packets for us that came in fragments
  Counter handed_over;               ///< ESP, to the worker whose SA it is for
  Counter fragments_handed_over;     ///< to the worker where those of their flow meet
  Counter mss_clamped;               ///< TCP SYNs whose MSS was lowered
  Counter bursts, busy_cycles, idle_cycles;
  std::array<Counter, kLongIterations.size()> long_iterations;  ///< by bound
  std::array<Counter, 8> burst_sizes;  ///< 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more
  std::array<std::array<Counter, kDropReasons>, kDropDirections> drops;
  std::array<PortCounters, kMaxPorts> ports;  ///< by PortId

  void drop(DropDirection direction, DropReason reason, std::uint64_t packets = 1) {
    drops[static_cast<std::size_t>(direction)][static_cast<std::size_t>(reason)].add(packets);
  }
};

}  // namespace culvert::dataplane
