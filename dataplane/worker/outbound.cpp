// Outbound IPsec (RFC 4303 §3.3), in three passes over the burst:
//   1. SA, route of the outer packet, room and MTU; sequence numbers for each run of one SA at
//   once;
//      headers, trailer, nonce and AAD for the whole burst
//   2. encrypt and compute ICVs, in one call per suite
//   3. what covers the ciphertext (UDP over IPv6); on to forward
#include <algorithm>
#include <bit>
#include <cstring>

#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "dataplane/worker/crypto_burst.hpp"
#include "dataplane/worker/decapsulate.hpp"
#include "dataplane/worker/encapsulate.hpp"
#include "dataplane/worker/header_fields.hpp"
#include "dataplane/worker/sizes.hpp"
#include "dataplane/worker/stages.hpp"
#include "wire/ethernet.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

/// SAs ahead whose lines are fetched: with 1024 SAs each packet meets a cold one.
constexpr std::uint32_t kPrefetchDistance = 6;

void drop_of_sa(WorkerState& worker, Burst& burst, std::uint32_t position, const OutboundSa& sa,
                DropReason reason) {
  sa.details->count_drop(reason);
  worker.drop(burst.packets[position], DropDirection::out, reason);
}

/// Whether the buffer has room for what goes around the packet, and for an Ethernet header.
bool has_room(const rte_mbuf* packet, const std::uint8_t* ip, const wire::IpHeader& header,
              const EspShape& shape) {
  const auto* const buffer = static_cast<const std::uint8_t*>(packet->buf_addr);
  const auto before = static_cast<std::size_t>(ip - buffer);
  const std::size_t used = before + header.total_bytes;
  return before >= shape.in_front + wire::ethernet::kHeaderBytes &&
         used + shape.behind() <= packet->buf_len;
}

/// Where the outer packet goes: the peer, or in transport mode the packet's own destination.
AdjacencyIndex next_hop_of(const WorkerState& worker, const OutboundSa& sa,
                           const OuterHeader& outer, const std::uint8_t* ip) {
  return worker.tables.fib->lookup(destination_of(sa.is_tunnel ? outer.bytes.data() : ip));
}

/// A run of packets for one SA: what they share.
struct Run {
  OutboundSa& sa;
  const OuterHeader& outer;
  AdjacencyIndex next_hop{};
  std::uint16_t mtu = 0;
};

/// Packets of a run that may be sent, and what is added around each.
struct FitPackets {
  PacketList positions;
  std::array<EspShape, kBurstPackets> shapes;  ///< by place in `positions`
  std::uint64_t bytes = 0;                     ///< of inner packets
};

/// Pass 1 before a number is spent on it: may this packet be sent at all? If not: punted or
/// dropped.
void take_if_fit(WorkerState& worker, Burst& burst, std::uint32_t position, const Run& run,
                 FitPackets& fit) {
  const wire::IpHeader header = burst.header[position];
  const EspShape shape = shape_of(run.sa, run.outer, header);
  if (!run.sa.is_tunnel && header.is_fragment) [[unlikely]] {
    // RFC 4303 §3.1.1: transport mode applies to whole datagrams only.
    return drop_of_sa(worker, burst, position, run.sa, DropReason::fragment_unsupported);
  }
  // What is cut first, or not sent at all, needs no room.
  const bool is_too_big = shape.packet_bytes > run.mtu;
  if (is_too_big && handle_too_big(worker, burst, position, run.sa, run.outer, run.mtu) ==
                        TooBig::ended) [[unlikely]] {
    return;
  }
  if (!has_room(burst.packets[position], burst.ip[position], header, shape)) [[unlikely]] {
    return drop_of_sa(worker, burst, position, run.sa, DropReason::no_headroom);
  }
  if (is_too_big) [[unlikely]]
    worker.oversize.add(position, run.mtu);
  fit.shapes[fit.positions.size()] = shape;
  fit.positions.push(position);
  fit.bytes += header.total_bytes;
}

