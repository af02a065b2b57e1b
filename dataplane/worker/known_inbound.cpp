// The short way of ESP packets for plain SAs (kPlainIvBytes), in the passes of open_inbound:
//   1. SPI, addresses, length; a number that the window does not refuse; nonce and AAD
//   2. decrypt and compute ICVs
//   3. ICV compare, trailer, inner header, selectors; window commit and lifetimes
//      (known_inner.cpp)
// The first goes over what came in one family, then over the other's. Packets of one SA mostly come
// one after another: what they share is looked at once. What a flood is made of ends here too
// (refusals.hpp). What a packet needs more (another reason to be dropped, a number that came late,
// a limit that is near) is left to the general stage, as it is or decrypted. With one that is left
// as it is goes what is behind it in the burst of its SA: a number is judged by those before it.
#include "dataplane/worker/known_inbound.hpp"

#include <algorithm>
#include <cstring>
#include <ranges>

#include <rte_mbuf.h>

#include "dataplane/worker/crypto_burst.hpp"
#include "dataplane/worker/train.hpp"
#include "wire/esp.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

using Opening = CryptoScratch::Opening;

/// Whether a packet has the addresses of an SA's peer and of ours. The SA is of its family.
bool has_addresses_of(const InboundSa& sa, std::uint64_t addresses) {
  return addresses == sa.outer_addresses.load(std::memory_order_relaxed);
}
bool has_addresses_of(const InboundSa& sa, const std::array<std::uint64_t, 4>& addresses) {
  const SaEndpoints& outer = sa.details->outer();
  return std::memcmp(addresses.data(), outer.remote.address.bytes.data(), 16) == 0 &&
         std::memcmp(addresses.data() + 2, outer.local.address.bytes.data(), 16) == 0;
}

bool is_mine(const WorkerState& worker, const InboundSa& sa) {
  return worker.tables.workers == 1 ||
         worker.tables.sad->slot_of(sa) % worker.tables.workers == raw(worker.context.id);
}

/// For a plain SA of this worker's that is not over, from where its peer is.
template <typename Family>
bool is_for(const WorkerState& worker, const InboundSa& sa, const ArrivedEsp& arrived,
            std::uint64_t now) {
  // Acquire pairs with the release in `publish_inbound`; first, for it is what makes the SA's other
  // fields those of this SPI.
  return sa.spi.load(std::memory_order_acquire) == arrived.spi() &&
         arrived.bytes_in_front == sa.plain_in_front &&
         !sa.stopped.load(std::memory_order_relaxed) &&
         !sa.resync_due.load(std::memory_order_relaxed) && !has_ended(sa, now) &&
         has_addresses_of(sa, Family::addresses(arrived.ip())) &&
         (!sa.has_udp || arrived.ports() == sa.outer_ports.load(std::memory_order_relaxed)) &&
         is_mine(worker, sa);
}

/// What tells that a packet is for the SA of the one before, which was looked at.
template <typename Family>
struct RunOfArrived {
  explicit RunOfArrived(const ArrivedEsp& first)
      : sa(*first.sa),
        to_ip(-static_cast<std::ptrdiff_t>(first.bytes_in_front)),
        addresses(Family::addresses(first.ip())),
        spi_raw(first.spi_raw()),
        bytes_in_front(first.bytes_in_front),
        has_udp(sa.has_udp),
        has_esn(sa.has_esn) {}
  [[nodiscard]] bool has(const ArrivedEsp& arrived) const {
    return arrived.spi_raw() == spi_raw && arrived.bytes_in_front == bytes_in_front &&
           Family::addresses(ip_of(arrived)) == addresses &&
           (!has_udp || arrived.ports() == sa.outer_ports.load(std::memory_order_relaxed));
  }
  /// Of one of them.
  [[nodiscard]] const std::uint8_t* ip_of(const ArrivedEsp& arrived) const {
    return arrived.esp + to_ip;
  }

  InboundSa& sa;
  std::ptrdiff_t to_ip;
  decltype(Family::addresses(nullptr)) addresses;
  std::uint32_t spi_raw;
  std::uint16_t bytes_in_front;
  bool has_udp, has_esn;
};

