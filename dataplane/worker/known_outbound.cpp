// The short way of packets whose flow is known (known_flows.hpp), in passes over the burst:
//   1. flow → SA and next hop; what fits is taken, all else is left to the general stages
//   2. numbers for each run of one SA; Ethernet, outer IP, UDP, ESP, trailer, nonce and AAD
//   3. encrypt and compute ICVs; on to the port's queue
// It does what decide, seal_outbound and forward do, for the common case and in one go; wherever a
// packet needs more (an error to report, a limit that is near, another shape) it does not take it.
#include <algorithm>
#include <cstddef>

#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "dataplane/worker/encapsulate.hpp"
#include "dataplane/worker/sizes.hpp"
#include "dataplane/worker/stages.hpp"
#include "wire/esp.hpp"
#include "wire/ethernet.hpp"
#include "wire/tcp.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::size_t kEspInFront = wire::esp::kHeaderBytes + kPlainIvBytes;
/// The largest outer header: IPv4 and UDP.
constexpr std::size_t kMostInFront =
    wire::ethernet::kHeaderBytes + wire::ipv4::kHeaderBytes + wire::udp::kHeaderBytes + kEspInFront;
/// Trailer, padding and ICV at most, and what a store of eight bytes reaches beyond.
constexpr std::size_t kMostBehind = 3 + wire::esp::kTrailerBytes + kPlainIcvBytes;
/// A run stays this far from its SA's last number: the general stage takes the exact steps there.
constexpr std::uint64_t kNumbersLeft = 1U << 20U;

/// Of a packet without IP options: behind the end of one that is not TCP, but within its buffer.
constexpr std::size_t kTcpFlagsAt = wire::ipv4::kHeaderBytes + wire::tcp::kFlags;

/// A packet of a known flow that is to be sealed.
struct Sending {
  const KnownFlow* flow;
  rte_mbuf* packet;
  std::uint8_t* ip;
  std::uint32_t bytes;
  std::uint8_t position;
};
/// Packets to be sealed, and the frames they become.
struct Sendings {
  std::array<Sending, kBurstPackets> items;
  std::uint32_t count = 0;
  std::array<rte_mbuf*, kBurstPackets> frames;
  std::uint32_t built = 0;
};

bool is_resolved(const Adjacency& adjacency) {
  // Acquire pairs with the release in Adjacencies::resolve: the header is complete.
  return adjacency.kind.load(std::memory_order_acquire) == AdjacencyKind::resolved;
}

/// One less, and the checksum kept right, in one load and one store (RFC 1624). Precondition: the
/// TTL is over 1.
void count_hop(std::uint8_t* ip) {
  // TTL, protocol and checksum as they lie in memory.
  const std::uint32_t word = wire::load_raw<std::uint32_t>(ip + wire::ipv4::kTtl);
  std::uint32_t sum = wire::Be16::from_raw(static_cast<std::uint16_t>(word >> 16U)).host() + 0x100U;
  sum += sum >= 0xffffU ? 1U : 0U;  // 0xffff, the other zero, does not come about (RFC 1624 §3)
  wire::store_raw(ip + wire::ipv4::kTtl,
                  ((word - 1U) & 0xffffU) |
                      std::uint32_t{wire::Be16{static_cast<std::uint16_t>(sum)}.raw()} << 16U);
}

/// The Ethernet header, and two bytes more that the IP header written next covers.
void put_ethernet(std::uint8_t* frame, const Adjacency& adjacency) {
  wire::store_raw(frame, wire::load_raw<std::uint64_t>(adjacency.ethernet.data()));
  wire::store_raw(frame + 6, wire::load_raw<std::uint64_t>(adjacency.ethernet.data() + 6));
}
static_assert(offsetof(Adjacency, next_hop) >= offsetof(Adjacency, ethernet) + 14);

/// A decrypted or bypassed packet of a known flow.
void send_as_it_is(WorkerState& worker, rte_mbuf* packet, const KnownCandidate& candidate,
                   const KnownFlow& flow) {
  std::uint8_t* const ip = candidate.ip;
  count_hop(ip);
  std::uint8_t* const frame = ip - wire::ethernet::kHeaderBytes;
  const std::uint16_t first_of_ip = wire::load_raw<std::uint16_t>(ip);
  put_ethernet(frame, *flow.next_hop);
  wire::store_raw(ip, first_of_ip);
  set_data(packet, frame,
           static_cast<std::uint16_t>(candidate.bytes + wire::ethernet::kHeaderBytes));
  flow.policy->add(1);
  enqueue(worker, flow.port, packet);
}