/// Bytes against the hard lifetime (RFC 4301 §4.4.2.1): how many of the run's packets may still
/// pass. Theirs are taken.
std::uint32_t take_bytes(WorkerState& worker, const Burst& burst, const FitPackets& fit,
                         OutboundSa& sa) {
  const PacketList& positions = fit.positions;
  if (worker.shared_add.take(sa.bytes_left, fit.bytes)) [[likely]]
    return positions.size();
  std::uint32_t count = 0;
  while (count < positions.size() &&
         worker.shared_add.take(sa.bytes_left, burst.header[positions[count]].total_bytes)) {
    ++count;
  }
  return count;
}

StopCause cause_of_sequence_limit(const OutboundSa& sa) {
  const std::uint64_t end_of_numbers = sa.has_esn ? ~0ULL : 0xffffffffULL;
  const std::uint64_t limit = sa.sequence_limit.load(std::memory_order_relaxed);
  return limit < end_of_numbers ? StopCause::hard_packets : StopCause::sequence;
}

/// Builds one packet and its operation.
void prepare(WorkerState& worker, Burst& burst, std::uint32_t position, const EspShape& shape,
             const Run& run, std::uint64_t sequence) {
  const wire::IpHeader header = burst.header[position];
  const Encapsulated made =
      encapsulate(run.sa, run.outer, shape, burst.ip[position], header, sequence);
  if (run.sa.details->changes_outer && run.sa.is_tunnel) [[unlikely]] {
    apply_to_outer(made.ip, burst.ip[position], run.sa.details->headers,
                   identification_of(run.outer, sequence));
  }
  const std::uint32_t k = burst.sealed.size();
  CryptoScratch& scratch = worker.scratch;
  write_nonce(scratch.nonces[k], run.outer.salt, shape.form, wire::Be64{run.sa.iv(sequence)}.raw());
  const std::uint8_t aad_bytes =
      write_aad(scratch.aads[k], run.outer.spi, sequence, run.sa.has_esn);
  std::uint8_t* const text = made.esp + wire::esp::kHeaderBytes + shape.form.iv_bytes;
  const auto text_bytes =
      static_cast<std::uint32_t>(shape.payload_bytes + shape.padding + wire::esp::kTrailerBytes);
  scratch.operations[k] = {run.sa.key,
                           text,
                           scratch.nonces[k].bytes.data(),
                           scratch.aads[k].bytes.data(),
                           text + text_bytes,
                           text_bytes,
                           aad_bytes};
  scratch.transforms[k] = run.outer.transform;
  // By the header that this packet got: the SA may have another one when it is sealed. Its first
  // next header says nothing, for in transport mode extension headers are in front of UDP.
  if (run.outer.udp_bytes != 0 && !wire::is_v4(made.ip)) [[unlikely]]
    scratch.wants_udp_checksum |= std::uint64_t{1} << k;
  burst.ip[position] = made.ip;
  burst.ip_bytes[position] = shape.packet_bytes;
  burst.next_hop[position] = run.next_hop;
  burst.sealed.push(position);
}

/// Bytes and numbers for the packets of `fit` at once, then each is built.
void number_and_prepare(WorkerState& worker, Burst& burst, const FitPackets& fit, const Run& run) {
  const PacketList& positions = fit.positions;
  std::uint32_t count = take_bytes(worker, burst, fit, run.sa);
  StopCause cause = count < positions.size() ? StopCause::hard_bytes : StopCause::none;
  const SequenceBlock block = reserve_sequence(run.sa, count, worker.shared_add);
  if (block.count < count) [[unlikely]] {
    cause = cause_of_sequence_limit(run.sa);
    while (count > block.count) {
      worker.shared_add(run.sa.bytes_left, burst.header[positions[--count]].total_bytes);
    }
  }
  if (cause != StopCause::none) [[unlikely]] {
    stop_sa(run.sa, cause);
    for (std::uint32_t i = count; i < positions.size(); ++i) {
      drop_of_sa(worker, burst, positions[i], run.sa, drop_reason_of(cause));
    }
    if (count == 0) return;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    prepare(worker, burst, positions[i], fit.shapes[i], run, block.first + i);
  }
  run.sa.last_tsc.store(burst.tsc, std::memory_order_relaxed);
}

