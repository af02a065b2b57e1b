// The short way of ESP packets for plain SAs (kPlainIvBytes), in the passes of open_inbound:
//   1. SPI, addresses, length; a number that the window does not refuse; nonce and AAD
//   2. decrypt and compute ICVs
//   3. ICV compare, trailer, inner header, selectors; window commit and lifetimes
//      (known_inner.cpp)
// The first goes over what came in one family, then over the other's. Packets of one SA mostly come
// one after another: what they share is looked at once. What a flood is made of ends here too
// (refusals.hpp). What a packet needs more (another reason to be dropped, a limit that is near) is
// left to the general stage, as it is or decrypted. A number is judged by those that came before it
// in its burst (RFC 4303 §3.4.3): what looks otherwise, and is for an SA of which others come this
// way, is decrypted in its turn among them, and only then the general stage's to accept.
#include "dataplane/worker/known_inbound.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <ranges>

#include <rte_mbuf.h>

#include "dataplane/worker/odd_inbound.hpp"
#include "dataplane/worker/train.hpp"
#include "wire/esp.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

/// Whether a packet has the addresses of an SA's peer and of ours. The SA is of its family.
bool has_addresses_of(const InboundSa& sa, std::uint64_t addresses) {
  return addresses == sa.outer_addresses.load(std::memory_order_relaxed);
}
bool has_addresses_of(const InboundSa& sa, const std::array<std::uint64_t, 4>& addresses) {
  const SaEndpoints& outer = sa.details->outer();
  return std::memcmp(addresses.data(), outer.remote.address.bytes.data(), 16) == 0 &&
         std::memcmp(addresses.data() + 2, outer.local.address.bytes.data(), 16) == 0;
}