/// Room around the packet for the largest outer header and trailer.
bool has_room(const rte_mbuf* packet, const std::uint8_t* ip, std::size_t bytes) {
  const auto before =
      static_cast<std::size_t>(ip - static_cast<const std::uint8_t*>(packet->buf_addr));
  return before >= kMostInFront && before + bytes + kMostBehind <= packet->buf_len;
}

/// It is for the general stages after all.
void leave_undecided(Burst& burst, std::uint32_t position, std::uint8_t* ip, std::uint32_t bytes,
                     PacketOrigin origin) {
  wire::IpHeader header;
  header.total_bytes = static_cast<std::uint16_t>(bytes);
  header.payload_offset = wire::ipv4::kHeaderBytes;
  header.protocol_offset = wire::ipv4::kProtocol;
  header.protocol = ip[wire::ipv4::kProtocol];
  burst.ip[position] = ip;
  burst.header[position] = header;
  burst.origin[position] = origin;
  burst.undecided.push(position);
}
PacketOrigin origin_of(const KnownFlowKey& key) {
  return static_cast<PacketOrigin>(key.rest & 0xffU);
}

/// Pass 1.
void take_known(WorkerState& worker, Burst& burst, Sendings& sendings) {
  const std::uint32_t count = worker.known_candidate_count;
  const std::uint64_t era = worker.era_of_burst;
  for (std::uint32_t n = 0; n < count; ++n) {
    const KnownCandidate& candidate = worker.known_candidates[n];
    const KnownFlow* const flow =
        KnownFlows::find(worker.known_flows[candidate.pair], candidate.key, era);
    rte_mbuf* const packet = burst.packets[candidate.position];
    const bool goes = flow != nullptr && candidate.ip[wire::ipv4::kTtl] > 1 &&
                      candidate.bytes <= flow->max_bytes &&
                      (candidate.ip[kTcpFlagsAt] & flow->general_flags) == 0 &&
                      is_resolved(*flow->next_hop) &&
                      has_room(packet, candidate.ip, candidate.bytes);
    if (!goes) [[unlikely]] {
      leave_undecided(burst, candidate.position, candidate.ip, candidate.bytes,
                      origin_of(candidate.key));
      continue;
    }
    if (flow->sa == nullptr) {
      send_as_it_is(worker, packet, candidate, *flow);
      continue;
    }
    rte_prefetch0(flow->sa);
    rte_prefetch0(&flow->sa->headers[0]);
    Sending& sending = sendings.items[sendings.count++];
    sending.flow = flow;
    sending.packet = packet;
    sending.ip = candidate.ip;
    sending.bytes = candidate.bytes;
    sending.position = candidate.position;
  }
}

/// The outer IPv4 header (RFC 4301 §5.1.2.1: DSCP and DF of the inner packet; RFC 6040 §4.1: ECN
/// too).
void put_outer_ip(std::uint8_t* ip, const OuterHeader& outer, std::uint32_t packet_bytes,
                  const std::uint8_t* inner, std::uint64_t sequence) {
  const std::uint32_t dont_fragment = wire::load_raw<std::uint16_t>(inner + wire::ipv4::kFragment) &
                                      wire::Be16{wire::ipv4::kDontFragment}.raw();
  // RFC 6864 §4: the identification matters only for what may be fragmented.
  const std::uint32_t identification =
      dont_fragment != 0 ? 0U : wire::Be16{static_cast<std::uint16_t>(sequence)}.raw();
  const std::uint32_t length = wire::Be16{static_cast<std::uint16_t>(packet_bytes)}.raw();
  const std::uint32_t traffic_class = std::uint32_t{inner[1]} << 8U;  // memory order
  std::uint32_t sum = outer.ipv4_sum + traffic_class + length + identification + dont_fragment;
  sum = (sum & 0xffffU) + (sum >> 16U);
  sum = ~(sum + (sum >> 16U)) & 0xffffU;
  const std::uint8_t* const ready = outer.bytes.data();
  // Version, length of the header, traffic class, total length; identification and flags.
  wire::store_raw(ip, std::uint32_t{0x45U | traffic_class | length << 16U});
  wire::store_raw(ip + 4, std::uint32_t{identification | dont_fragment << 16U});
  wire::store_raw(ip + 8, wire::load_raw<std::uint64_t>(ready + 8) | std::uint64_t{sum} << 16U);
  wire::store_raw(ip + 16, wire::load_raw<std::uint32_t>(ready + 16));
}

/// UDP around ESP; the checksum is 0 (RFC 3948 §2.1).
void put_udp(std::uint8_t* udp, const OuterHeader& outer, std::uint32_t udp_bytes) {
  wire::store_raw(udp,
                  wire::load_raw<std::uint32_t>(outer.bytes.data() + wire::ipv4::kHeaderBytes));
  wire::store_raw(udp + 4, std::uint32_t{wire::Be16{static_cast<std::uint16_t>(udp_bytes)}.raw()});
}

