// Packets of known flows that leave as they are: decrypted ones, and those that a policy lets
// pass.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <rte_prefetch.h>

#include "dataplane/worker/stages.hpp"
#include "wire/ethernet.hpp"
#include "wire/tcp.hpp"

namespace culvert::dataplane {

[[nodiscard]] inline bool is_resolved(const Adjacency& adjacency) {
  // Acquire pairs with the release in Adjacencies::resolve: the header is complete.
  return adjacency.kind.load(std::memory_order_acquire) == AdjacencyKind::resolved;
}

/// One hop less. Precondition: there is more than one. IPv4's checksum is kept right, in one load
/// and one store (RFC 1624). The sum is of bytes in whatever order (RFC 1071 §2 (B)): 0x0100 more
/// is 1 more of what lies first in memory.
template <typename Family>
void count_hop(std::uint8_t* ip) {
  if constexpr (std::is_same_v<Family, Ipv6>) {
    --ip[wire::ipv6::kHopLimit];  // no checksum covers it (RFC 8200 §8.1)
    return;
  }
  // TTL, protocol and checksum as they lie in memory, the checksum on top.
  const std::uint32_t word = wire::load_raw<std::uint32_t>(ip + wire::ipv4::kTtl);
  // 0xffff, the other zero, does not come about (RFC 1624 §3).
  const std::uint32_t carry = word >= 0xfffe0000U ? 0x10000U : 0U;
  wire::store_raw(ip + wire::ipv4::kTtl, word + 0x10000U - 1U + carry);
}

/// The Ethernet header, and two bytes more that the IP header written next covers.
inline void put_ethernet(std::uint8_t* frame, const Adjacency& adjacency) {
  wire::store_raw(frame, wire::load_raw<std::uint64_t>(adjacency.ethernet.data()));
  wire::store_raw(frame + 6, wire::load_raw<std::uint64_t>(adjacency.ethernet.data() + 6));
}
static_assert(offsetof(Adjacency, next_hop) >= offsetof(Adjacency, ethernet) + 14);

/// A hop is counted, and the packet gets its Ethernet header. Precondition: there is room in front.
template <typename Family>
void complete(rte_mbuf* packet, std::uint8_t* ip, std::uint32_t bytes,
              const KnownFlowOf<typename Family::Key>& flow) {
  count_hop<Family>(ip);
  std::uint8_t* const frame = ip - wire::ethernet::kHeaderBytes;
  const std::uint16_t first_of_ip = wire::load_raw<std::uint16_t>(ip);
  put_ethernet(frame, *flow.next_hop);
  wire::store_raw(ip, first_of_ip);
  set_data(packet, frame, static_cast<std::uint16_t>(bytes + wire::ethernet::kHeaderBytes));
}

/// Whether a packet of a known flow may go on without the general stages, as far as it says itself.
/// A TCP flag is looked for behind the end of one that is not TCP, but within its buffer.
template <typename Family>
[[nodiscard]] bool may_go_on(const KnownFlowOf<typename Family::Key>& flow, const std::uint8_t* ip,
                             std::uint32_t bytes) {
  constexpr std::size_t kTcpFlagsAt = Family::kHeaderBytes + wire::tcp::kFlags;
  return ip[Family::kHops] > 1 && bytes <= flow.max_bytes &&
         (ip[kTcpFlagsAt] & flow.general_flags) == 0;
}

/// Packets for their ports' queues, one after another, a burst's at most. Those that met one policy
/// are counted at once, and behind all of them: with a policy for each SA a count is in memory,
/// and is asked for while others are sent.
template <typename Family>
class AsItIs {
 public:
  using Flow = KnownFlowOf<typename Family::Key>;

  explicit AsItIs(WorkerState& worker) : leaving_(worker) { counts_[0].policy = nullptr; }
  ~AsItIs() { count(); }
  AsItIs(const AsItIs&) = delete;
  AsItIs& operator=(const AsItIs&) = delete;

  void send(rte_mbuf* packet, std::uint8_t* ip, std::uint32_t bytes, const Flow& flow) {
    complete<Family>(packet, ip, bytes, flow);
    if (flow.policy != last_->policy) [[unlikely]] {
      rte_prefetch0(flow.policy);
      *++last_ = {flow.policy, 0};
    }
    ++last_->packets;
    leaving_.add(flow.port, packet);
  }

 private:
  struct Count {
    Counter* policy;
    std::uint64_t packets;
  };
  void count() const {
    for (const Count* next = counts_.data(); next != last_;) {
      ++next;
      next->policy->add(next->packets);
    }
  }

  EnqueueRun leaving_;
  std::array<Count, kBurstPackets + 1> counts_;  ///< behind the first, which is of no policy
  Count* last_ = counts_.data();
};

}  // namespace culvert::dataplane
