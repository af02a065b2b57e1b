// The short way of packets whose flow is known (known_flows.hpp), in passes over the burst:
//   1. flow → SA and next hop; what leaves as it is goes to its port's queue at once, what is to be
//      sealed is taken if it fits, all else is left to the general stages
//   2. numbers for each run of one SA; Ethernet, outer IP, UDP, ESP, trailer, nonce and AAD
//   3. encrypt and compute ICVs; on to the port's queue
// The passes go over the packets of one family, then over the other's: the code of both is one, by
// family inside and by what goes around (known_headers.hpp).
// It does what decide, seal_outbound and forward do, for the common case and in one go; wherever a
// packet needs more (an error to report, a limit that is near, another shape) it does not take it.
#include <cstddef>
#include <span>

#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "dataplane/worker/as_it_is.hpp"
#include "dataplane/worker/known_headers.hpp"
#include "dataplane/worker/stages.hpp"
#include "wire/esp.hpp"
#include "wire/ethernet.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::size_t kEspInFront = wire::esp::kHeaderBytes + kPlainIvBytes;
/// The largest outer header: IPv6.
constexpr std::size_t kMostInFront = wire::ethernet::kHeaderBytes + InIpv6::kBytes + kEspInFront;
static_assert(InIpv6::kBytes >= InUdp::kBytes);
/// Trailer, padding and ICV at most, and what a store of eight bytes reaches beyond.
constexpr std::size_t kMostBehind = 3 + wire::esp::kTrailerBytes + kPlainIcvBytes;

template <typename Family>
using Flow = KnownFlowOf<typename Family::Key>;
template <typename Family>
using Candidate = KnownCandidateOf<typename Family::Key>;

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
template <typename Family>
struct Sendings {
  std::array<const Flow<Family>*, kBurstPackets> flows;
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
template <typename Family>
[[gnu::cold, gnu::noinline]] void leave_undecided(Burst& burst,
                                                  const Candidate<Family>& candidate) {
  wire::IpHeader header;
  header.total_bytes = candidate.bytes;
  header.payload_offset = Family::kHeaderBytes;
  header.protocol_offset = Family::kProtocol;
  header.protocol = candidate.ip[Family::kProtocol];
  burst.ip[candidate.position] = candidate.ip;
  burst.header[candidate.position] = header;
  burst.origin[candidate.position] = candidate.key.origin();
  burst.undecided.push(candidate.position);
}

/// Flows of which a packet is left to the general stages, by where they stand: what came behind it
/// must not leave before it. Others share their place at times, and are left as well.
template <typename Family>
class FlowsLeft {
 public:
  using Pair = KnownFlowsOf<typename Family::Key>::Pair;

  void add(const Pair& pair) {
    is_any_ = true;
    words_[word_of(pair)] |= bit_of(pair);
  }
  [[nodiscard]] bool has(const Pair& pair) const {
    return (words_[word_of(pair)] & bit_of(pair)) != 0;
  }
  [[nodiscard]] bool is_any() const { return is_any_; }

 private:
  [[nodiscard]] static std::uintptr_t place_of(const Pair& pair) {
    return reinterpret_cast<std::uintptr_t>(&pair) / sizeof(Pair);
  }
  [[nodiscard]] static std::uint64_t bit_of(const Pair& pair) {
    return std::uint64_t{1} << (place_of(pair) % 64);
  }
  [[nodiscard]] static std::size_t word_of(const Pair& pair) {
    return place_of(pair) / 64 % kWords;
  }

