// Flows whose whole way is known: SA, next hop and Ethernet header at one look, instead of policy,
// SAD and FIB one after the other. Learnt from what the general stages decided; an entry holds for
// the era of the tables it was learnt in (Reclaimer::era). Worker-local.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "dataplane/tables/adjacency.hpp"
#include "dataplane/tables/counters.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/mapped_array.hpp"
#include "dataplane/tables/sa.hpp"
#include "dataplane/tables/spd.hpp"
#include "wire/ip.hpp"

struct rte_mbuf;

namespace culvert::dataplane {

/// What tells flows apart, in memory order: IPv4 source and destination; ports, protocol, origin.
struct KnownFlowKey {
  std::uint64_t addresses = 0;
  std::uint64_t rest = 0;
  [[nodiscard]] PacketOrigin origin() const { return static_cast<PacketOrigin>(rest & 0xffU); }
  friend bool operator==(const KnownFlowKey&, const KnownFlowKey&) = default;
};

/// Whether packets of a protocol can be of a known flow: not ICMP, whose selectors are not ports.
[[nodiscard]] inline bool may_be_known(wire::PortsAt ports_at) {
  return ports_at != wire::PortsAt::icmp;
}
/// The shortest packet of a known flow: its ports, or four bytes in their place.
inline constexpr std::size_t kLeastKnownBytes = wire::ipv4::kHeaderBytes + 4;

/// Of an IPv4 packet without options, whole, at least kLeastKnownBytes long. `ports_at`: of the
/// packet's protocol.
[[nodiscard]] inline KnownFlowKey known_flow_key(const std::uint8_t* ip, PacketOrigin origin,
                                                 std::uint8_t protocol, wire::PortsAt ports_at) {
  // Loaded as wide as they are used: in four bytes the compiler may put them aside and load eight
  // back, which waits for the store to reach the cache (5 ns a packet).
  const std::uint64_t ports =
      wire::load_raw<std::uint64_t>(ip + wire::ipv4::kDestination) & 0xffffffff00000000U;
  return {wire::load_raw<std::uint64_t>(ip + wire::ipv4::kSource),
          (ports_at == wire::PortsAt::ports ? ports : 0U) | std::uint64_t{protocol} << 8U |
              static_cast<std::uint64_t>(origin)};
}
static_assert(wire::ipv4::kDestination + 4 == wire::ipv4::kHeaderBytes);

/// One cache line.
struct alignas(64) KnownFlow {
  KnownFlowKey key;
  std::uint64_t era = 0;                ///< eras count from 1
  OutboundSa* sa = nullptr;             ///< nullptr: the packet leaves as it is
  const Adjacency* next_hop = nullptr;  ///< of the packet as it leaves
  Counter* policy = nullptr;            ///< packets that met the policy that named the flow
  std::uint16_t max_bytes = 0;          ///< the largest packet that fits the link, as it is here
  PortId port{};                        ///< of `next_hop`
  std::uint8_t general_flags = 0;       ///< TCP flags that are for the general stages: SYN
};
static_assert(sizeof(KnownFlow) == 64);

/// Pairs of flows, in twos: where a pair is full its neighbour takes the third. Only the lines of
/// flows that live are read, and as few of the pairs are in use as the flows need: spread over all
/// that there is room for, a hundred flows would be on as many pages of memory, more than the
/// processor knows the places of.
class KnownFlows {
 public:
  struct alignas(128) Pair {
    std::array<KnownFlow, 2> flows;
  };

  /// For so many flows, a power of two: two pairs each, so that one in fifty stands in fours with
  /// too many others. Throws std::bad_alloc.
  explicit KnownFlows(std::uint32_t flows)
      : most_((std::uint64_t{flows} * 2 - 1) * sizeof(Pair)),
        mask_(std::min(most_, std::uint64_t{kLeastPairs - 1} * sizeof(Pair))) {
    pairs_.map_and_touch(std::size_t{flows} * 2);
  }