/// Whether ESP of a plain SA has a length to be judged by the window: what is too short or does not
/// end as RFC 4303 §2.4 has it is dropped before.
bool may_meet_window(std::size_t esp_bytes) {
  return esp_bytes >= kAroundPlain + wire::esp::kAlignment &&
         (esp_bytes - kAroundPlain) % wire::esp::kAlignment == 0;
}

/// The general stage has a packet with the SPI, whose place is that of `sa`.
void note_left(const WorkerState& worker, Burst& burst, const InboundSa& sa, std::uint32_t spi) {
  // Of another SA none goes the short way. Acquire as in `is_for`.
  const bool is_plain = sa.spi.load(std::memory_order_acquire) == spi && sa.plain_in_front != 0;
  if (is_plain && is_mine(worker, sa)) burst.left.add(sa);
}

/// So does classify give it some that look otherwise: with options, with a tag.
[[gnu::noinline]] void note_left_by_classify(const WorkerState& worker, Burst& burst) {
  for (const std::uint32_t position : burst.encrypted) {
    const EspAt at = esp_of(burst.ip[position], burst.header[position]);
    if (!may_meet_window(at.bytes)) continue;
    const std::uint32_t spi = wire::load_u32(at.esp);
    note_left(worker, burst, *worker.tables.sad->place_of(spi), spi);
  }
}

/// For the general stage.
void leave(Burst& burst, const ArrivedEsp& arrived) {
  describe_outer(burst, arrived.position, arrived.esp - arrived.bytes_in_front,
                 arrived.bytes_in_front);
  burst.encrypted.push(arrived.position);
}

/// A follower as one that arrived by itself.
template <typename Family>
ArrivedEsp describe_follower(const ArrivedEsp& first, std::uint8_t* ip, std::uint32_t position) {
  return {.esp = ip + Family::kHeaderBytes,
          .sa = first.sa,
          .bytes = static_cast<std::uint16_t>(Family::total_bytes(ip) - Family::kHeaderBytes),
          .bytes_in_front = Family::kHeaderBytes,
          .position = static_cast<std::uint16_t>(position),
          .followers = 0};
}

/// Where a frame's IP header is.
std::uint8_t* ip_of(const rte_mbuf* packet) {
  return rte_pktmbuf_mtod_offset(packet, std::uint8_t*, wire::ethernet::kHeaderBytes);
}

/// Whether a frame that goes on with a train is as sound as its first, and of a plain SA's length.
template <typename Family>
bool is_sound(const SoundAsFirst<Family>& sound, const rte_mbuf* packet, const std::uint8_t* ip) {
  const std::uint32_t ip_bytes = Family::total_bytes(ip);
  return has_plain_length(ip_bytes - std::uint32_t{Family::kHeaderBytes}) &&
         ip_bytes + wire::ethernet::kHeaderBytes <= packet->data_len && sound.has(ip);
}

/// Of no SA that this way is for: a flood's ends here.
template <typename Family>
void leave_foreign(Burst& burst, const ArrivedEsp& arrived, Refusals& refusals) {
  const bool is_here = arrived.sa->spi.load(std::memory_order_relaxed) == arrived.spi();
  if (is_here || !refusals.take_unknown<Family>(arrived)) leave(burst, arrived);
}
/// The followers of a train from `position` on.
template <typename Family>
void leave_followers(WorkerState& worker, Burst& burst, const ArrivedEsp& first,
                     const SoundAsFirst<Family>& sound, std::uint32_t position,
                     Refusals& refusals) {
  const std::uint32_t last = first.position + std::uint32_t{first.followers};
  for (; position <= last; ++position) {
    std::uint8_t* const ip = ip_of(burst.packets[position]);
    if (is_sound(sound, burst.packets[position], ip)) [[likely]] {
      leave_foreign<Family>(burst, describe_follower<Family>(first, ip, position), refusals);
    } else {
      classify_follower(worker, burst, position);
    }
  }
}
template <typename Family>
[[gnu::noinline]] void leave_train(WorkerState& worker, Burst& burst, const ArrivedEsp& first,
                                   Refusals& refusals) {
  const SoundAsFirst<Family> sound(first.ip());  // before it may be the main thread's
  if (may_meet_window(first.bytes)) note_left(worker, burst, *first.sa, first.spi());
  leave_foreign<Family>(burst, first, refusals);
  leave_followers(worker, burst, first, sound, first.position + 1U, refusals);
}