  static constexpr std::size_t kWords = 8;
  std::array<std::uint64_t, kWords> words_{};
  bool is_any_ = false;
};

/// Of what has not come here, with options or decrypted the general way, for one. Not of fragments,
/// which are of a flow only when they are put together.
template <typename Family>
[[gnu::noinline]] void see_undecided(WorkerState& worker, const Burst& burst,
                                     FlowsLeft<Family>& left) {
  for (const std::uint32_t position : burst.undecided) {
    const std::uint8_t* const ip = burst.ip[position];
    const wire::IpHeader& header = burst.header[position];
    const wire::PortsAt ports_at = wire::kPortsOfProtocol[header.protocol];
    if (wire::is_v4(ip) != std::is_same_v<Family, Ipv4> || header.is_fragment ||
        !may_be_known(ports_at) || header.payload_bytes() < 4) {
      continue;
    }
    const typename Family::Key key{
        Family::addresses(ip), rest_of_flow(ip + header.payload_offset - 4, burst.origin[position],
                                            header.protocol, ports_at)};
    left.add(worker.flows_of<Family>().pair_of(key));
  }
}

/// Whether a packet of a known flow goes the short way.
template <typename Family>
bool goes(const Flow<Family>& flow, const Candidate<Family>& candidate) {
  return may_go_on<Family>(flow, candidate.ip, candidate.bytes) && is_resolved(*flow.next_hop) &&
         (flow.sa == nullptr || has_room(candidate.packet, candidate.ip, candidate.bytes));
}

/// Makes runs of the packets that pass 1 finds.
template <typename Family>
class RunMaker {
 public:
  explicit RunMaker(Sendings<Family>& sendings) : sendings_(sendings) {}
  ~RunMaker() { end(); }
  RunMaker(const RunMaker&) = delete;
  RunMaker& operator=(const RunMaker&) = delete;

