// Inbound IPsec (RFC 4303 §3.4, RFC 4301 §5.2), in three passes over the burst:
//   1. SPI → SA; address, length; window pre-check; nonce and AAD for the whole
//   burst
//   2. decrypt and compute ICVs, in one call per suite; once more where an SA is out of step
//   3. ICV compare, window commit, lifetimes, trailer, decapsulation, selectors
#include "dataplane/worker/inbound.hpp"

#include <rte_mbuf.h>
#include <rte_prefetch.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "dataplane/worker/crypto_burst.hpp"
#include "dataplane/worker/decapsulate.hpp"
#include "dataplane/worker/inner_selectors.hpp"
#include "dataplane/worker/late_packets.hpp"
#include "dataplane/worker/stages.hpp"
#include "dataplane/worker/transport_checksum.hpp"
#include "wire/esp.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

struct Candidates {
  std::array<OpenedPacket, kBurstPackets> items;
  std::uint32_t count = 0;
};

bool is_for_us(const WorkerState& worker, const std::uint8_t* ip) {
  return worker.tables.fib->lookup(destination_of(ip)) == Adjacencies::kLocal;
}

/// No SA of ours: a packet in transit is like any other, and so is IKE for us, which is answered:
/// its source is to be looked at first. A keepalive ends here, all else is lost.
void without_sa(WorkerState& worker, Burst& burst, std::uint32_t position, const EspAt& at) {
  const auto drop = [&](DropReason reason) {
    worker.drop(burst.packets[position], DropDirection::in, reason);
  };
  if (!is_for_us(worker, burst.ip[position])) {
    burst.undecided.push(position);
    return;
  }
  const auto lose = [&] {
    const std::uint32_t spi = wire::load_u32(at.esp);
    if (worker.tables.sad->is_expected(spi) && hold_early(worker, burst, position, spi)) return;
    if (!hint_unknown_spi(worker, burst, position)) drop(DropReason::sa_not_found);
  };
  if (!at.in_udp) {
    if (at.bytes < wire::esp::kHeaderBytes) return drop(DropReason::esp_truncated);
    return lose();
  }
  switch (wire::udp::classify_nat_traversal(wire::Bytes(at.esp, at.bytes))) {
    case wire::udp::Encapsulated::keepalive:
      return drop(DropReason::nat_keepalive);
    case wire::udp::Encapsulated::ike:
      return burst.undecided.push(position);
    case wire::udp::Encapsulated::truncated:
      return drop(DropReason::esp_truncated);
    case wire::udp::Encapsulated::esp:
      return lose();
  }
}

/// Whether the outer source (address, and port in UDP) is not where we send to. RFC 7296 §2.23:
/// "Either side can decide whether or not to use UDP encapsulation for ESP irrespective of the
/// choice made by the other side": a packet in the form that we do not send says nothing of where
/// ours should go.
bool has_moved(const InboundSa& sa, const std::uint8_t* ip, const EspAt& at) {
  if (at.in_udp != sa.has_udp) return false;
  const SaEndpoints& outer = sa.details->outer();
  if (source_of(ip) != outer.remote.address) return true;
  return at.in_udp && wire::load_u16(at.esp - wire::udp::kHeaderBytes) != outer.remote.port;
}

/// The common case by one compare; else by parts. nullopt: not where this SA says that we are.
std::optional<bool> peer_has_moved(const InboundSa& sa, const std::uint8_t* ip, const EspAt& at) {
  const bool as_expected = sa.outer_is_v4 && (ip[0] >> 4U) == 4 &&
                           wire::load_raw<std::uint64_t>(ip + wire::ipv4::kSource) ==
                               sa.outer_addresses.load(std::memory_order_relaxed) &&
                           (!(sa.has_udp && at.in_udp) ||
                            wire::load_raw<std::uint32_t>(at.esp - wire::udp::kHeaderBytes) ==
                                sa.outer_ports.load(std::memory_order_relaxed));
  if (as_expected) [[likely]]
    return false;
  if (destination_of(ip) != sa.details->outer().local.address) return std::nullopt;
  return has_moved(sa, ip, at);
}

/// Whether the SA takes a packet that came to another address of ours. RFC 4301 §4.1: "For an SA
/// used to carry unicast traffic, the Security Parameters Index (SPI) by itself suffices to specify
/// an SA." When we move, what the peer sends until it hears of it (RFC 4555 §3.5) comes to our
/// address before; when it moves us, it may send to the new one before we have checked the way
/// back. SAs keep their family, and MOBIKE moves tunnels: in transport mode the outer header, which
/// no ICV covers, is that of the packet.
bool takes_at_other_address(const InboundSa& sa, const std::uint8_t* ip) {
  return sa.is_tunnel && sa.outer_is_v4 == wire::is_v4(ip);
}

