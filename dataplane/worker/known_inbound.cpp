// The short way of ESP packets for plain SAs (kPlainIvBytes), in the passes of open_inbound:
//   1. SPI, addresses, length; a number that the window does not refuse; nonce and AAD
//   2. decrypt and compute ICVs
//   3. ICV compare, trailer, inner header, selectors; window commit and lifetimes
// Packets of one SA mostly come one after another: what they share is looked at once. What a flood
// is made of ends here too (refusals.hpp). What a packet needs more (another reason to be dropped,
// a number that came late, a limit that is near, IPv6 inside) is left to the general stage, as it
// is or decrypted.
#include <rte_mbuf.h>

#include "dataplane/worker/crypto_burst.hpp"
#include "dataplane/worker/header_fields.hpp"
#include "dataplane/worker/inbound.hpp"
#include "dataplane/worker/refusals.hpp"
#include "dataplane/worker/train.hpp"
#include "wire/esp.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

using Opening = CryptoScratch::Opening;

/// Packets worth decrypting: so many of CryptoScratch::openings.
struct Openings {
  std::uint32_t count = 0;
  bool has_one_transform = true;
  bool waits = true;  ///< before a number that stands here already: it may be a replay
};

/// What the general stages know of a packet that classify gave to the short way.
void describe(Burst& burst, std::uint32_t position, std::uint8_t* ip, bool is_in_udp) {
  wire::IpHeader header;
  header.total_bytes = wire::load_u16(ip + wire::ipv4::kTotalLength);
  header.payload_offset = wire::ipv4::kHeaderBytes;
  header.protocol_offset = wire::ipv4::kProtocol;
  header.protocol = is_in_udp ? wire::protocol::kUdp : wire::protocol::kEsp;
  burst.ip[position] = ip;
  burst.header[position] = header;
  burst.origin[position] = PacketOrigin::clear;
}

/// For a plain SA of this worker's that is not over, from where its peer is.
bool is_for(const WorkerState& worker, const InboundSa& sa, const ArrivedEsp& arrived,
            std::uint64_t now) {
  // Acquire pairs with the release in `publish_inbound`; first, for it is what makes the SA's other
  // fields those of this SPI.
  return sa.spi.load(std::memory_order_acquire) == arrived.spi() &&
         arrived.bytes_in_front == sa.plain_in_front &&
         !sa.stopped.load(std::memory_order_relaxed) &&
         !sa.resync_due.load(std::memory_order_relaxed) && !has_ended(sa, now) &&
         arrived.addresses() == sa.outer_addresses.load(std::memory_order_relaxed) &&
         (!sa.has_udp || arrived.ports() == sa.outer_ports.load(std::memory_order_relaxed)) &&
         (worker.tables.workers == 1 ||
          worker.tables.sad->slot_of(sa) % worker.tables.workers == raw(worker.context.id));
}

/// What tells that a packet is for the SA of the one before, which was looked at.
struct RunOfArrived {
  explicit RunOfArrived(const ArrivedEsp& first)
      : sa(*first.sa),
        to_ip(-static_cast<std::ptrdiff_t>(first.bytes_in_front)),
        addresses(first.addresses()),
        spi_raw(first.spi_raw()),
        bytes_in_front(first.bytes_in_front),
        has_udp(sa.has_udp),
        has_esn(sa.has_esn) {}
  [[nodiscard]] bool has(const ArrivedEsp& arrived) const {
    return arrived.spi_raw() == spi_raw && arrived.bytes_in_front == bytes_in_front &&
           wire::load_raw<std::uint64_t>(ip_of(arrived) + wire::ipv4::kSource) == addresses &&
           (!has_udp || arrived.ports() == sa.outer_ports.load(std::memory_order_relaxed));
  }
  /// Of one of them.
  [[nodiscard]] const std::uint8_t* ip_of(const ArrivedEsp& arrived) const {
    return arrived.esp + to_ip;
  }

