// The short way of packets whose flow is known (known_flows.hpp), in passes over the burst:
//   1. flow → SA and next hop; what leaves as it is goes to its port's queue at once, what is to be
//      sealed is taken if it fits, all else is left to the general stages
//   2. numbers for each run of one SA; Ethernet, outer IP, UDP, ESP, trailer, nonce and AAD
//   3. encrypt and compute ICVs; on to the port's queue
// It does what decide, seal_outbound and forward do, for the common case and in one go; wherever a
// packet needs more (an error to report, a limit that is near, another shape) it does not take it.
#include <bit>
#include <cstddef>
#include <span>

#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "dataplane/worker/as_it_is.hpp"
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

/// Packets of one policy for one SA that go the short way, all of them, or none.
struct SaRun {
  OutboundSa* sa;
  Counter* policy;
  std::uint64_t bytes;
  std::uint32_t begin, end;
};

/// Packets to be sealed, which stand at the front of the candidates; their flows, and the runs that
/// they come in. A flow becomes nullptr when its packet is for the general stages after
/// all.
struct Sendings {
  std::array<const KnownFlow*, kBurstPackets> flows;
  std::array<SaRun, kBurstPackets> runs;
  std::uint32_t count = 0, run_count = 0;
};

/// Room around the packet for the largest outer header and trailer.
bool has_room(const rte_mbuf* packet, const std::uint8_t* ip, std::size_t bytes) {
  const auto before =
      static_cast<std::size_t>(ip - static_cast<const std::uint8_t*>(packet->buf_addr));
  return before >= kMostInFront && before + bytes + kMostBehind <= packet->buf_len;
}

/// It is for the general stages after all.
[[gnu::cold, gnu::noinline]] void leave_undecided(Burst& burst, const KnownCandidate& candidate) {
  wire::IpHeader header;
  header.total_bytes = candidate.bytes;
  header.payload_offset = wire::ipv4::kHeaderBytes;
  header.protocol_offset = wire::ipv4::kProtocol;
  header.protocol = candidate.ip[wire::ipv4::kProtocol];
  burst.ip[candidate.position] = candidate.ip;
  burst.header[candidate.position] = header;
  burst.origin[candidate.position] = candidate.key.origin();
  burst.undecided.push(candidate.position);
}

/// Whether a packet of a known flow goes the short way.
bool goes(const KnownFlow& flow, const KnownCandidate& candidate) {
  return may_go_on(flow, candidate.ip, candidate.bytes) && is_resolved(*flow.next_hop) &&
         (flow.sa == nullptr || has_room(candidate.packet, candidate.ip, candidate.bytes));
}

/// Makes runs of the packets that pass 1 finds.
class RunMaker {
 public:
  explicit RunMaker(Sendings& sendings) : sendings_(sendings) {}
  ~RunMaker() { end(); }
  RunMaker(const RunMaker&) = delete;
  RunMaker& operator=(const RunMaker&) = delete;

  void add(const KnownFlow& flow, std::uint32_t bytes) {
    if (flow.sa != sa_ || flow.policy != policy_) {
      end();
      sa_ = flow.sa;
      policy_ = flow.policy;
    }
    bytes_ += bytes;
    sendings_.flows[count_++] = &flow;
  }

 private:
  void end() {
    sendings_.count = count_;
    if (count_ == begin_) return;
    sendings_.runs[sendings_.run_count++] = {sa_, policy_, bytes_, begin_, count_};
    begin_ = count_;
    bytes_ = 0;
  }

  Sendings& sendings_;
  OutboundSa* sa_ = nullptr;
  Counter* policy_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::uint32_t begin_ = 0, count_ = 0;
};

/// The flow of a packet that goes the short way, else nullptr.
const KnownFlow* flow_of(const KnownCandidate& candidate, std::uint64_t era) {
  const KnownFlow* const flow = KnownFlows::find(*candidate.pair, candidate.key, era);
  return flow != nullptr && goes(*flow, candidate) ? flow : nullptr;
}

/// Pass 1 of what leaves as it is, from `next` on: to the first that does not.
[[gnu::noinline]] const KnownCandidate* send_as_they_are(WorkerState& worker,
                                                         const KnownCandidate* next,
                                                         const KnownCandidate* end) {
  const std::uint64_t era = worker.era_of_burst;
  AsItIs leaving(worker);
  for (; next != end; ++next) {
    const KnownFlow* const flow = flow_of(*next, era);
    if (flow == nullptr || flow->sa != nullptr) [[unlikely]]
      break;
    leaving.send(next->packet, next->ip, next->bytes, *flow);
  }
  return next;
}