/// No packet leaves by an SA that has stopped: its cause says why; none, that it is gone.
void drop_run(WorkerState& worker, Burst& burst, std::uint32_t begin, std::uint32_t end,
              const OutboundSa& sa) {
  SaDetails* const details = sa.details;
  const StopCause cause =
      details == nullptr ? StopCause::none : details->stop_cause.load(std::memory_order_relaxed);
  const DropReason reason = cause == StopCause::none ? DropReason::no_sa : drop_reason_of(cause);
  if (details != nullptr) details->count_drop(reason, end - begin);
  for (std::uint32_t i = begin; i < end; ++i) {
    worker.drop(burst.packets[burst.protect[i]], DropDirection::out, reason);
  }
}

/// Where the run's outer packets go.
void find_route(const WorkerState& worker, const std::uint8_t* ip, Run& run) {
  run.next_hop = next_hop_of(worker, run.sa, run.outer, ip);
  const Adjacency& adjacency = (*worker.tables.adjacencies)[run.next_hop];
  // No link, no MTU: forward says what is wrong with the route.
  run.mtu = adjacency.mtu() != 0 ? path_mtu_of(run.sa, adjacency) : UINT16_MAX;
}

/// Traffic flow confidentiality (RFC 4303 §2.7): zeros behind the inner packet, whose own length
/// says where it ends, up to the SA's size or what the path and the buffer take.
void pad_traffic_flow(Burst& burst, std::uint32_t position, const Run& run) {
  wire::IpHeader& header = burst.header[position];
  const rte_mbuf* const packet = burst.packets[position];
  std::uint8_t* const ip = burst.ip[position];
  const auto* const end = static_cast<const std::uint8_t*>(packet->buf_addr) + packet->buf_len;
  const auto room = static_cast<std::size_t>(end - ip);
  const std::size_t most =
      std::min<std::size_t>(mtu_inside(run.sa, run.outer, header, run.mtu),
                            room < kMostBehindPacket ? 0 : room - kMostBehindPacket);
  const std::size_t wanted = std::min<std::size_t>(run.sa.details->headers.tfc_padding, most);
  if (wanted <= header.total_bytes) return;
  std::memset(ip + header.total_bytes, 0, wanted - header.total_bytes);
  header.total_bytes = static_cast<std::uint16_t>(wanted);
}

/// Whether a packet is now behind the pieces of one of its SA that was cut. One that will be cut as
/// well is so now: its pieces are behind them then.
bool waits_behind(WorkerState& worker, const Burst& burst, std::uint32_t position, const Run& run) {
  if ((burst.cut_for & bit_of(burst.outbound[position])) == 0) [[likely]]
    return false;
  const bool fits = shape_of(run.sa, run.outer, burst.header[position]).packet_bytes <= run.mtu;
  if (!fits && is_cut_before_seal(burst, position, run.sa)) return false;
  return wait_for_pieces(worker, burst, position, burst.header[position].total_bytes,
                         {.step = NextStep::protect,
                          .origin = burst.origin[position],
                          .received_on = burst.received_on[position],
                          .outbound = burst.outbound[position]});
}

/// Pass 1 for packets [begin, end) of the list, which share the SA.
void prepare_run(WorkerState& worker, Burst& burst, std::uint32_t begin, std::uint32_t end) {
  OutboundSa& sa = *worker.tables.sad->outbound(burst.outbound[burst.protect[begin]]);
  // Acquire pairs with the release in Sad::install.
  if (sa.stopped.load(std::memory_order_acquire)) [[unlikely]] {
    return drop_run(worker, burst, begin, end, sa);
  }
  if (has_ended(sa, burst.tsc)) [[unlikely]] {
    stop_sa(sa, StopCause::hard_time);
    return drop_run(worker, burst, begin, end, sa);
  }
  Run run{sa, sa.outer(), {}, 0};
  FitPackets fit;
  for (std::uint32_t i = begin; i < end; ++i) {
    const std::uint32_t position = burst.protect[i];
    // One route for all in tunnel mode; in transport mode each packet has its own destination.
    if (i == begin || !sa.is_tunnel) find_route(worker, burst.ip[position], run);
    if (waits_behind(worker, burst, position, run)) [[unlikely]]
      continue;
    if (sa.is_tunnel && sa.details->headers.tfc_padding != 0) [[unlikely]]
      pad_traffic_flow(burst, position, run);
    take_if_fit(worker, burst, position, run, fit);
    if (sa.is_tunnel || fit.positions.size() == 0) continue;
    number_and_prepare(worker, burst, fit, run);
    fit.positions.clear();
    fit.bytes = 0;
  }
  if (fit.positions.size() != 0) number_and_prepare(worker, burst, fit, run);
}