/// A follower that is not as its first. Whether the general stage has it, and with it those behind.
/// What is asked of them is made anew: the caller's stays in registers.
template <typename Family>
[[gnu::noinline]] bool leave_from(WorkerState& worker, Burst& burst, const ArrivedEsp& first,
                                  std::uint32_t position, Refusals& refusals) {
  const std::uint32_t left_before = burst.encrypted.size();
  classify_follower(worker, burst, position);
  if (burst.encrypted.size() == left_before) return false;
  if (!may_meet_window(esp_of(burst.ip[position], burst.header[position]).bytes)) return false;
  burst.left.add(*first.sa);
  const SoundAsFirst<Family> sound(first.ip());
  leave_followers(worker, burst, first, sound, position + 1, refusals);
  return true;
}

/// What pass 1 takes, one after another.
struct Taking {
  Opening* side;
  crypto::esp::Operation* operation;
  std::uint64_t last_sequence = 0;  ///< of the run
  /// It ended before a number that may be above the highest only because the packet that has it
  /// already is not verified yet.
  bool is_over = false;
};

/// The nonce is salt and IV (RFC 4106 §4), the AAD SPI and number as they stand in the packet, or
/// with all 64 bits of the number (§5).
template <bool kHasEsn>
void take(Taking& taking, CryptoScratch& scratch, InboundSa& sa, std::uint8_t* esp,
          std::uint32_t esp_bytes, std::uint32_t position, std::uint8_t traffic_class,
          std::uint64_t sequence) {
  taking.last_sequence = sequence;
  Opening& side = *taking.side++;
  wire::store_raw(side.nonce.data(), sa.salt);
  wire::store_raw(side.nonce.data() + 4,
                  wire::load_raw<std::uint64_t>(esp + wire::esp::kHeaderBytes));
  side.position = static_cast<std::uint16_t>(position);
  side.traffic_class = traffic_class;
  side.sa = &sa;
  side.sequence = sequence;
  crypto::esp::Operation& operation = *taking.operation++;
  operation.key = sa.key;
  operation.text = esp + wire::esp::kHeaderBytes + kPlainIvBytes;
  operation.text_bytes = esp_bytes - kAroundPlain;
  operation.aad = esp;
  operation.aad_bytes = wire::esp::kHeaderBytes;
  if constexpr (kHasEsn) {
    CryptoScratch::Block& aad = scratch.aads[&side - scratch.opening_sides.data()];
    operation.aad = aad.bytes.data();
    operation.aad_bytes = write_aad(aad, wire::load_raw<std::uint32_t>(esp), sequence, true);
  }
}

/// Its number is not above the highest. It goes on among the others: left for the general stage,
/// which is behind them, the window would be past it by what came after it (RFC 4303 §3.4.3).
template <typename Family, bool kHasEsn>
[[gnu::noinline]] void take_late(Taking& taking, CryptoScratch& scratch, const ArrivedEsp& arrived,
                                 std::uint64_t sequence, Refusals& refusals) {
  if (refusals.take_replay(arrived, *arrived.sa, sequence)) return;
  const std::uint64_t last_sequence = taking.last_sequence;
  take<kHasEsn>(taking, scratch, *arrived.sa, arrived.esp, arrived.bytes, arrived.position,
                Family::traffic_class(arrived.ip()), sequence);
  taking.last_sequence = last_sequence;
}

template <bool kHasEsn>
std::uint64_t sequence_of(const InboundSa& sa, const std::uint8_t* esp) {
  const std::uint32_t low = wire::load_u32(esp + 4);
  return kHasEsn ? sa.extend(low) : low;
}