  void add(const Flow<Family>& flow, std::uint32_t bytes) {
    if (flow.sa != sa_ || flow.policy != policy_) {
      end();
      sa_ = flow.sa;
      policy_ = flow.policy;
      rte_prefetch0(policy_);
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

  Sendings<Family>& sendings_;
  OutboundSa* sa_ = nullptr;
  Counter* policy_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::uint32_t begin_ = 0, count_ = 0;
};

/// The flow of a packet that goes the short way, else nullptr. `kIsAnyLeft`: some flow is in
/// `left`.
template <typename Family, bool kIsAnyLeft>
const Flow<Family>* flow_of(const Candidate<Family>& candidate, std::uint64_t era,
                            const FlowsLeft<Family>& left) {
  using Flows = KnownFlowsOf<typename Family::Key>;
  const Flow<Family>* const flow = Flows::find(*candidate.pair, candidate.key, era);
  if constexpr (kIsAnyLeft) {
    if (left.has(*candidate.pair)) return nullptr;
  }
  return flow != nullptr && goes<Family>(*flow, candidate) ? flow : nullptr;
}

/// Pass 1 of what leaves as it is, from `next` on: to the first that does not.
template <typename Family, bool kIsAnyLeft>
[[gnu::noinline]] const Candidate<Family>* send_as_they_are(WorkerState& worker,
                                                            const Candidate<Family>* next,
                                                            const Candidate<Family>* end,
                                                            const FlowsLeft<Family>& left) {
  const std::uint64_t era = worker.era_of_burst;
  AsItIs<Family> leaving(worker);
  for (; next != end; ++next) {
    const Flow<Family>* const flow = flow_of<Family, kIsAnyLeft>(*next, era, left);
    if (flow == nullptr || flow->sa != nullptr) [[unlikely]]
      break;
    leaving.send(next->packet, next->ip, next->bytes, *flow);
  }
  return next;
}

/// Pass 1 from `next` on; as long as no flow is left, to behind the first that is. Most bursts have
/// none, so its loop is one without.
template <typename Family, bool kIsAnyLeft>
[[gnu::always_inline]] inline const Candidate<Family>* take_known_from(
    WorkerState& worker, Burst& burst, const Candidate<Family>* next, Candidate<Family>*& taken,
    RunMaker<Family>& runs, FlowsLeft<Family>& left) {
  const std::uint64_t era = worker.era_of_burst;
  const Candidate<Family>* const end = worker.offered<Family>().end;
  while (next != end) {
    const Candidate<Family>& candidate = *next;
    const Flow<Family>* const flow = flow_of<Family, kIsAnyLeft>(candidate, era, left);
    if (flow == nullptr) [[unlikely]] {
      leave_undecided<Family>(burst, candidate);
      left.add(*candidate.pair);
      ++next;
      if constexpr (kIsAnyLeft) continue;
      break;
    }
    if (flow->sa == nullptr) {
      next = send_as_they_are<Family, kIsAnyLeft>(worker, next, end, left);
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
  return next;
}

/// Pass 1.
template <typename Family>
void take_known(WorkerState& worker, Burst& burst, Sendings<Family>& sendings) {
  Candidate<Family>* taken = worker.offered<Family>().packets.data();
  const Candidate<Family>* next = taken;
  RunMaker<Family> runs(sendings);
  FlowsLeft<Family> left;
  if (burst.undecided.size() != 0) [[unlikely]]
    see_undecided<Family>(worker, burst, left);
  if (!left.is_any()) [[likely]]
    next = take_known_from<Family, false>(worker, burst, next, taken, runs, left);
  if (left.is_any()) [[unlikely]]
    take_known_from<Family, true>(worker, burst, next, taken, runs, left);
}

/// Pass 2 for one packet.
template <typename Family, typename Outer, bool kHasEsn>
void build(const Candidate<Family>& candidate, const Flow<Family>& flow, const Around& around,
           crypto::esp::Operation& operation, CryptoScratch::Block& nonce,
           CryptoScratch::Block& aad, std::uint64_t sequence) {
  constexpr std::uint32_t kTrailer = wire::esp::kTrailerBytes;
  constexpr std::uint32_t kInFront = Outer::kBytes + kEspInFront;
  std::uint8_t* const inner = candidate.ip;
  const OuterHeader& outer = around.outer;
  const std::uint32_t bytes = candidate.bytes;
  const std::uint32_t text_bytes = (bytes + kTrailer + 3U) & ~3U;
  const std::uint32_t packet_bytes =
      text_bytes + kInFront + static_cast<std::uint32_t>(kPlainIcvBytes);
  // What follows in the word is the ICV's.
  wire::store_raw(inner + bytes,
                  wire::esp::kTrailers<Family::kAsNextHeader>[text_bytes - bytes - kTrailer]);
  std::uint8_t* const ip = inner - kInFront;
  put_ethernet(ip - wire::ethernet::kHeaderBytes, *flow.next_hop);
  Outer::template put<Family>(ip, around, packet_bytes, inner, sequence);
  count_hop<Family>(inner);
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
template <typename Family, typename Outer, bool kHasEsn>
[[gnu::noinline]] SaRun* build_runs(WorkerState& worker, std::uint64_t now,
                                    const Sendings<Family>& sendings, SaRun* run,
                                    Unsealed& unsealed) {
  const SaRun* const last = &sendings.runs[sendings.run_count - 1];
  CryptoScratch& scratch = worker.scratch;
  std::uint32_t k = unsealed.end;
  do {
    OutboundSa& sa = *run->sa;
    const Around around(sa, sa.outer());  // looked at once: the next look may find another
    std::uint64_t sequence = 0;
    if (around.outer.transform != unsealed.transform || sa.has_esn != kHasEsn ||
        !Outer::is_shape_of(around.outer) || !take_for(worker, *run, now, sequence)) {
      break;
    }
    const std::uint32_t packets = run->end - run->begin;
    sa.last_tsc.store(now, std::memory_order_relaxed);
    run->policy->add(packets);
    const Flow<Family>* const* flow = &sendings.flows[run->begin];
    const Candidate<Family>* candidate = &worker.offered<Family>().packets[run->begin];
    crypto::esp::Operation* operation = &scratch.operations[k];
    CryptoScratch::Block* nonce = &scratch.nonces[k];
    CryptoScratch::Block* aad = &scratch.aads[k];
    for (const Candidate<Family>* const end = candidate + packets; candidate != end; ++candidate) {
      build<Family, Outer, kHasEsn>(*candidate, **flow++, around, *operation++, *nonce++, *aad++,
                                    ++sequence);
    }
    k += packets;
  } while (run++ != last);
  unsealed.end = k;
  return run;
}

/// The same for whatever shape they have. It ends where it began: that run may not.
template <typename Family>
SaRun* build_sealed(WorkerState& worker, std::uint64_t now, const Sendings<Family>& sendings,
                    SaRun* run, Unsealed& unsealed) {
  const OuterHeader& outer = run->sa->outer();
  if (outer.transform != unsealed.transform) {
    seal(worker, unsealed);
    unsealed.begin = unsealed.end;
    unsealed.transform = outer.transform;
  }
  const auto build = [&]<typename Outer>(Outer) {
    return run->sa->has_esn
               ? build_runs<Family, Outer, true>(worker, now, sendings, run, unsealed)
               : build_runs<Family, Outer, false>(worker, now, sendings, run, unsealed);
  };
  if (InIpv4::is_shape_of(outer)) [[likely]]
    return build(InIpv4{});
  return InIpv6::is_shape_of(outer) ? build(InIpv6{}) : build(InUdp{});
}

/// A run whose SA is near a limit is for the general stage, and so are those of the same SA behind
/// it: their packets may be of the same flows.
template <typename Family>
void leave_runs_of(WorkerState& worker, Burst& burst, Sendings<Family>& sendings, SaRun* run) {
  const OutboundSa* const sa = run->sa;
  for (SaRun* const end = sendings.runs.data() + sendings.run_count; run != end; ++run) {
    if (run->sa != sa) continue;
    for (std::uint32_t n = run->begin; n < run->end; ++n) {
      leave_undecided<Family>(burst, worker.offered<Family>().packets[n]);
      sendings.flows[n] = nullptr;
    }
    run->end = run->begin;
    run->bytes = 0;
  }
}

/// Passes 2 and 3.
template <typename Family>
void build_and_seal(WorkerState& worker, Burst& burst, Sendings<Family>& sendings) {
  Unsealed unsealed;
  SaRun* const end = sendings.runs.data() + sendings.run_count;
  for (SaRun* run = sendings.runs.data(); run != end;) {
    SaRun* const next = build_sealed<Family>(worker, burst.tsc, sendings, run, unsealed);
    if (next == run) [[unlikely]] {
      leave_runs_of<Family>(worker, burst, sendings, run++);
      continue;
    }
    run = next;
  }
  seal(worker, unsealed);
}

template <typename Family>
[[gnu::noinline]] void send(WorkerState& worker, Burst& burst) {
  auto& offered = worker.offered<Family>();
  Sendings<Family> sendings;
  worker.enter(Stage::lookup);
  take_known<Family>(worker, burst, sendings);
  worker.flows_of<Family>().count_packets(
      static_cast<std::uint32_t>(offered.end - offered.packets.data()));
  offered.end = offered.packets.data();
  if (sendings.count == 0) return;
  worker.enter(Stage::header);
  build_and_seal<Family>(worker, burst, sendings);
  worker.enter(Stage::forward);
  EnqueueRun leaving(worker);
  const Candidate<Family>* candidate = offered.packets.data();
  for (const Flow<Family>* const flow : std::span(sendings.flows).first(sendings.count)) {
    if (flow != nullptr) leaving.add(flow->port, candidate->packet);
    ++candidate;
  }
}

}  // namespace

void send_known(WorkerState& worker, Burst& burst) {
  if (worker.known.end != worker.known.packets.data()) send<Ipv4>(worker, burst);
  if (worker.known_v6.end != worker.known_v6.packets.data()) send<Ipv6>(worker, burst);
}

}  // namespace culvert::dataplane