void prefetch_ahead(WorkerState& worker, const Burst& burst, std::uint32_t index) {
  if (index + kPrefetchDistance >= burst.protect.size()) return;
  const SlotIndex slot = burst.outbound[burst.protect[index + kPrefetchDistance]];
  const OutboundSa* const sa = worker.tables.sad->outbound(slot);
  rte_prefetch0(sa);
  rte_prefetch0(&sa->headers[0]);
}

/// RFC 4303 §2.6: "the protocol value 59 … MUST be used to designate a 'dummy' packet". Whatever
/// else is under the encryption: the next header is its last byte.
void mark_dummies(WorkerState& worker, const Burst& burst) {
  for (std::uint32_t k = 0; k < burst.sealed.size(); ++k) {
    const crypto::esp::Operation& operation = worker.scratch.operations[k];
    operation.text[operation.text_bytes - 1] = wire::protocol::kNoNextHeader;
    const SlotIndex slot = burst.outbound[burst.sealed[k]];
    // Relaxed: a statistic.
    worker.tables.sad->outbound(slot)->details->dummies.fetch_add(1, std::memory_order_relaxed);
  }
}

/// Pass 3: what covers the ciphertext.
void finish(WorkerState& worker, Burst& burst) {
  const CryptoScratch& scratch = worker.scratch;
  for (std::uint64_t left = scratch.wants_udp_checksum; left != 0; left &= left - 1) {
    const auto k = static_cast<std::uint32_t>(std::countr_zero(left));
    const std::uint32_t position = burst.sealed[k];
    std::uint8_t* const ip = burst.ip[position];
    std::uint8_t* const udp = scratch.operations[k].text -
                              crypto::esp::form_of(scratch.transforms[k]).iv_bytes -
                              wire::esp::kHeaderBytes - wire::udp::kHeaderBytes;
    finish_ipv6_udp(ip, udp, static_cast<std::size_t>(ip + burst.ip_bytes[position] - udp));
  }
}

}  // namespace

void seal_outbound(WorkerState& worker, Burst& burst) {
  if (burst.protect.size() == 0) return;
  // Operations are by place in this list: one that stood here already would be done with an old
  // one.
  assert(burst.sealed.size() == 0);
  worker.scratch.wants_udp_checksum = 0;
  worker.enter(Stage::header);
  std::uint32_t begin = 0;
  while (begin < burst.protect.size()) {
    const SlotIndex slot = burst.outbound[burst.protect[begin]];
    prefetch_ahead(worker, burst, begin);
    std::uint32_t end = begin + 1;
    while (end < burst.protect.size() && burst.outbound[burst.protect[end]] == slot) ++end;
    prepare_run(worker, burst, begin, end);
    begin = end;
  }
  burst.protect.clear();
  if (burst.is_of_dummies) [[unlikely]]
    mark_dummies(worker, burst);
  worker.enter(Stage::crypto);
  for_each_suite(worker.scratch, std::span(worker.scratch.operations).first(burst.sealed.size()),
                 [&](const crypto::EspSuite& suite, std::span<const crypto::esp::Operation> run) {
                   worker.context.engine->seal(suite, run);
                 });
  worker.enter(Stage::header);
  finish(worker, burst);
  if (!worker.oversize.is_empty()) [[unlikely]]
    cut_sealed(worker, burst);
}

}  // namespace culvert::dataplane