/// Pass 1.
void take_known(WorkerState& worker, Burst& burst, Sendings& sendings) {
  const std::uint64_t era = worker.era_of_burst;
  const KnownCandidate* const end = worker.known.end;
  KnownCandidate* taken = worker.known.packets.data();
  RunMaker runs(sendings);
  for (const KnownCandidate* next = taken; next != end;) {
    const KnownCandidate& candidate = *next;
    const KnownFlow* const flow = flow_of(candidate, era);
    if (flow == nullptr) [[unlikely]] {
      leave_undecided(burst, candidate);
      ++next;
      continue;
    }
    if (flow->sa == nullptr) {
      next = send_as_they_are(worker, next, end);
      continue;
    }
    rte_prefetch0(flow->sa);
    rte_prefetch0(&flow->sa->headers[0]);
    runs.add(*flow, candidate.bytes);
    if (taken != next) [[unlikely]]
      *taken = candidate;
    ++taken;
    ++next;
  }
}

/// What the packets of a run share.
struct Around {
  Around(const OutboundSa& of, const OuterHeader& header)
      : sa(of),
        outer(header),
        iv_start(of.iv(0)),
        // Without version and length of the header, which come with the class of traffic.
        ipv4_sum(outer.ipv4_sum + (0xffffU - 0x45U)) {}

  const OutboundSa& sa;
  const OuterHeader& outer;
  std::uint64_t iv_start;
  std::uint32_t ipv4_sum;
};

/// The outer IPv4 header (RFC 4301 §5.1.2.1: DSCP and DF of the inner packet; RFC 6040 §4.1: ECN
/// too).
void put_outer_ip(std::uint8_t* ip, const Around& around, std::uint32_t packet_bytes,
                  const std::uint8_t* inner, std::uint64_t sequence) {
  constexpr std::uint32_t kDontFragment = wire::Be16{wire::ipv4::kDontFragment}.raw();
  const std::uint32_t dont_fragment =
      wire::load_raw<std::uint16_t>(inner + wire::ipv4::kFragment) & kDontFragment;
  // Version, length of the header and traffic class, as inside; total length.
  const std::uint32_t first = wire::Be32{packet_bytes}.raw() | wire::load_raw<std::uint16_t>(inner);
  // Identification and flags. RFC 6864 §4: the identification matters only for what may be
  // fragmented.
  const std::uint32_t may_be_fragmented = dont_fragment - 1U;  // the upper half: all ones, or none
  const std::uint32_t number = wire::Be32{static_cast<std::uint32_t>(sequence)}.raw();
  const std::uint32_t second = (number & may_be_fragmented) >> 16U | dont_fragment << 16U;
  // Folded to 32 bits, and to 16 in the upper half, which is where the checksum stands.
  std::uint64_t sum = std::uint64_t{first} + second + around.ipv4_sum;
  sum = (sum & 0xffffffffU) + (sum >> 32U);
  const auto both_halves = static_cast<std::uint32_t>(sum);
  const std::uint32_t checksum = ~(both_halves + std::rotl(both_halves, 16)) & 0xffff0000U;
  const std::uint8_t* const ready = around.outer.bytes.data();
  wire::store_raw(ip, first);
  wire::store_raw(ip + 4, second);
  wire::store_raw(ip + 8, wire::load_raw<std::uint64_t>(ready + 8) | checksum);
  wire::store_raw(ip + 16, wire::load_raw<std::uint32_t>(ready + 16));
}
static_assert(wire::ipv4::kChecksum == 10);

/// UDP around ESP; the checksum is 0 (RFC 3948 §2.1).
void put_udp(std::uint8_t* udp, const OuterHeader& outer, std::uint32_t udp_bytes) {
  wire::store_raw(udp,
                  wire::load_raw<std::uint32_t>(outer.bytes.data() + wire::ipv4::kHeaderBytes));
  wire::store_raw(udp + 4, std::uint32_t{wire::Be16{static_cast<std::uint16_t>(udp_bytes)}.raw()});
}