/// Padding and trailer by bytes of padding, as one word (RFC 4303 §2.4): what follows is the ICV's.
constexpr std::array<std::uint64_t, 4> kTrailers{0x0400, 0x040101, 0x04020201, 0x0403030201};
static_assert(wire::protocol::kIpv4 == 4);

/// Pass 2 for one packet of a run; `k` is its operation's.
void build(CryptoScratch& scratch, const Sending& sending, const OutboundSa& sa,
           const OuterHeader& outer, std::uint32_t k, std::uint64_t sequence) {
  std::uint8_t* const inner = sending.ip;
  const std::uint32_t padding = (0U - sending.bytes - 2U) & 3U;
  const std::uint32_t text_bytes = sending.bytes + padding + 2U;
  const std::uint32_t esp_bytes =
      text_bytes + static_cast<std::uint32_t>(kEspInFront + kPlainIcvBytes);
  const std::uint32_t packet_bytes = esp_bytes + outer.ip_bytes + outer.udp_bytes;
  sending.flow->policy->add(1);
  wire::store_raw(inner + sending.bytes, kTrailers[padding]);
  std::uint8_t* const esp = inner - kEspInFront;
  std::uint8_t* ip = esp - wire::ipv4::kHeaderBytes;
  if (outer.udp_bytes != 0) {
    put_udp(esp - wire::udp::kHeaderBytes, outer, packet_bytes - 20U);
    ip -= wire::udp::kHeaderBytes;
  }
  std::uint8_t* const frame = ip - wire::ethernet::kHeaderBytes;
  put_ethernet(frame, *sending.flow->next_hop);
  put_outer_ip(ip, outer, packet_bytes, inner, sequence);
  count_hop(inner);
  const std::uint32_t low = wire::Be32{static_cast<std::uint32_t>(sequence)}.raw();
  const std::uint64_t iv = wire::Be64{sa.iv(sequence)}.raw();
  wire::store_raw(esp, outer.spi);
  wire::store_raw(esp + 4, low);
  wire::store_raw(esp + wire::esp::kHeaderBytes, iv);
  set_data(sending.packet, frame,
           static_cast<std::uint16_t>(packet_bytes + wire::ethernet::kHeaderBytes));
  std::uint8_t* const nonce = scratch.nonces[k].bytes.data();
  wire::store_raw(nonce, outer.salt);
  wire::store_raw(nonce + 4, iv);
  crypto::esp::Operation& operation = scratch.operations[k];
  operation.key = sa.key;
  operation.text = inner;
  operation.nonce = nonce;
  operation.icv = inner + text_bytes;
  operation.text_bytes = text_bytes;
  // RFC 4106 §5: SPI and sequence number as they stand in the packet; with ESN, all 64 bits.
  operation.aad = esp;
  operation.aad_bytes = 8;
  if (sa.has_esn) {
    std::uint8_t* const aad = scratch.aads[k].bytes.data();
    wire::store_raw(aad, outer.spi);
    wire::store_raw(aad + 4, wire::Be32{static_cast<std::uint32_t>(sequence >> 32U)}.raw());
    wire::store_raw(aad + 8, low);
    operation.aad = aad;
    operation.aad_bytes = 12;
  }
}

/// A run of packets for one SA that go the short way, all of them, or none.
struct SaRun {
  std::uint32_t begin = 0, end = 0;
  std::uint64_t bytes = 0;
};

/// The packets from `begin` on that share an SA.
SaRun next_run(const Sendings& sendings, std::uint32_t begin) {
  const OutboundSa* const sa = sendings.items[begin].flow->sa;
  SaRun run{begin, begin, 0};
  do {
    run.bytes += sendings.items[run.end++].bytes;
  } while (run.end < sendings.count && sendings.items[run.end].flow->sa == sa);
  return run;
}

/// Whether the SA is alive and far from its limits.
bool may_run(const OutboundSa& sa, const SaRun& run) {
  // Acquire pairs with the release in Sad::install.
  return !sa.stopped.load(std::memory_order_acquire) &&
         sa.sequence.load(std::memory_order_relaxed) + kNumbersLeft < sa.sequence_limit &&
         sa.bytes.load(std::memory_order_relaxed) + run.bytes <= sa.hard_bytes;
}

void give_back_run(Burst& burst, const Sendings& sendings, const SaRun& run) {
  for (std::uint32_t n = run.begin; n < run.end; ++n) {
    const Sending& sending = sendings.items[n];
    leave_undecided(burst, sending.position, sending.ip, sending.bytes,
                    origin_of(sending.flow->key));
  }
}

