// Flows whose whole way is known: SA, next hop and Ethernet header at one look, instead of policy,
// SAD and FIB one after the other. Learnt from what the general stages decided; an entry holds for
// the era of the tables it was learnt in (Reclaimer::era). Worker-local.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
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

/// Ports, protocol and origin of a packet, in memory order. `at`: the four bytes in front of the
/// ports, which are loaded as wide as they are used: in four bytes the compiler may put them aside
/// and load eight back, which waits for the store to reach the cache (5 ns a packet).
[[nodiscard]] inline std::uint64_t rest_of_flow(const std::uint8_t* at, PacketOrigin origin,
                                                std::uint8_t protocol, wire::PortsAt ports_at) {
  const std::uint64_t ports = wire::load_raw<std::uint64_t>(at) & 0xffffffff00000000U;
  return (ports_at == wire::PortsAt::ports ? ports : 0U) | std::uint64_t{protocol} << 8U |
         static_cast<std::uint64_t>(origin);
}

/// What tells flows apart, in memory order: IPv4 source and destination; `rest_of_flow`.
struct KnownFlowKey {
  std::uint64_t addresses = 0;
  std::uint64_t rest = 0;
  [[nodiscard]] PacketOrigin origin() const { return static_cast<PacketOrigin>(rest & 0xffU); }
  /// 0: they are the same.
  [[nodiscard]] std::uint64_t difference_from(const KnownFlowKey& other) const {
    return (addresses ^ other.addresses) | (rest ^ other.rest);
  }
  [[nodiscard]] std::uint64_t hash() const {
#ifdef __SSE4_2__
    return __builtin_ia32_crc32di(__builtin_ia32_crc32di(0, addresses), rest);
#else
    const std::uint64_t mixed = (addresses ^ (rest * 0x9e3779b97f4a7c15ULL));
    return (mixed * 0xc2b2ae3d27d4eb4fULL) >> 32U;
#endif
  }
  friend bool operator==(const KnownFlowKey&, const KnownFlowKey&) = default;
};

/// The same of IPv6: source, destination.
struct KnownFlowKeyV6 {
  std::array<std::uint64_t, 4> addresses{};
  std::uint64_t rest = 0;
  [[nodiscard]] PacketOrigin origin() const { return static_cast<PacketOrigin>(rest & 0xffU); }
  [[nodiscard]] std::uint64_t difference_from(const KnownFlowKeyV6& other) const {
    return (addresses[0] ^ other.addresses[0]) | (addresses[1] ^ other.addresses[1]) |
           (addresses[2] ^ other.addresses[2]) | (addresses[3] ^ other.addresses[3]) |
           (rest ^ other.rest);
  }
  [[nodiscard]] std::uint64_t hash() const {
    const KnownFlowKey source{addresses[0], addresses[1]};
    const KnownFlowKey destination{addresses[2], addresses[3]};  // beside each other, not in turn
    return KnownFlowKey{source.hash() << 32U ^ destination.hash(), rest}.hash();
  }
  friend bool operator==(const KnownFlowKeyV6&, const KnownFlowKeyV6&) = default;
};

/// Whether packets of a protocol can be of a known flow: not ICMP, whose selectors are not ports.
[[nodiscard]] inline bool may_be_known(wire::PortsAt ports_at) {
  return ports_at != wire::PortsAt::icmp;
}

/// What the short way asks of an IPv4 packet: without options, whole, of `kLeastKnownBytes` or
/// more where its flow is asked for.
struct Ipv4 {
  using Key = KnownFlowKey;
  static constexpr std::size_t kHeaderBytes = wire::ipv4::kHeaderBytes;
  static constexpr std::size_t kHops = wire::ipv4::kTtl, kProtocol = wire::ipv4::kProtocol;
  static constexpr std::uint8_t kAsNextHeader = wire::protocol::kIpv4;
  /// Its ports, or four bytes in their place.
  static constexpr std::size_t kLeastKnownBytes = kHeaderBytes + 4;

  [[nodiscard]] static std::uint32_t total_bytes(const std::uint8_t* ip) {
    return wire::load_u16(ip + wire::ipv4::kTotalLength);
  }
  [[nodiscard]] static std::uint8_t traffic_class(const std::uint8_t* ip) { return ip[1]; }
  /// Source and destination, as they lie in memory.
  [[nodiscard]] static std::uint64_t addresses(const std::uint8_t* ip) {
    return wire::load_raw<std::uint64_t>(ip + wire::ipv4::kSource);
  }
  /// `ports_at`: of the packet's protocol.
  [[nodiscard]] static Key flow_key(const std::uint8_t* ip, PacketOrigin origin,
                                    std::uint8_t protocol, wire::PortsAt ports_at) {
    return {addresses(ip), rest_of_flow(ip + wire::ipv4::kDestination, origin, protocol, ports_at)};
  }
};
static_assert(wire::ipv4::kDestination + 4 == wire::ipv4::kHeaderBytes);

/// The same of an IPv6 packet: without extension headers.
struct Ipv6 {
  using Key = KnownFlowKeyV6;
  static constexpr std::size_t kHeaderBytes = wire::ipv6::kHeaderBytes;
  static constexpr std::size_t kHops = wire::ipv6::kHopLimit, kProtocol = wire::ipv6::kNextHeader;
  static constexpr std::uint8_t kAsNextHeader = wire::protocol::kIpv6;
  static constexpr std::size_t kLeastKnownBytes = kHeaderBytes + 4;