void drop_of_sa(WorkerState& worker, Burst& burst, std::uint32_t position, const InboundSa& sa,
                DropReason reason) {
  sa.details->count_drop(reason);
  worker.drop(burst.packets[position], DropDirection::in, reason);
}

/// An SA belongs to one worker, so that its window has one writer. False: handed over or dropped.
bool is_mine(WorkerState& worker, Burst& burst, std::uint32_t position, const InboundSa& sa) {
  if (worker.tables.workers <= 1) return true;
  const std::size_t owner = worker.tables.sad->slot_of(sa) % worker.tables.workers;
  if (owner == raw(worker.context.id)) return true;
  rte_mbuf* const packet = burst.packets[position];
  PuntedPacket origin;
  origin.received_on = burst.received_on[position];
  punted(packet) = origin;
  if (rte_ring_enqueue(worker.context.peers[owner]->handoff, packet) != 0) {
    drop_of_sa(worker, burst, position, sa, DropReason::handoff_queue_full);
    return false;
  }
  worker.counters.handed_over.add(1);
  return false;
}

/// Whether the SA takes no packet of a burst: it was stopped, or its time has come.
bool is_over(InboundSa& sa, std::uint64_t tsc) {
  if (sa.stopped.load(std::memory_order_relaxed)) return true;
  if (!has_ended(sa, tsc)) [[likely]]
    return false;
  stop_sa(sa, StopCause::hard_time);
  return true;
}

/// A packet that is worth decrypting, and its operation.
void add_candidate(WorkerState& worker, std::uint32_t position, InboundSa& sa, const EspAt& at,
                   std::uint64_t sequence, bool has_moved, crypto::esp::Form form,
                   Candidates& candidates) {
  const std::size_t around = wire::esp::kHeaderBytes + form.iv_bytes + form.icv_bytes;
  const std::uint32_t k = candidates.count++;
  const auto text_bytes = static_cast<std::uint16_t>(at.bytes - around);
  std::uint8_t* const text = at.esp + wire::esp::kHeaderBytes + form.iv_bytes;
  candidates.items[k] = {
      &sa,      sequence, text, text + text_bytes, text_bytes, static_cast<std::uint8_t>(position),
      has_moved};
  CryptoScratch& scratch = worker.scratch;
  write_nonce(scratch.nonces[k], sa.salt, form,
              wire::load_raw<std::uint64_t>(at.esp + wire::esp::kHeaderBytes));
  const std::uint8_t aad_bytes =
      write_aad(scratch.aads[k], wire::load_raw<std::uint32_t>(at.esp), sequence, sa.has_esn);
  scratch.operations[k] = {sa.key,
                           text,
                           scratch.nonces[k].bytes.data(),
                           scratch.aads[k].bytes.data(),
                           scratch.icvs[k].bytes.data(),
                           text_bytes,
                           aad_bytes};
  scratch.transforms[k] = sa.transform;
}

/// Pass 1 for one packet.
void check_one(WorkerState& worker, Burst& burst, std::uint32_t position, InboundSa* sa,
               const EspAt& at, Candidates& candidates) {
  if (sa == nullptr) [[unlikely]]
    return without_sa(worker, burst, position, at);
  if (!is_mine(worker, burst, position, *sa)) return;
  const auto worth = worth_opening(worker, burst, position, *sa, at);
  if (!worth) return;
  const crypto::esp::Form form = crypto::esp::form_of(sa->transform);
  add_candidate(worker, position, *sa, at, worth->sequence, worth->peer_moved, form, candidates);
  if (sa->resync_due.load(std::memory_order_relaxed)) [[unlikely]] {
    const std::uint32_t k = candidates.count - 1;
    worker.resynchronizer.keep(*sa, k, worker.scratch.operations[k], burst.tsc);
  }
}

/// Pass 1: where the SAs of the whole burst would stand first, so that their lines arrive while
/// others are looked up.
void check_all(WorkerState& worker, Burst& burst, Candidates& candidates) {
  std::array<EspAt, kBurstPackets> at;
  std::array<InboundSa*, kBurstPackets> sas;
  const Sad& sad = *worker.tables.sad;
  for (std::uint32_t i = 0; i < burst.encrypted.size(); ++i) {
    const std::uint32_t position = burst.encrypted[i];
    at[i] = esp_of(burst.ip[position], burst.header[position]);
    const bool has_spi = at[i].bytes >= wire::esp::kHeaderBytes;
    sas[i] = has_spi ? sad.place_of(wire::load_u32(at[i].esp)) : nullptr;
    if (sas[i] == nullptr) continue;
    rte_prefetch0(sas[i]);
    rte_prefetch0(&sas[i]->highest);  // the second line
  }
  for (std::uint32_t i = 0; i < burst.encrypted.size(); ++i) {
    InboundSa* const sa = sas[i] == nullptr ? nullptr : sad.inbound(wire::load_u32(at[i].esp));
    check_one(worker, burst, burst.encrypted[i], sa, at[i], candidates);
  }
}