  /// Where a flow stands first if it is known.
  [[nodiscard]] const Pair& pair_of(const KnownFlowKey& key) const { return place_of(key); }
  /// nullptr when it is not known in this era.
  [[nodiscard]] static const KnownFlow* find(const Pair& pair, const KnownFlowKey& key,
                                             std::uint64_t era) {
    const KnownFlow* const flow = find_in(pair, key, era);
    return flow != nullptr ? flow : find_beside(pair, key, era);
  }
  /// Takes the place of one that is out of date, in its pair or beside it, else of any in its pair.
  void learn(const KnownFlow& flow) {
    Pair& pair = place_of(flow.key);
    for (Pair* const taken : {&pair, &neighbour_of(pair)}) {
      for (KnownFlow& place : taken->flows) {
        const bool is_its_own = place.key == flow.key;
        if (place.era == flow.era && !is_its_own) continue;
        place = flow;
        if (taken != &pair && !is_its_own) find_no_room();
        return;
      }
    }
    pair.flows[next_victim_++ & 1U] = flow;
    find_no_room();
  }
  /// So many packets were looked for.
  void count_packets(std::uint32_t packets) { packets_ += packets; }
  /// Pairs in use.
  [[nodiscard]] std::size_t in_use() const { return mask_ / sizeof(Pair) + 1; }

 private:
  [[nodiscard]] static const KnownFlow* find_in(const Pair& pair, const KnownFlowKey& key,
                                                std::uint64_t era) {
    for (const KnownFlow& flow : pair.flows) {
      const std::uint64_t differs =
          (flow.key.addresses ^ key.addresses) | (flow.key.rest ^ key.rest) | (flow.era ^ era);
      if (differs == 0) return &flow;
    }
    return nullptr;
  }
  /// Out of the way of those that stand in their pair, nearly all.
  [[gnu::noinline]] static const KnownFlow* find_beside(const Pair& pair, const KnownFlowKey& key,
                                                        std::uint64_t era) {
    return find_in(neighbour_of(pair), key, era);
  }
  /// The other one of two: pairs are laid out from a multiple of 256 bytes on.
  template <typename P>
  [[nodiscard]] static P& neighbour_of(P& pair) {
    return *reinterpret_cast<P*>(reinterpret_cast<std::uintptr_t>(&pair) ^ sizeof(Pair));
  }
  [[nodiscard]] Pair& place_of(const KnownFlowKey& key) const {
    // The mask leaves whole ones.
    return *reinterpret_cast<Pair*>(reinterpret_cast<std::uint8_t*>(&pairs_[0]) +
                                    (hash(key) & mask_));
  }
  [[nodiscard]] static std::uint64_t hash(const KnownFlowKey& key) {
#ifdef __SSE4_2__
    return __builtin_ia32_crc32di(__builtin_ia32_crc32di(0, key.addresses), key.rest);
#else
    const std::uint64_t mixed = (key.addresses ^ (key.rest * 0x9e3779b97f4a7c15ULL));
    return (mixed * 0xc2b2ae3d27d4eb4fULL) >> 32U;
#endif
  }

  /// A pair was full. More are in use when that happens more often than for one packet in
  /// kPacketsADisplaced: who stands beside his pair is found later, who is displaced goes the long
  /// way. What stands elsewhere then is learnt again; it stays where it is, and is not found there
  /// any more, for as many pairs as before are never in use again.
  void find_no_room() {
    if (++displaced_ < kDisplacedAtOnce) return;
    if (packets_ < std::uint64_t{kDisplacedAtOnce} * kPacketsADisplaced && mask_ < most_) {
      mask_ = 2 * mask_ + sizeof(Pair);
    }
    displaced_ = 0;
    packets_ = 0;
  }

  static constexpr std::uint32_t kLeastPairs = 512;
  static constexpr std::uint32_t kDisplacedAtOnce = 64, kPacketsADisplaced = 64;

  const std::uint64_t most_;
  std::uint64_t mask_;  ///< of bytes from the first pair
  MappedArray<Pair> pairs_;
  std::uint32_t next_victim_ = 0;
  std::uint32_t displaced_ = 0;  ///< since it was asked last whether they are too many
  std::uint64_t packets_ = 0;    ///< since then
};

/// A packet that may be of a known flow: IPv4 without options, whole, sound, TTL not looked at yet.
struct KnownCandidate {
  rte_mbuf* packet;
  std::uint8_t* ip;
  KnownFlowKey key;
  const KnownFlows::Pair* pair;
  std::uint16_t bytes;
  std::uint16_t position;  ///< in the burst
};
/// Those of a burst.
struct KnownCandidates {
  std::array<KnownCandidate, kBurstPackets> packets;
  KnownCandidate* end = packets.data();

  KnownCandidates() = default;
  KnownCandidates(const KnownCandidates&) = delete;
  KnownCandidates& operator=(const KnownCandidates&) = delete;
};

}  // namespace culvert::dataplane