  /// More than any packet has that is one.
  [[nodiscard]] static std::uint32_t total_bytes(const std::uint8_t* ip) {
    return std::uint32_t{kHeaderBytes} + wire::load_u16(ip + wire::ipv6::kPayloadLength);
  }
  [[nodiscard]] static std::uint8_t traffic_class(const std::uint8_t* ip) {
    return static_cast<std::uint8_t>(wire::load_u16(ip) >> 4U);
  }
  [[nodiscard]] static std::array<std::uint64_t, 4> addresses(const std::uint8_t* ip) {
    return wire::load_raw<std::array<std::uint64_t, 4>>(ip + wire::ipv6::kSource);
  }
  [[nodiscard]] static Key flow_key(const std::uint8_t* ip, PacketOrigin origin,
                                    std::uint8_t protocol, wire::PortsAt ports_at) {
    return {addresses(ip), rest_of_flow(ip + kHeaderBytes - 4, origin, protocol, ports_at)};
  }
};

/// One cache line of an IPv4 flow, two of IPv6.
template <typename Key>
struct alignas(64) KnownFlowOf {
  Key key;
  std::uint64_t era = 0;                ///< eras count from 1
  OutboundSa* sa = nullptr;             ///< nullptr: the packet leaves as it is
  const Adjacency* next_hop = nullptr;  ///< of the packet as it leaves
  Counter* policy = nullptr;            ///< packets that met the policy that named the flow
  std::uint16_t max_bytes = 0;          ///< the largest packet that fits the link, as it is here
  PortId port{};                        ///< of `next_hop`
  std::uint8_t general_flags = 0;       ///< TCP flags that are for the general stages: SYN
};
using KnownFlow = KnownFlowOf<KnownFlowKey>;
using KnownFlowV6 = KnownFlowOf<KnownFlowKeyV6>;
static_assert(sizeof(KnownFlow) == 64 && sizeof(KnownFlowV6) == 128);
// What finds it and where it goes stand in the first line.
static_assert(offsetof(KnownFlowV6, next_hop) + sizeof(KnownFlowV6::next_hop) == 64);

/// Pairs of flows, in twos: where a pair is full its neighbour takes the third. Only the lines of
/// flows that live are read, and as few of the pairs are in use as the flows need: spread over all
/// that there is room for, a hundred flows would be on as many pages of memory, more than the
/// processor knows the places of.
template <typename Key>
class KnownFlowsOf {
 public:
  using Flow = KnownFlowOf<Key>;
  struct alignas(2 * sizeof(Flow)) Pair {
    std::array<Flow, 2> flows;
  };

  /// For so many flows, a power of two: two pairs each, so that one in fifty stands in fours with
  /// too many others. Throws std::bad_alloc.
  explicit KnownFlowsOf(std::uint32_t flows)
      : most_((std::uint64_t{flows} * 2 - 1) * sizeof(Pair)),
        mask_(std::min(most_, std::uint64_t{kLeastPairs - 1} * sizeof(Pair))) {
    pairs_.map_and_touch(std::size_t{flows} * 2);
  }

  /// Where a flow stands first if it is known.
  [[nodiscard]] const Pair& pair_of(const Key& key) const { return place_of(key); }
  /// nullptr when it is not known in this era.
  [[nodiscard]] static const Flow* find(const Pair& pair, const Key& key, std::uint64_t era) {
    const Flow* const flow = find_in(pair, key, era);
    return flow != nullptr ? flow : find_beside(pair, key, era);
  }
  /// Takes the place of one that is out of date, in its pair or beside it, else of any in its pair.
  void learn(const Flow& flow) {
    Pair& pair = place_of(flow.key);
    for (Pair* const taken : {&pair, &neighbour_of(pair)}) {
      for (Flow& place : taken->flows) {
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
  [[nodiscard]] static const Flow* find_in(const Pair& pair, const Key& key, std::uint64_t era) {
    for (const Flow& flow : pair.flows) {
      if ((flow.key.difference_from(key) | (flow.era ^ era)) == 0) return &flow;
    }
    return nullptr;
  }
  /// Out of the way of those that stand in their pair, nearly all.
  [[gnu::noinline]] static const Flow* find_beside(const Pair& pair, const Key& key,
                                                   std::uint64_t era) {
    return find_in(neighbour_of(pair), key, era);
  }
  /// The other one of two: pairs are laid out from the begin of a page on.
  template <typename P>
  [[nodiscard]] static P& neighbour_of(P& pair) {
    return *reinterpret_cast<P*>(reinterpret_cast<std::uintptr_t>(&pair) ^ sizeof(Pair));
  }
  [[nodiscard]] Pair& place_of(const Key& key) const {
    // The mask leaves whole ones.
    return *reinterpret_cast<Pair*>(reinterpret_cast<std::uint8_t*>(&pairs_[0]) +
                                    (key.hash() & mask_));
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

using KnownFlows = KnownFlowsOf<KnownFlowKey>;
using KnownFlowsV6 = KnownFlowsOf<KnownFlowKeyV6>;

/// A packet that may be of a known flow: without options or extension headers, whole, sound, hops
/// not looked at yet.
template <typename Key>
struct KnownCandidateOf {
  rte_mbuf* packet;
  std::uint8_t* ip;
  Key key;
  const KnownFlowsOf<Key>::Pair* pair;
  std::uint16_t bytes;
  std::uint16_t position;  ///< in the burst
};
/// Those of a burst.
template <typename Key>
struct KnownCandidatesOf {
  std::array<KnownCandidateOf<Key>, kBurstPackets> packets;
  KnownCandidateOf<Key>* end = packets.data();

  KnownCandidatesOf() = default;
  KnownCandidatesOf(const KnownCandidatesOf&) = delete;
  KnownCandidatesOf& operator=(const KnownCandidatesOf&) = delete;
};

}  // namespace culvert::dataplane