  InboundSa& sa;
  std::ptrdiff_t to_ip;
  std::uint64_t addresses;
  std::uint32_t spi_raw;
  std::uint16_t bytes_in_front;
  bool has_udp, has_esn;
};

/// For the general stage.
void leave(Burst& burst, const ArrivedEsp& arrived) {
  const bool is_in_udp = arrived.bytes_in_front != wire::ipv4::kHeaderBytes;
  describe(burst, arrived.position, arrived.esp - arrived.bytes_in_front, is_in_udp);
  burst.encrypted.push(arrived.position);
}

/// A follower as one that arrived by itself.
ArrivedEsp describe_follower(const ArrivedEsp& first, std::uint8_t* ip, std::uint32_t position) {
  return {.esp = ip + wire::ipv4::kHeaderBytes,
          .sa = first.sa,
          .bytes = static_cast<std::uint16_t>(wire::load_u16(ip + wire::ipv4::kTotalLength) -
                                              wire::ipv4::kHeaderBytes),
          .bytes_in_front = wire::ipv4::kHeaderBytes,
          .position = static_cast<std::uint16_t>(position),
          .followers = 0};
}

/// Where a frame's IP header is.
std::uint8_t* ip_of(const rte_mbuf* packet) {
  return rte_pktmbuf_mtod_offset(packet, std::uint8_t*, wire::ethernet::kHeaderBytes);
}

/// Whether a frame that goes on with a train is as sound as its first, and of a plain SA's length.
bool is_sound(const SoundAsFirst& sound, const rte_mbuf* packet, const std::uint8_t* ip) {
  const std::uint32_t ip_bytes = wire::load_u16(ip + wire::ipv4::kTotalLength);
  return has_plain_length(ip_bytes - std::uint32_t{wire::ipv4::kHeaderBytes}) &&
         ip_bytes + wire::ethernet::kHeaderBytes <= packet->data_len && sound.has(ip);
}