/// Pass 3 for operations [begin, end), which share a suite.
void seal(WorkerState& worker, crypto::esp::TransformId transform, std::uint32_t begin,
          std::uint32_t end) {
  if (begin == end) return;
  worker.enter(Stage::crypto);
  worker.context.engine->seal(crypto::esp::transform(transform).suite,
                              std::span(worker.scratch.operations).subspan(begin, end - begin));
  worker.enter(Stage::header);
}

/// Pass 2, and pass 3 for each stretch of one suite, which is all of the burst as a rule.
void build_and_seal(WorkerState& worker, Burst& burst, Sendings& sendings) {
  crypto::esp::TransformId transform = sendings.items[0].flow->sa->outer().transform;
  std::uint32_t unsealed = 0;
  for (SaRun run; run.end < sendings.count;) {
    run = next_run(sendings, run.end);
    OutboundSa& sa = *sendings.items[run.begin].flow->sa;
    if (!may_run(sa, run)) [[unlikely]] {
      give_back_run(burst, sendings, run);
      continue;
    }
    const OuterHeader& outer = sa.outer();
    if (outer.transform != transform) [[unlikely]] {
      seal(worker, transform, unsealed, sendings.built);
      unsealed = sendings.built;
      transform = outer.transform;
    }
    std::uint64_t sequence = worker.shared_add(sa.sequence, run.end - run.begin);
    worker.shared_add(sa.bytes, run.bytes);
    sa.last_tsc.store(burst.tsc, std::memory_order_relaxed);
    for (std::uint32_t n = run.begin; n < run.end; ++n) {
      const Sending& sending = sendings.items[n];
      build(worker.scratch, sending, sa, outer, sendings.built, ++sequence);
      sendings.frames[sendings.built] = sending.packet;
      sendings.items[sendings.built].flow = sending.flow;
      ++sendings.built;
    }
  }
  seal(worker, transform, unsealed, sendings.built);
}

}  // namespace

void send_known(WorkerState& worker, Burst& burst) {
  if (worker.known_candidate_count == 0) return;
  Sendings sendings;
  worker.enter(Stage::lookup);
  take_known(worker, burst, sendings);
  worker.known_candidate_count = 0;
  if (sendings.count == 0) return;
  worker.enter(Stage::header);
  build_and_seal(worker, burst, sendings);
  worker.enter(Stage::forward);
  for (std::uint32_t n = 0; n < sendings.built; ++n) {
    enqueue(worker, sendings.items[n].flow->port, sendings.frames[n]);
  }
}

void learn_flow(WorkerState& worker, const Burst& burst, std::uint32_t position, SlotIndex outbound,
                Counter* policy) {
  const wire::IpHeader header = burst.header[position];
  const PacketOrigin origin = burst.origin[position];
  const bool can_be_known = header.payload_offset == wire::ipv4::kHeaderBytes &&
                            !header.is_fragment && may_be_known(header.protocol) &&
                            header.total_bytes >= kLeastKnownBytes &&
                            origin != PacketOrigin::originated;
  if (!can_be_known) return;
  const std::uint8_t* const ip = burst.ip[position];
  const std::uint8_t* destination = ip + wire::ipv4::kDestination;
  KnownFlow flow;
  flow.key = known_flow_key(ip, origin);
  flow.era = worker.era_of_burst;
  flow.policy = policy != nullptr ? policy : &worker.unnamed;
  if (outbound != kNoSlot) {
    flow.sa = worker.tables.sad->outbound(outbound);
    // Acquire pairs with the release in Sad::install.
    if (flow.sa == nullptr || flow.sa->stopped.load(std::memory_order_acquire)) return;
    if (!flow.sa->is_plain) return;
    destination = flow.sa->outer().bytes.data() + wire::ipv4::kDestination;
  }
  const AdjacencyIndex next_hop = worker.tables.fib->lookup_v4(wire::load_u32(destination));
  flow.next_hop = &(*worker.tables.adjacencies)[next_hop];
  flow.port = flow.next_hop->port;
  // A SYN may announce less than it says (clamp_syn).
  flow.general_flags = header.protocol == wire::protocol::kTcp ? wire::tcp::kSyn : 0;
  const std::uint16_t mtu =
      flow.sa == nullptr ? flow.next_hop->mtu : path_mtu_of(*flow.sa, *flow.next_hop);
  flow.max_bytes = flow.sa == nullptr ? mtu : mtu_inside(*flow.sa, flow.sa->outer(), header, mtu);
  worker.known_flows.learn(flow);
}

}  // namespace culvert::dataplane