/// The followers of one that was looked at; where it is over, `first` is that packet. Not inlined:
/// what is around it would take the registers that it needs.
template <typename Family, bool kHasEsn>
[[gnu::noinline]] void take_followers(WorkerState& worker, Burst& burst, ArrivedEsp& first,
                                      Taking& given, Refusals& refusals, bool waits) {
  InboundSa& sa = *first.sa;
  const SoundAsFirst<Family> sound(first.ip());
  const std::uint8_t traffic_class = Family::traffic_class(first.ip());
  Taking taking = given;
  std::uint32_t position = first.position;
  std::uint32_t left = first.followers;
  do {
    rte_mbuf* const packet = burst.packets[++position];
    std::uint8_t* const ip = ip_of(packet);
    if (!is_sound(sound, packet, ip)) [[unlikely]] {
      if (leave_from<Family>(worker, burst, first, position, refusals)) break;
      continue;
    }
    std::uint8_t* const esp = ip + Family::kHeaderBytes;
    const std::uint64_t sequence = sequence_of<kHasEsn>(sa, esp);
    if (sequence <= taking.last_sequence) [[unlikely]] {
      const ArrivedEsp arrived = describe_follower<Family>(first, ip, position);
      if (sequence <= sa.highest) {
        given = taking;  // `taking` stays in registers
        take_late<Family, kHasEsn>(given, worker.scratch, arrived, sequence, refusals);
        taking = given;
        continue;
      }
      if (waits) {
        first = arrived;
        first.followers = static_cast<std::uint16_t>(left - 1);
        taking.is_over = true;
        break;
      }
    }
    take<kHasEsn>(taking, worker.scratch, sa, esp,
                  Family::total_bytes(ip) - std::uint32_t{Family::kHeaderBytes}, position,
                  traffic_class, sequence);
  } while (--left != 0);
  given = taking;
}

/// The packets of the run that begins with `next`. The one behind them, or where it is over, or
/// from where on the SA's are left.
template <typename Family, bool kHasEsn>
ArrivedEsp* take_run(WorkerState& worker, Burst& burst, ArrivedEsp* next, Taking& taking,
                     Refusals& refusals, bool waits) {
  const RunOfArrived<Family> run(*next);
  const ArrivedEsp* const end = worker.arrivals<Family>().end;
  InboundSa& sa = run.sa;
  taking.last_sequence = sa.highest;
  do {
    ArrivedEsp& arrived = *next;
    const std::uint64_t sequence = sequence_of<kHasEsn>(sa, arrived.esp);
    if (!has_plain_length(arrived.bytes)) [[unlikely]] {
      if (may_meet_window(arrived.bytes)) {
        burst.left.add(sa);
        return next;
      }
      leave(burst, arrived);
    } else if (sequence <= sa.highest) {
      take_late<Family, kHasEsn>(taking, worker.scratch, arrived, sequence, refusals);
    } else if (sequence <= taking.last_sequence && waits) {
      taking.is_over = true;
      return next;
    } else {
      take<kHasEsn>(taking, worker.scratch, sa, arrived.esp, arrived.bytes, arrived.position,
                    Family::traffic_class(run.ip_of(arrived)), sequence);
    }
    if (arrived.followers != 0) {
      take_followers<Family, kHasEsn>(worker, burst, arrived, taking, refusals, waits);
      if (taking.is_over) [[unlikely]]
        return next;
      if (burst.left.has(sa)) [[unlikely]]
        return next + 1;
    }
    ++next;
  } while (next != end && run.has(*next));
  return next;
}

/// Pass 1, from the packet `next` on. Where it ended: where it is over, or behind the last packet.
template <typename Family>
[[gnu::noinline]] ArrivedEsp* take_arrived(WorkerState& worker, Burst& burst, ArrivedEsp* next,
                                           Openings& openings, Refusals& refusals) {
  CryptoScratch& scratch = worker.scratch;
  Taking taking{scratch.opening_sides.data(), scratch.openings.data()};
  openings.has_one_transform = true;
  const InboundSa* const first = next->sa;
  const ArrivedEsp* const end = worker.arrivals<Family>().end;
  while (next != end && !taking.is_over) {
    const InboundSa& sa = *next->sa;
    if (burst.left.has(sa) || !is_for<Family>(worker, sa, *next, burst.tsc)) [[unlikely]] {
      leave_train<Family>(worker, burst, *next++, refusals);
      continue;
    }
    openings.has_one_transform &= sa.transform == first->transform;
    next = sa.has_esn
               ? take_run<Family, true>(worker, burst, next, taking, refusals, openings.waits)
               : take_run<Family, false>(worker, burst, next, taking, refusals, openings.waits);
  }
  openings.count = static_cast<std::uint32_t>(taking.side - scratch.opening_sides.data());
  return next;
}