/// Of no SA that this way is for: a flood's ends here.
void leave_foreign(Burst& burst, const ArrivedEsp& arrived, Refusals& refusals) {
  const bool is_here = arrived.sa->spi.load(std::memory_order_relaxed) == arrived.spi();
  if (is_here || !refusals.take_unknown(arrived)) leave(burst, arrived);
}
[[gnu::noinline]] void leave_foreign_train(WorkerState& worker, Burst& burst,
                                           const ArrivedEsp& first, Refusals& refusals) {
  const SoundAsFirst sound(first.ip());
  leave_foreign(burst, first, refusals);
  const std::uint32_t last = first.position + std::uint32_t{first.followers};
  for (std::uint32_t position = first.position + 1U; position <= last; ++position) {
    std::uint8_t* const ip = ip_of(burst.packets[position]);
    if (is_sound(sound, burst.packets[position], ip)) [[likely]] {
      leave_foreign(burst, describe_follower(first, ip, position), refusals);
    } else {
      classify_follower(worker, burst, position);
    }
  }
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
template <bool kHasEsn>
[[gnu::noinline]] void take_late(Taking& taking, CryptoScratch& scratch, const ArrivedEsp& arrived,
                                 std::uint64_t sequence, Refusals& refusals) {
  if (refusals.take_replay(arrived, *arrived.sa, sequence)) return;
  const std::uint64_t last_sequence = taking.last_sequence;
  take<kHasEsn>(taking, scratch, *arrived.sa, arrived.esp, arrived.bytes, arrived.position,
                arrived.ip()[1], sequence);
  taking.last_sequence = last_sequence;
}

template <bool kHasEsn>
std::uint64_t sequence_of(const InboundSa& sa, const std::uint8_t* esp) {
  const std::uint32_t low = wire::load_u32(esp + 4);
  return kHasEsn ? sa.extend(low) : low;
}

/// The followers of one that was looked at; where it is over, `first` is that packet. Not inlined:
/// what is around it would take the registers that it needs.
template <bool kHasEsn>
[[gnu::noinline]] void take_followers(WorkerState& worker, Burst& burst, ArrivedEsp& first,
                                      Taking& given, Refusals& refusals, bool waits) {
  InboundSa& sa = *first.sa;
  const SoundAsFirst sound(first.ip());
  const std::uint8_t traffic_class = first.ip()[1];
  Taking taking = given;
  std::uint32_t position = first.position;
  std::uint32_t left = first.followers;
  do {
    rte_mbuf* const packet = burst.packets[++position];
    std::uint8_t* const ip = ip_of(packet);
    if (!is_sound(sound, packet, ip)) [[unlikely]] {
      classify_follower(worker, burst, position);
      continue;
    }
    std::uint8_t* const esp = ip + wire::ipv4::kHeaderBytes;
    const std::uint64_t sequence = sequence_of<kHasEsn>(sa, esp);
    if (sequence <= taking.last_sequence) [[unlikely]] {
      const ArrivedEsp arrived = describe_follower(first, ip, position);
      if (sequence <= sa.highest) {
        given = taking;  // `taking` stays in registers
        take_late<kHasEsn>(given, worker.scratch, arrived, sequence, refusals);
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
    const std::uint32_t ip_bytes = wire::load_u16(ip + wire::ipv4::kTotalLength);
    take<kHasEsn>(taking, worker.scratch, sa, esp,
                  ip_bytes - std::uint32_t{wire::ipv4::kHeaderBytes}, position, traffic_class,
                  sequence);
  } while (--left != 0);
  given = taking;
}

/// The packets of the run that begins with `next`. The one behind them, or where it is over.
template <bool kHasEsn>
ArrivedEsp* take_run(WorkerState& worker, Burst& burst, ArrivedEsp* next, Taking& taking,
                     Refusals& refusals, bool waits) {
  const RunOfArrived run(*next);
  InboundSa& sa = run.sa;
  taking.last_sequence = sa.highest;
  do {
    ArrivedEsp& arrived = *next;
    const std::uint64_t sequence = sequence_of<kHasEsn>(sa, arrived.esp);
    if (!has_plain_length(arrived.bytes)) [[unlikely]] {
      leave(burst, arrived);
    } else if (sequence <= sa.highest) {
      take_late<kHasEsn>(taking, worker.scratch, arrived, sequence, refusals);
    } else if (sequence <= taking.last_sequence && waits) {
      taking.is_over = true;
      return next;
    } else {
      take<kHasEsn>(taking, worker.scratch, sa, arrived.esp, arrived.bytes, arrived.position,
                    run.ip_of(arrived)[1], sequence);
    }
    if (arrived.followers != 0) {
      take_followers<kHasEsn>(worker, burst, arrived, taking, refusals, waits);
      if (taking.is_over) [[unlikely]]
        return next;
    }
  } while (++next != worker.arrived_end && run.has(*next));
  return next;
}

/// Pass 1, from the packet `next` on. Where it ended: where it is over, or behind the last packet.
[[gnu::noinline]] ArrivedEsp* take_arrived(WorkerState& worker, Burst& burst, ArrivedEsp* next,
                                           Openings& openings, Refusals& refusals) {
  CryptoScratch& scratch = worker.scratch;
  Taking taking{scratch.opening_sides.data(), scratch.openings.data()};
  openings.has_one_transform = true;
  const InboundSa* const first = next->sa;
  while (next != worker.arrived_end && !taking.is_over) {
    const InboundSa& sa = *next->sa;
    if (!is_for(worker, sa, *next, burst.tsc)) [[unlikely]] {
      leave_foreign_train(worker, burst, *next++, refusals);
      continue;
    }
    openings.has_one_transform &= sa.transform == first->transform;
    next = sa.has_esn ? take_run<true>(worker, burst, next, taking, refusals, openings.waits)
                      : take_run<false>(worker, burst, next, taking, refusals, openings.waits);
  }
  openings.count = static_cast<std::uint32_t>(taking.side - scratch.opening_sides.data());
  return next;
}

/// Pass 2.
void open(WorkerState& worker, const Openings& openings) {
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

/// Authentic packets of one SA after another, counted and committed at once. Lifetimes count
/// authenticated packets only, and a hard limit means not one more (RFC 4301 §4.4.2.1): near it,
/// this takes none.
class Tally {
 public:
  explicit Tally(std::uint64_t tsc) : tsc_(tsc) {}
  /// False: this SA's packets are counted one by one, the long way.
  bool begin(InboundSa& sa) { return &sa == sa_ || begin_another(sa); }
  /// The highest number of the SA that has begun.
  [[nodiscard]] std::uint64_t highest() const { return numbers_.highest(); }
  void add(std::uint64_t sequence, std::uint64_t bytes) {
    numbers_.add(sequence);
    ++packets_;
    bytes_ += bytes;
  }
  /// What others may look at is as if each had been counted by itself.
  [[gnu::noinline]] void end() {
    if (packets_ != 0) {
      numbers_.end();
      sa_->packets.store(sa_->packets.load(std::memory_order_relaxed) + packets_,
                         std::memory_order_relaxed);
      sa_->bytes_left.store(sa_->bytes_left.load(std::memory_order_relaxed) - bytes_,
                            std::memory_order_relaxed);
      sa_->last_tsc.store(tsc_, std::memory_order_relaxed);
      packets_ = bytes_ = 0;
    }
    sa_ = nullptr;
  }

 private:
  [[gnu::noinline]] bool begin_another(InboundSa& sa) {
    end();
    constexpr std::uint64_t kMostBytes = std::uint64_t{kBurstPackets} << 16U;
    const bool is_far =
        sa.packets.load(std::memory_order_relaxed) + kBurstPackets <= sa.hard_packets &&
        sa.bytes_left.load(std::memory_order_relaxed) >= kMostBytes;
    if (!is_far) return false;
    sa_ = &sa;
    numbers_.begin(sa.replay_window());
    return true;
  }

  std::uint64_t tsc_;
  InboundSa* sa_ = nullptr;  ///< far from its limits
  NewestRun numbers_;
  std::uint64_t packets_ = 0, bytes_ = 0;
};

bool is_authentic(const crypto::esp::Operation& opened) {
  return icvs_agree(opened.icv, opened.text + opened.text_bytes, kPlainIcvBytes);
}

/// Whether the packet inside, of `total` bytes by its header, is what most are: IPv4 without
/// options, whole and sound, with the least padding, taken by the selectors.
bool is_plain_inside(const InboundSa& sa, const crypto::esp::Operation& operation,
                     std::uint32_t total) {
  static_assert(kLeastPlainEsp - kAroundPlain - wire::esp::kTrailerBytes - 3 >=
                Ipv4::kLeastKnownBytes);
  const std::uint8_t* const inner = operation.text;
  const auto padding =
      static_cast<std::uint32_t>(operation.text_bytes - wire::esp::kTrailerBytes - total);
  constexpr std::uint16_t kFragmentBits =
      wire::Be16{wire::ipv4::kMoreFragments | wire::ipv4::kOffsetMask}.raw();
  return inner[0] == 0x45 &&
         // Nothing but padding and trailer is behind the packet.
         padding <= 3 &&
         wire::esp::ends_as<wire::protocol::kIpv4>(inner + operation.text_bytes, padding) &&
         (wire::load_raw<std::uint16_t>(inner + wire::ipv4::kFragment) & kFragmentBits) == 0 &&
         wire::plain_ipv4_checksum_is_right(inner) &&
         sa.selectors.match(wire::load_u32(inner + wire::ipv4::kSource),
                            wire::load_u32(inner + wire::ipv4::kDestination));
}

/// What the outer header says of congestion is known inside (RFC 6040 §4.2). False: there is a
/// packet to drop or an alarm to count.
[[gnu::noinline]] bool takes_congestion_over(const Opening& side,
                                             const crypto::esp::Operation& opened) {
  const std::size_t in_front = wire::esp::kHeaderBytes + kPlainIvBytes + side.sa->plain_in_front;
  const EcnVerdict verdict = apply_to_inner(opened.text, opened.text - in_front, false);
  return !verdict.drop && verdict.alarm == EcnAlarm::none;
}

/// What was decrypted and does not go the short way on: a forgery ends, the rest is the general
/// stage's to accept.
[[gnu::noinline]] void accept_slowly(WorkerState& worker, Burst& burst, const Opening& opening,
                                     const crypto::esp::Operation& operation, Refusals& refusals) {
  InboundSa& sa = *opening.sa;
  const std::uint32_t position = opening.position;
  if (!is_authentic(operation)) return refusals.take_forgery(position, sa, opening.sequence);
  const std::size_t in_front = wire::esp::kHeaderBytes + kPlainIvBytes + sa.plain_in_front;
  describe(burst, position, operation.text - in_front, sa.has_udp);
  accept_or_drop(worker, burst,
                 {&sa, opening.sequence, operation.text, operation.text + operation.text_bytes,
                  static_cast<std::uint16_t>(operation.text_bytes),
                  static_cast<std::uint8_t>(position), false},
                 operation.icv);
}

/// Pass 3.
[[gnu::noinline]] void accept_all(WorkerState& worker, Burst& burst, const Openings& openings,
                                  Refusals& refusals) {
  Tally tally(burst.tsc);
  OfferRun<Ipv4> offers(worker);
  const crypto::esp::Operation* operation = worker.scratch.openings.data();
  for (const Opening& side : std::span(worker.scratch.opening_sides).first(openings.count)) {
    const crypto::esp::Operation& opened = *operation++;
    const std::uint8_t protocol = opened.text[wire::ipv4::kProtocol];
    const wire::PortsAt ports_at = wire::kPortsOfProtocol[protocol];
    const std::uint32_t total = wire::load_u16(opened.text + wire::ipv4::kTotalLength);
    constexpr std::uint8_t kEcn = 3;
    const bool is_plain = is_authentic(opened) && may_be_known(ports_at) &&
                          is_plain_inside(*side.sa, opened, total) &&
                          ((side.traffic_class & kEcn) == 0 || takes_congestion_over(side, opened));
    // Again: one burst may hold a number twice.
    if (!is_plain || !tally.begin(*side.sa) || side.sequence <= tally.highest()) [[unlikely]] {
      tally.end();
      accept_slowly(worker, burst, side, opened, refusals);
      continue;
    }
    tally.add(side.sequence, total);
    offers.add(burst.packets[side.position], side.position, opened.text, total,
               Ipv4::flow_key(opened.text, PacketOrigin::tunnel, protocol, ports_at));
  }
  tally.end();
}

}  // namespace

void open_plain(WorkerState& worker, Burst& burst) {
  ArrivedEsp* next = worker.arrived.data();
  if (next == worker.arrived_end) return;
  Openings openings;
  Refusals refusals(worker, burst);
  while (next != worker.arrived_end) {
    worker.enter(Stage::lookup);
    next = take_arrived(worker, burst, next, openings, refusals);
    if (openings.count == 0) break;  // it waits for none: all are taken
    worker.enter(Stage::crypto);
    open(worker, openings);
    worker.enter(Stage::check);
    accept_all(worker, burst, openings, refusals);
    // In vain, as with numbers that came late and those of forgeries: not again in this burst.
    if (next != worker.arrived_end) openings.waits = is_replay(*next);
  }
  worker.arrived_end = worker.arrived.data();
}

}  // namespace culvert::dataplane