/// A peer may send from elsewhere for good without the key daemon following it, and who rewrites
/// outer headers on the way makes every packet say something else, for no ICV covers them.
constexpr std::uint64_t kSecondsBetweenHints = 1;

/// An authenticated packet, newer than all before, came from elsewhere (RFC 3948 §6, RFC 4555): the
/// key daemon decides what follows. The next such packet after a second says it again.
void hint_moved(WorkerState& worker, const Burst& burst, const OpenedPacket& candidate) {
  if (worker.context.peer_moved == nullptr) return;
  InboundDetails& details = *candidate.sa->details;
  if (details.moved_hint_tsc != 0 &&
      burst.tsc - details.moved_hint_tsc < kSecondsBetweenHints * rte_get_tsc_hz()) {
    return;
  }
  const std::uint8_t* const ip = burst.ip[candidate.position];
  const wire::IpAddress source = source_of(ip);
  PeerMovedHint hint;
  hint.sa = details.sa_id;
  hint.is_v6 = !source.is_v4();
  std::copy_n(source.bytes.begin(), sizeof(hint.address), hint.address);
  if (candidate.sa->has_udp) {
    hint.port = wire::load_u16(ip + burst.header[candidate.position].payload_offset);
  }
  // Where the ring is full, the next packet says it.
  if (rte_ring_sp_enqueue_elem(worker.context.peer_moved, &hint, sizeof(hint)) != 0) return;
  details.moved_hint_tsc = burst.tsc;
}

/// Lifetimes count every authenticated packet, dummies and such as are refused afterwards too, for
/// each was under the key; a replay or forgery does not age the SA. False: this packet would be
/// beyond a hard limit (RFC 4301 §4.4.2.1).
bool count_traffic(InboundSa& sa, std::uint64_t bytes, std::uint64_t tsc) {
  // By a packet before, perhaps of this burst and too large where this one would still fit.
  if (sa.stopped.load(std::memory_order_relaxed)) [[unlikely]]
    return false;
  const std::uint64_t packets_now = sa.packets.load(std::memory_order_relaxed) + 1;
  const std::uint64_t bytes_left = sa.bytes_left.load(std::memory_order_relaxed);
  if (packets_now > sa.hard_packets || bytes > bytes_left) [[unlikely]] {
    stop_sa(sa, packets_now > sa.hard_packets ? StopCause::hard_packets : StopCause::hard_bytes);
    return false;
  }
  sa.packets.store(packets_now, std::memory_order_relaxed);
  sa.bytes_left.store(bytes_left - bytes, std::memory_order_relaxed);
  sa.last_tsc.store(tsc, std::memory_order_relaxed);
  return true;
}

/// What a packet counts against lifetimes, as when it was sealed: the packet inside with what hides
/// its size (RFC 4303 §2.7); in transport mode the IP header is outside.
std::uint64_t bytes_inside(const InboundSa& sa, wire::Bytes text, const wire::IpHeader& outer) {
  const std::size_t payload_bytes = wire::esp::payload_bytes(text);
  return sa.is_tunnel ? payload_bytes : outer.payload_offset + payload_bytes;
}