/// Pass 2 for one packet.
template <bool kIsInUdp, bool kHasEsn>
void build(const KnownCandidate& candidate, const KnownFlow& flow, const Around& around,
           crypto::esp::Operation& operation, CryptoScratch::Block& nonce,
           CryptoScratch::Block& aad, std::uint64_t sequence) {
  constexpr std::uint32_t kTrailer = wire::esp::kTrailerBytes;
  constexpr std::uint32_t kUdpAt = wire::ipv4::kHeaderBytes;
  constexpr std::uint32_t kInFront =
      kUdpAt + (kIsInUdp ? wire::udp::kHeaderBytes : 0U) + kEspInFront;
  std::uint8_t* const inner = candidate.ip;
  const OuterHeader& outer = around.outer;
  const std::uint32_t bytes = candidate.bytes;
  const std::uint32_t text_bytes = (bytes + kTrailer + 3U) & ~3U;
  const std::uint32_t packet_bytes =
      text_bytes + kInFront + static_cast<std::uint32_t>(kPlainIcvBytes);
  // What follows in the word is the ICV's.
  wire::store_raw(inner + bytes, wire::esp::kIpv4Trailers[text_bytes - bytes - kTrailer]);
  std::uint8_t* const ip = inner - kInFront;
  put_ethernet(ip - wire::ethernet::kHeaderBytes, *flow.next_hop);
  put_outer_ip(ip, around, packet_bytes, inner, sequence);
  if constexpr (kIsInUdp) put_udp(ip + kUdpAt, outer, packet_bytes - kUdpAt);
  count_hop(inner);
  set_data(candidate.packet, ip - wire::ethernet::kHeaderBytes,
           static_cast<std::uint16_t>(packet_bytes + wire::ethernet::kHeaderBytes));
  const std::uint64_t iv = wire::Be64{around.iv_start + sequence}.raw();
  const auto low = static_cast<std::uint32_t>(iv >> 32U);  // of the number: the start has none
  std::uint8_t* const esp = inner - kEspInFront;
  wire::store_raw(esp, outer.spi);
  wire::store_raw(esp + 4, low);
  wire::store_raw(esp + wire::esp::kHeaderBytes, iv);
  wire::store_raw(nonce.bytes.data(), outer.salt);
  wire::store_raw(nonce.bytes.data() + 4, iv);
  operation.key = around.sa.key;
  operation.text = inner;
  operation.nonce = nonce.bytes.data();
  operation.icv = inner + text_bytes;
  operation.text_bytes = text_bytes;
  // RFC 4106 §5: SPI and sequence number as they stand in the packet; with ESN, all 64 bits.
  operation.aad = kHasEsn ? aad.bytes.data() : esp;
  operation.aad_bytes = kHasEsn ? 12 : 8;
  if constexpr (kHasEsn) {
    wire::store_raw(aad.bytes.data(), outer.spi);
    wire::store_raw(aad.bytes.data() + 4,
                    wire::Be32{static_cast<std::uint32_t>(sequence >> 32U)}.raw());
    wire::store_raw(aad.bytes.data() + 8, low);
  }
}

/// Bytes and numbers for a run of an SA that is alive: for the whole of it, from behind `sequence`
/// on, or for none of it. The general stage takes what is left of them then.
bool take_for(const WorkerState& worker, const SaRun& run, std::uint64_t now,
              std::uint64_t& sequence) {
  OutboundSa& sa = *run.sa;
  const std::uint32_t packets = run.end - run.begin;
  // Acquire pairs with the release in Sad::install.
  if (sa.stopped.load(std::memory_order_acquire) || has_ended(sa, now) ||
      !has_numbers(sa, packets, sa.sequence.load(std::memory_order_relaxed)) ||
      !worker.shared_add.take(sa.bytes_left, run.bytes)) {
    return false;
  }
  if (reserve_all(sa, packets, worker.shared_add, sequence)) [[likely]]
    return true;
  // Others have taken the last ones since the look.
  worker.shared_add(sa.bytes_left, run.bytes);
  return false;
}

/// Operations that wait for pass 3, which share a suite.
struct Unsealed {
  std::uint32_t begin = 0, end = 0;
  crypto::esp::TransformId transform{};
};

/// Pass 3.
void seal(WorkerState& worker, const Unsealed& unsealed) {
  if (unsealed.begin == unsealed.end) return;
  worker.enter(Stage::crypto);
  worker.context.engine->seal(
      crypto::esp::transform(unsealed.transform).suite,
      std::span(worker.scratch.operations).subspan(unsealed.begin, unsealed.end - unsealed.begin));
  worker.enter(Stage::header);
}

/// Pass 2 of the runs from `run` on that are to be sealed in one shape and by one suite, and may
/// be; where they end. Not inlined: what is around it would take the registers that it needs.
template <bool kIsInUdp, bool kHasEsn>
[[gnu::noinline]] SaRun* build_runs(WorkerState& worker, std::uint64_t now,
                                    const Sendings& sendings, SaRun* run, Unsealed& unsealed) {
  const SaRun* const last = &sendings.runs[sendings.run_count - 1];
  CryptoScratch& scratch = worker.scratch;
  std::uint32_t k = unsealed.end;
  do {
    OutboundSa& sa = *run->sa;
    const Around around(sa, sa.outer());  // looked at once: the next look may find another
    std::uint64_t sequence = 0;
    if (around.outer.transform != unsealed.transform || sa.has_esn != kHasEsn ||
        (around.outer.udp_bytes != 0) != kIsInUdp || !take_for(worker, *run, now, sequence)) {
      break;
    }
    const std::uint32_t packets = run->end - run->begin;
    sa.last_tsc.store(now, std::memory_order_relaxed);
    run->policy->add(packets);
    const KnownFlow* const* flow = &sendings.flows[run->begin];
    const KnownCandidate* candidate = &worker.known.packets[run->begin];
    crypto::esp::Operation* operation = &scratch.operations[k];
    CryptoScratch::Block* nonce = &scratch.nonces[k];
    CryptoScratch::Block* aad = &scratch.aads[k];
    for (const KnownCandidate* const end = candidate + packets; candidate != end; ++candidate) {
      build<kIsInUdp, kHasEsn>(*candidate, **flow++, around, *operation++, *nonce++, *aad++,
                               ++sequence);
    }
    k += packets;
  } while (run++ != last);
  unsealed.end = k;
  return run;
}