/// For a plain SA of this worker's that is not over, from where its peer is.
template <typename Family>
bool is_for(const WorkerState& worker, const InboundSa& sa, const ArrivedEsp& arrived,
            std::uint64_t now) {
  // Acquire pairs with the release in `publish_inbound`; first, for it is what makes the SA's other
  // fields those of this SPI.
  return sa.spi.load(std::memory_order_acquire) == arrived.spi() &&
         arrived.bytes_in_front == sa.plain_in_front && goes_on(sa, now) &&
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

/// What the general stage wants to know.
void describe_arrived(Burst& burst, const ArrivedEsp& arrived) {
  describe_outer(burst, arrived.position, arrived.esp - arrived.bytes_in_front,
                 arrived.bytes_in_front);
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

/// Whether it is sound by itself: ESP of the train's SPI with other addresses.
template <typename Family>
bool is_sound_alone(const SoundAsFirst<Family>& sound, const rte_mbuf* packet,
                    const std::uint8_t* ip) {
  const std::uint32_t ip_bytes = Family::total_bytes(ip);
  return has_plain_length(ip_bytes - std::uint32_t{Family::kHeaderBytes}) &&
         ip_bytes + wire::ethernet::kHeaderBytes <= packet->data_len && sound.has_alone(ip);
}

/// A train ends before its follower `position`, behind which `behind` more begin alike: what
/// arrived as its first is that one now.
template <typename Family>
void begin_at(ArrivedEsp& first, std::uint8_t* ip, std::uint32_t position, std::uint32_t behind) {
  first = describe_follower<Family>(first, ip, position);
  first.followers = static_cast<std::uint16_t>(behind);
}

/// One that arrived and that no SA takes as most are: a flood's ends here.
template <typename Family>
void take_foreign(WorkerState& worker, Burst& burst, const ArrivedEsp& arrived, Taking& taking,
                  Openings& openings, Refusals& refusals) {
  const bool is_here = arrived.sa->spi.load(std::memory_order_relaxed) == arrived.spi();
  if (!is_here && refusals.take_unknown<Family>(arrived)) return;
  describe_arrived(burst, arrived);
  if (!is_here || !take_odd<Family>(worker, burst, arrived.position, taking, openings))
    burst.encrypted.push(arrived.position);
}

/// A frame that goes on with a train and is not as its first. `taking` is a copy in memory: the
/// caller's stays in registers.
template <typename Family>
[[gnu::noinline]] void take_unsound(WorkerState& worker, Burst& burst, std::uint32_t position,
                                    Taking& taking, Openings& openings) {
  const std::uint32_t left_before = burst.encrypted.size();
  classify_follower(worker, burst, position);
  if (burst.encrypted.size() != left_before &&
      take_odd<Family>(worker, burst, position, taking, openings)) {
    burst.encrypted.shrink(left_before);
  }
}

/// True: all of it was taken. False: `first` is one behind it that has other addresses.
template <typename Family>
[[gnu::noinline]] bool take_foreign_train(WorkerState& worker, Burst& burst, ArrivedEsp& first,
                                          Taking& taking, Openings& openings, Refusals& refusals) {
  const SoundAsFirst<Family> sound(first.ip());  // before it may be the main thread's
  take_foreign<Family>(worker, burst, first, taking, openings, refusals);
  std::uint32_t position = first.position;
  for (std::uint32_t left = first.followers; left != 0; --left) {
    rte_mbuf* const packet = burst.packets[++position];
    std::uint8_t* const ip = ip_of(packet);
    if (is_sound(sound, packet, ip)) [[likely]] {
      take_foreign<Family>(worker, burst, describe_follower<Family>(first, ip, position), taking,
                           openings, refusals);
    } else if (is_sound_alone(sound, packet, ip)) {
      begin_at<Family>(first, ip, position, left - 1);
      return false;
    } else {
      take_unsound<Family>(worker, burst, position, taking, openings);
    }
  }
  return true;
}

/// Its number is not above the highest. It goes on among the others: left for the general stage,
/// which is behind them, the window would be past it by what came after it (RFC 4303 §3.4.3).
template <typename Family, bool kHasEsn>
[[gnu::noinline]] void take_late(Taking& taking, CryptoScratch& scratch, const ArrivedEsp& arrived,
                                 std::uint64_t sequence, Refusals& refusals) {
  if (refusals.take_replay(arrived, *arrived.sa, sequence)) return;
  const std::uint64_t last_sequence = taking.last_sequence;
  take<kHasEsn>(taking, scratch, *arrived.sa, arrived.esp, arrived.bytes, arrived.position,
                notes_of<Family>(arrived.ip()), sequence);
  taking.last_sequence = last_sequence;
}

template <bool kHasEsn>
std::uint64_t sequence_of(const InboundSa& sa, const std::uint8_t* esp) {
  const std::uint32_t low = wire::load_u32(esp + 4);
  return kHasEsn ? sa.extend(low) : low;
}

/// The followers of one that was looked at. False: `first` is one of them now, before which it is
/// over, or that has other addresses. Not inlined: what is around it would take the registers that
/// it needs.
template <typename Family, bool kHasEsn>
[[gnu::noinline]] bool take_followers(WorkerState& worker, Burst& burst, ArrivedEsp& first,
                                      Taking& given, Openings& openings, Refusals& refusals) {
  InboundSa& sa = *first.sa;
  const SoundAsFirst<Family> sound(first.ip());
  const std::uint8_t notes = notes_of<Family>(first.ip());
  Taking taking = given;
  std::uint32_t position = first.position;
  std::uint32_t left = first.followers;
  do {
    rte_mbuf* const packet = burst.packets[++position];
    std::uint8_t* const ip = ip_of(packet);
    if (!is_sound(sound, packet, ip)) [[unlikely]] {
      given = taking;  // `taking` stays in registers
      if (is_sound_alone(sound, packet, ip)) {
        begin_at<Family>(first, ip, position, left - 1);
        return false;
      }
      take_unsound<Family>(worker, burst, position, given, openings);
      taking = given;
      continue;
    }
    std::uint8_t* const esp = ip + Family::kHeaderBytes;
    const std::uint64_t sequence = sequence_of<kHasEsn>(sa, esp);
    if (sequence <= taking.last_sequence) [[unlikely]] {
      if (sequence <= highest_late(sa)) {
        given = taking;
        take_late<Family, kHasEsn>(given, worker.scratch,
                                   describe_follower<Family>(first, ip, position), sequence,
                                   refusals);
        taking = given;
        continue;
      }
      if (openings.waits) {
        given = taking;
        begin_at<Family>(first, ip, position, left - 1);
        openings.is_over = true;
        return false;
      }
    }
    take<kHasEsn>(taking, worker.scratch, sa, esp,
                  Family::total_bytes(ip) - std::uint32_t{Family::kHeaderBytes}, position, notes,
                  sequence);
  } while (--left != 0);
  given = taking;
  return true;
}

/// The packets of the run that begins with `next`, to `end`. The one behind them, or where it is
/// over.
template <typename Family, bool kHasEsn>
ArrivedEsp* take_run(WorkerState& worker, Burst& burst, ArrivedEsp* next, const ArrivedEsp* end,
                     Taking& taking, Openings& openings, Refusals& refusals) {
  const RunOfArrived<Family> run(*next);
  InboundSa& sa = run.sa;
  const std::uint64_t highest = highest_late(sa);
  taking.last_sequence = highest;
  openings.meet(sa);
  do {
    ArrivedEsp& arrived = *next;
    const std::uint64_t sequence = sequence_of<kHasEsn>(sa, arrived.esp);
    if (!has_plain_length(arrived.bytes)) [[unlikely]] {
      describe_arrived(burst, arrived);
      if (!take_odd<Family>(worker, burst, arrived.position, taking, openings))
        burst.encrypted.push(arrived.position);
    } else if (sequence <= highest) {
      take_late<Family, kHasEsn>(taking, worker.scratch, arrived, sequence, refusals);
    } else if (sequence <= taking.last_sequence && openings.waits) {
      openings.is_over = true;
      return next;
    } else {
      take<kHasEsn>(taking, worker.scratch, sa, arrived.esp, arrived.bytes, arrived.position,
                    notes_of<Family>(run.ip_of(arrived)), sequence);
    }
    if (arrived.followers != 0 &&
        !take_followers<Family, kHasEsn>(worker, burst, arrived, taking, openings, refusals)) {
      return next;
    }
    ++next;
  } while (next != end && run.has(*next));
  return next;
}

/// Pass 1, from the packet `next` to `end`. Where it ended: where it is over, or at the end.
template <typename Family>
[[gnu::noinline]] ArrivedEsp* take_arrived(WorkerState& worker, Burst& burst, ArrivedEsp* next,
                                           const ArrivedEsp* end, Taking& taking,
                                           Openings& openings, Refusals& refusals) {
  while (next != end && !openings.is_over) {
    const InboundSa& sa = *next->sa;
    if (!is_for<Family>(worker, sa, *next, burst.tsc)) [[unlikely]] {
      if (take_foreign_train<Family>(worker, burst, *next, taking, openings, refusals)) ++next;
      continue;
    }
    next = sa.has_esn
               ? take_run<Family, true>(worker, burst, next, end, taking, openings, refusals)
               : take_run<Family, false>(worker, burst, next, end, taking, openings, refusals);
  }
  return next;
}

/// The same with those among them that classify gave to the general stage.
template <typename Family>
ArrivedEsp* take_all(WorkerState& worker, Burst& burst, ArrivedEsp* next, OddOnes& odd,
                     Openings& openings, Refusals& refusals) {
  CryptoScratch& scratch = worker.scratch;
  Taking taking{scratch.opening_sides.data(), scratch.openings.data()};
  openings.transforms = 0;
  openings.is_over = false;
  const ArrivedEsp* const end = worker.arrivals<Family>().end;
  while (odd.is_any()) [[unlikely]] {
    const ArrivedEsp* const stop =
        std::find_if(next, worker.arrivals<Family>().end,
                     [&](const ArrivedEsp& arrived) { return arrived.position > odd.next(); });
    next = take_arrived<Family>(worker, burst, next, stop, taking, openings, refusals);
    if (next != stop) break;
    odd.take_before<Family>(worker, burst, stop == end ? kBurstPackets : stop->position, taking,
                            openings);
  }
  if (!odd.is_any())
    next = take_arrived<Family>(worker, burst, next, end, taking, openings, refusals);
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
  if (std::has_single_bit(openings.transforms)) [[likely]] {
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
  OddOnes odd;
  if (burst.encrypted.size() != 0) [[unlikely]]
    odd.find<Family>(worker, burst);
  while (next != arrived.end) {
    worker.enter(Stage::lookup);
    next = take_all<Family>(worker, burst, next, odd, openings, refusals);
    if (openings.count == 0) break;  // it waits for none: all are taken
    worker.enter(Stage::crypto);
    open(worker, openings);
    worker.enter(Stage::check);
    openings.has_late = false;
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