/// Pass 3 for one packet. nullopt: it is decapsulated and on the undecided list.
std::optional<DropReason> accept_one(WorkerState& worker, Burst& burst,
                                     const OpenedPacket& candidate, const std::uint8_t* icv) {
  InboundSa& sa = *candidate.sa;
  const std::uint32_t position = candidate.position;
  if (!icvs_agree(icv, candidate.received_icv, crypto::esp::form_of(sa.transform).icv_bytes))
      [[unlikely]]
    return DropReason::icv_mismatch;
  const bool is_newest = candidate.sequence > sa.highest;
  if (auto refused = refused_by_window(sa.replay_window().commit(candidate.sequence)))
      [[unlikely]] {
    if (*refused == DropReason::replay_left_of_window) count_left(sa, candidate.sequence);
    return refused;
  }
  if (!is_newest) [[unlikely]]
    count_late(sa, candidate.sequence);
  if (candidate.peer_moved && is_newest) [[unlikely]]
    hint_moved(worker, burst, candidate);
  const wire::MutableBytes text(candidate.text, candidate.text_bytes);
  if (!count_traffic(sa, bytes_inside(sa, text, burst.header[position]), burst.tsc)) [[unlikely]] {
    return DropReason::sa_expired;
  }
  const auto inner = sa.is_tunnel
                         ? decapsulate_tunnel(*sa.details, text, burst.ip[position])
                         : decapsulate_transport(text, burst.ip[position], burst.header[position]);
  if (!inner) [[unlikely]]
    return inner.error();
  if (sa.has_udp && !sa.is_tunnel) [[unlikely]] {
    renew_transport_checksum(wire::MutableBytes(inner->ip, inner->header.total_bytes),
                             inner->header);
  }
  if (const auto refused = refused_by_selectors(sa, *inner, burst.tsc)) [[unlikely]]
    return refused;
  burst.ip[position] = inner->ip;
  burst.header[position] = inner->header;
  burst.origin[position] = PacketOrigin::tunnel;
  burst.undecided.push(position);
  return std::nullopt;
}

}  // namespace

void open_inbound(WorkerState& worker, Burst& burst) {
  if (burst.encrypted.size() == 0) return;
  Candidates candidates;
  worker.enter(Stage::lookup);
  burst.encrypted.sort();  // a number is judged by those that came before it
  check_all(worker, burst, candidates);
  burst.encrypted.clear();
  worker.enter(Stage::crypto);
  for_each_suite(worker.scratch, std::span(worker.scratch.operations).first(candidates.count),
                 [&](const crypto::EspSuite& suite, std::span<const crypto::esp::Operation> run) {
                   worker.context.engine->open(suite, run);
                 });
  if (worker.resynchronizer.has_kept()) [[unlikely]]
    worker.resynchronizer.try_kept(worker, std::span(candidates.items).first(candidates.count));
  worker.enter(Stage::check);
  for (std::uint32_t k = 0; k < candidates.count; ++k) {
    accept_or_drop(worker, burst, candidates.items[k], worker.scratch.icvs[k].bytes.data());
  }
}

std::optional<WorthOpening> worth_opening(WorkerState& worker, Burst& burst, std::uint32_t position,
                                          InboundSa& sa, const EspAt& at) {
  const std::uint8_t* const ip = burst.ip[position];
  const auto drop = [&](DropReason reason) {
    drop_of_sa(worker, burst, position, sa, reason);
    return std::nullopt;
  };
  // RFC 7296 §2.23: who supports NAT traversal "MUST be able to receive and process both
  // UDP-encapsulated ESP and non-UDP-encapsulated ESP packets at any time".
  const std::optional<bool> moved = peer_has_moved(sa, ip, at);
  if (!moved) [[unlikely]] {
    if (!is_for_us(worker, ip)) {
      burst.undecided.push(position);
      return std::nullopt;
    }
    if (!takes_at_other_address(sa, ip)) return drop(DropReason::sa_endpoint_mismatch);
  }
  if (is_over(sa, burst.tsc)) [[unlikely]]
    return drop(DropReason::sa_expired);
  const crypto::esp::Form form = crypto::esp::form_of(sa.transform);
  const std::size_t around = wire::esp::kHeaderBytes + form.iv_bytes + form.icv_bytes;
  // RFC 4303 §2.4: payload, padding and trailer end on a four-byte boundary, or fill blocks.
  if (at.bytes < around + form.alignment || ((at.bytes - around) & (form.alignment - 1U)) != 0)
      [[unlikely]] {
    return drop(DropReason::esp_truncated);
  }
  const std::uint64_t sequence = sa.extend(wire::load_u32(at.esp + 4));
  if (const auto reason = refused_by_window(sa.replay_window().check(sequence))) [[unlikely]] {
    if (*reason == DropReason::replay_left_of_window) count_left(sa, sequence);
    return drop(*reason);
  }
  // At an address that is not in use, a NAT of the peer may have another mapping: it says nothing
  // of where ours should go.
  return WorthOpening{sequence, moved.value_or(false)};
}

void accept_or_drop(WorkerState& worker, Burst& burst, const OpenedPacket& packet,
                    const std::uint8_t* icv) {
  const auto reason = accept_one(worker, burst, packet, icv);
  if (!reason) return;
  if (*reason == DropReason::icv_mismatch) {
    count_if_left(*packet.sa, packet.sequence);
    worker.resynchronizer.count_failure(*packet.sa, burst.tsc);
  }
  drop_of_sa(worker, burst, packet.position, *packet.sa, *reason);
}

}  // namespace culvert::dataplane