/// Pass 2. Inlined by either family's passes.
[[gnu::always_inline]] inline void open(WorkerState& worker, const Openings& openings) {
  CryptoScratch& scratch = worker.scratch;
  const auto process = [&](const crypto::EspSuite& suite,
                           std::span<const crypto::esp::Operation> run) {
    worker.context.engine->open(suite, run);
  };
  const auto operations = std::span(scratch.openings).first(openings.count);
  if (openings.has_one_transform) [[likely]] {
    const crypto::esp::TransformId only = scratch.opening_sides[0].sa->transform;
    return process(crypto::esp::transform(only).suite, operations);
  }
  for (std::uint32_t k = 0; k < openings.count; ++k) {
    scratch.transforms[k] = scratch.opening_sides[k].sa->transform;
  }
  for_each_suite(scratch, operations, process);
}

/// What the general stages know of an outer header.
template <typename Family>
wire::IpHeader outer_header(const std::uint8_t* ip, std::size_t bytes_in_front) {
  wire::IpHeader header;
  header.total_bytes = static_cast<std::uint16_t>(Family::total_bytes(ip));
  header.payload_offset = Family::kHeaderBytes;
  header.protocol_offset = Family::kProtocol;
  header.protocol =
      bytes_in_front == Family::kHeaderBytes ? wire::protocol::kEsp : wire::protocol::kUdp;
  return header;
}

template <typename Family>
void open_arrived(WorkerState& worker, Burst& burst) {
  Arrivals& arrived = worker.arrivals<Family>();
  ArrivedEsp* next = arrived.packets.data();
  if (next == arrived.end) return;
  Openings openings;
  Refusals refusals(worker, burst);
  while (next != arrived.end) {
    worker.enter(Stage::lookup);
    next = take_arrived<Family>(worker, burst, next, openings, refusals);
    if (openings.count == 0) break;  // it waits for none: all are taken
    worker.enter(Stage::crypto);
    open(worker, openings);
    worker.enter(Stage::check);
    std::uint32_t accepted = accept_from<Ipv4>(0, worker, burst, openings, refusals);
    while (accepted != openings.count) {
      accepted = accept_from<Ipv6>(accepted, worker, burst, openings, refusals);
      if (accepted != openings.count)
        accepted = accept_from<Ipv4>(accepted, worker, burst, openings, refusals);
    }
    // In vain, as with numbers that came late and those of forgeries: not again in this burst.
    if (next != arrived.end) openings.waits = is_replay(*next);
  }
  arrived.end = arrived.packets.data();
}

/// As they came: a flow may come by SAs of both families.
[[gnu::noinline]] void offer_in_order(WorkerState& worker) {
  const auto sort = [](auto& offered) {
    std::ranges::sort(std::ranges::subrange(offered.packets.data(), offered.end), {},
                      [](const auto& candidate) { return candidate.position; });
  };
  sort(worker.known);
  sort(worker.known_v6);
}

}  // namespace

void open_plain(WorkerState& worker, Burst& burst) {
  const bool has_v4 = worker.arrived.end != worker.arrived.packets.data();
  const bool has_v6 = worker.arrived_v6.end != worker.arrived_v6.packets.data();
  if (burst.encrypted.size() != 0 && (has_v4 || has_v6)) [[unlikely]]
    note_left_by_classify(worker, burst);
  open_arrived<Ipv4>(worker, burst);
  open_arrived<Ipv6>(worker, burst);
  if (has_v4 && has_v6) [[unlikely]]
    offer_in_order(worker);
}

void describe_outer(Burst& burst, std::uint32_t position, std::uint8_t* ip,
                    std::size_t bytes_in_front) {
  burst.ip[position] = ip;
  burst.header[position] = wire::is_v4(ip) ? outer_header<Ipv4>(ip, bytes_in_front)
                                           : outer_header<Ipv6>(ip, bytes_in_front);
  burst.origin[position] = PacketOrigin::clear;
}

}  // namespace culvert::dataplane