/// The same for whatever shape they have. It ends where it began: that run may not.
SaRun* build_sealed(WorkerState& worker, std::uint64_t now, const Sendings& sendings, SaRun* run,
                    Unsealed& unsealed) {
  const OuterHeader& outer = run->sa->outer();
  if (outer.transform != unsealed.transform) {
    seal(worker, unsealed);
    unsealed.begin = unsealed.end;
    unsealed.transform = outer.transform;
  }
  const bool is_in_udp = outer.udp_bytes != 0;
  if (run->sa->has_esn) {
    return is_in_udp ? build_runs<true, true>(worker, now, sendings, run, unsealed)
                     : build_runs<false, true>(worker, now, sendings, run, unsealed);
  }
  return is_in_udp ? build_runs<true, false>(worker, now, sendings, run, unsealed)
                   : build_runs<false, false>(worker, now, sendings, run, unsealed);
}

/// A run whose SA is near a limit is for the general stage, and so are those of the same SA behind
/// it: their packets may be of the same flows.
void leave_runs_of(const WorkerState& worker, Burst& burst, Sendings& sendings, SaRun* run) {
  const OutboundSa* const sa = run->sa;
  for (SaRun* const end = sendings.runs.data() + sendings.run_count; run != end; ++run) {
    if (run->sa != sa) continue;
    for (std::uint32_t n = run->begin; n < run->end; ++n) {
      leave_undecided(burst, worker.known.packets[n]);
      sendings.flows[n] = nullptr;
    }
    run->end = run->begin;
    run->bytes = 0;
  }
}

/// Passes 2 and 3.
void build_and_seal(WorkerState& worker, Burst& burst, Sendings& sendings) {
  Unsealed unsealed;
  SaRun* const end = sendings.runs.data() + sendings.run_count;
  for (SaRun* run = sendings.runs.data(); run != end;) {
    SaRun* const next = build_sealed(worker, burst.tsc, sendings, run, unsealed);
    if (next == run) [[unlikely]] {
      leave_runs_of(worker, burst, sendings, run++);
      continue;
    }
    run = next;
  }
  seal(worker, unsealed);
}

}  // namespace

void send_known(WorkerState& worker, Burst& burst) {
  if (worker.known.end == worker.known.packets.data()) return;
  Sendings sendings;
  worker.enter(Stage::lookup);
  take_known(worker, burst, sendings);
  worker.known_flows.count_packets(
      static_cast<std::uint32_t>(worker.known.end - worker.known.packets.data()));
  worker.known.end = worker.known.packets.data();
  if (sendings.count == 0) return;
  worker.enter(Stage::header);
  build_and_seal(worker, burst, sendings);
  worker.enter(Stage::forward);
  EnqueueRun leaving(worker);
  const KnownCandidate* candidate = worker.known.packets.data();
  for (const KnownFlow* const flow : std::span(sendings.flows).first(sendings.count)) {
    if (flow != nullptr) leaving.add(flow->port, candidate->packet);
    ++candidate;
  }
}

void learn_flow(WorkerState& worker, const Burst& burst, std::uint32_t position, SlotIndex outbound,
                Counter* policy) {
  const wire::IpHeader header = burst.header[position];
  const PacketOrigin origin = burst.origin[position];
  const wire::PortsAt ports_at = wire::kPortsOfProtocol[header.protocol];
  const bool can_be_known = header.payload_offset == wire::ipv4::kHeaderBytes &&
                            !header.is_fragment && may_be_known(ports_at) &&
                            header.total_bytes >= kLeastKnownBytes &&
                            origin != PacketOrigin::originated;
  if (!can_be_known) return;
  const std::uint8_t* const ip = burst.ip[position];
  const std::uint8_t* destination = ip + wire::ipv4::kDestination;
  KnownFlow flow;
  flow.key = known_flow_key(ip, origin, header.protocol, ports_at);
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
