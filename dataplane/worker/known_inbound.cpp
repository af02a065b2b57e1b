// The short way of ESP packets for plain SAs (kPlainIvBytes), in the passes of open_inbound:
//   1. SPI, addresses, length; number above the window's highest; nonce and AAD
//   2. decrypt and compute ICVs
//   3. ICV compare, trailer, inner header, selectors; window commit and lifetimes
// Packets of one SA mostly come one after another: what they share is looked at once. What a flood
// is made of ends here too (refusals.hpp). What a packet needs more (another reason to be dropped,
// a number that came late, a limit that is near, IPv6 inside) is left to the general stage, as it
// is or decrypted.
#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "dataplane/worker/crypto_burst.hpp"
#include "dataplane/worker/inbound.hpp"
#include "dataplane/worker/refusals.hpp"
#include "wire/esp.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

/// Worth decrypting; the rest is in the operation of the same index.
struct Opening {
  const ArrivedEsp* arrived;
  std::uint64_t sequence;
};
struct Openings {
  std::array<Opening, kBurstPackets> items;
  const Opening* end = items.data();
  bool has_one_transform = true;
  bool waits = true;  ///< before a number that stands here already: it may be a replay

  void begin() {
    end = items.data();
    has_one_transform = true;
  }
  [[nodiscard]] std::uint32_t count() const {
    return static_cast<std::uint32_t>(end - items.data());
  }
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

/// For a plain SA of this worker's, from where its peer is.
bool is_for(const WorkerState& worker, const InboundSa& sa, const ArrivedEsp& arrived) {
  // Acquire pairs with the release in `publish_inbound`; first, for it is what makes the SA's other
  // fields those of this SPI.
  return sa.spi.load(std::memory_order_acquire) == arrived.spi() &&
         arrived.bytes_in_front == sa.plain_in_front &&
         !sa.stopped.load(std::memory_order_relaxed) &&
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

constexpr std::uint32_t kAround = wire::esp::kHeaderBytes + kPlainIvBytes + kPlainIcvBytes;
/// An empty datagram of UDP inside, padded; what is shorter has no ports worth a short way.
constexpr std::uint32_t kLeastText = 32;
static_assert(kAround % wire::esp::kAlignment == 0 && kLeastText % wire::esp::kAlignment == 0);

/// Of a possible length, with no congestion to tell of (RFC 6040 §4.2).
bool has_plain_shape(const RunOfArrived& run, const ArrivedEsp& arrived) {
  // One that is too short has its upper bits set.
  constexpr std::uint32_t kWrong = 0xffff0000U | (wire::esp::kAlignment - 1);
  return (run.ip_of(arrived)[1] & 3U) == 0 &&
         ((arrived.bytes - (kAround + kLeastText)) & kWrong) == 0;
}

/// The nonce is salt and IV (RFC 4106 §4), the AAD SPI and number as they stand in the packet, or
/// with all 64 bits of the number (§5).
void describe_operation(CryptoScratch& scratch, CryptoScratch::Block& nonce,
                        crypto::esp::Operation& operation, const RunOfArrived& run,
                        const ArrivedEsp& arrived, std::uint64_t sequence) {
  std::uint8_t* const esp = arrived.esp;
  wire::store_raw(nonce.bytes.data(), run.sa.salt);
  wire::store_raw(nonce.bytes.data() + 4,
                  wire::load_raw<std::uint64_t>(esp + wire::esp::kHeaderBytes));
  operation.key = run.sa.key;
  operation.text = esp + wire::esp::kHeaderBytes + kPlainIvBytes;
  operation.aad = esp;
  operation.text_bytes = arrived.bytes - kAround;
  operation.aad_bytes = wire::esp::kHeaderBytes;
  if (run.has_esn) {
    CryptoScratch::Block& aad = scratch.aads[static_cast<std::size_t>(&nonce - &scratch.nonces[0])];
    operation.aad = aad.bytes.data();
    operation.aad_bytes = write_aad(aad, run.spi_raw, sequence, true);
  }
}

/// For the general stage.
void leave(Burst& burst, const ArrivedEsp& arrived) {
  const bool is_in_udp = arrived.bytes_in_front != wire::ipv4::kHeaderBytes;
  describe(burst, arrived.position, arrived.esp - arrived.bytes_in_front, is_in_udp);
  burst.encrypted.push(arrived.position);
}

/// Of no SA that this way is for: a flood's ends here.
[[gnu::noinline]] void leave_foreign(Burst& burst, const ArrivedEsp& arrived, Refusals& refusals) {
  const bool is_here = arrived.sa->spi.load(std::memory_order_relaxed) == arrived.spi();
  if (is_here || !refusals.take_unknown(arrived)) leave(burst, arrived);
}
/// Its number is not above the highest.
[[gnu::noinline]] void leave_old(Burst& burst, const ArrivedEsp& arrived, std::uint64_t sequence,
                                 Refusals& refusals) {
  if (!refusals.take_replay(arrived, *arrived.sa, sequence)) leave(burst, arrived);
}

/// Pass 1, from the packet `next` on. Where it ended: before a number that may be above the highest
/// only because the packet that has it already is not verified yet, or behind the last packet.
[[gnu::noinline]] const ArrivedEsp* take_arrived(WorkerState& worker, Burst& burst,
                                                 const ArrivedEsp* next, Openings& openings,
                                                 Refusals& refusals) {
  const ArrivedEsp* const end = worker.arrived_end;
  Opening* opening = openings.items.data();
  crypto::esp::Operation* operation = worker.scratch.openings.data();
  CryptoScratch::Block* nonce = worker.scratch.nonces.data();
  while (next != end) {
    if (!is_for(worker, *next->sa, *next)) [[unlikely]] {
      leave_foreign(burst, *next++, refusals);
      continue;
    }
    const RunOfArrived run(*next);
    InboundSa& sa = run.sa;
    if (opening != openings.items.data()) {
      openings.has_one_transform &= sa.transform == openings.items[0].arrived->sa->transform;
    }
    // Those of a burst are in the line of the first, or in the next one.
    rte_prefetch0(sa.replay_window().place_of(sa.highest + 1));
    std::uint64_t last_sequence = sa.highest;
    do {
      const ArrivedEsp& arrived = *next;
      if (!has_plain_shape(run, arrived)) [[unlikely]] {
        leave(burst, arrived);
        continue;
      }
      const std::uint64_t sequence =
          run.has_esn ? sa.extend(arrived.sequence()) : arrived.sequence();
      if (sequence <= last_sequence) [[unlikely]] {
        if (sequence <= sa.highest) {
          leave_old(burst, arrived, sequence, refusals);
          continue;
        }
        if (openings.waits) {
          openings.end = opening;
          return next;
        }
      }
      last_sequence = sequence;
      opening->arrived = &arrived;
      opening->sequence = sequence;
      ++opening;
      describe_operation(worker.scratch, *nonce++, *operation++, run, arrived, sequence);
    } while (++next != end && run.has(*next));
  }
  openings.end = opening;
  return next;
}

/// Pass 2.
void open(WorkerState& worker, const Openings& openings) {
  const auto process = [&](const crypto::EspSuite& suite,
                           std::span<const crypto::esp::Operation> run) {
    worker.context.engine->open(suite, run);
  };
  const auto operations = std::span(worker.scratch.openings).first(openings.count());
  if (openings.has_one_transform) [[likely]] {
    return process(crypto::esp::transform(openings.items[0].arrived->sa->transform).suite,
                   operations);
  }
  for (std::uint32_t k = 0; k < openings.count(); ++k) {
    worker.scratch.transforms[k] = openings.items[k].arrived->sa->transform;
  }
  for_each_suite(worker.scratch, operations, process);
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
      sa_->bytes.store(sa_->bytes.load(std::memory_order_relaxed) + bytes_,
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
        sa.bytes.load(std::memory_order_relaxed) + kMostBytes <= sa.hard_bytes;
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

/// Bytes of the packet inside, 0 when it is not what most are: IPv4 without options, whole and
/// sound, with the least padding, taken by the selectors.
std::uint32_t plain_inside(const InboundSa& sa, const crypto::esp::Operation& operation) {
  const std::uint8_t* const inner = operation.text;
  const std::uint32_t total = wire::load_u16(inner + wire::ipv4::kTotalLength);
  const auto padding =
      static_cast<std::uint32_t>(operation.text_bytes - wire::esp::kTrailerBytes - total);
  constexpr std::uint16_t kFragmentBits =
      wire::Be16{wire::ipv4::kMoreFragments | wire::ipv4::kOffsetMask}.raw();
  const bool is_plain =
      inner[0] == 0x45 &&
      // Nothing but padding and trailer is behind the packet.
      padding <= 3 && wire::esp::ends_as_ipv4(inner + operation.text_bytes, padding) &&
      (wire::load_raw<std::uint16_t>(inner + wire::ipv4::kFragment) & kFragmentBits) == 0 &&
      wire::plain_ipv4_checksum_is_right(inner) && total >= kLeastKnownBytes &&
      sa.selectors.match(wire::load_u32(inner + wire::ipv4::kSource),
                         wire::load_u32(inner + wire::ipv4::kDestination));
  return is_plain ? total : 0;
}

/// What was decrypted and does not go the short way on: a forgery ends, the rest is the general
/// stage's to accept.
[[gnu::noinline]] void accept_slowly(WorkerState& worker, Burst& burst, const Opening& opening,
                                     const crypto::esp::Operation& operation, Refusals& refusals) {
  InboundSa& sa = *opening.arrived->sa;
  const std::uint16_t position = opening.arrived->position;
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
  OfferRun offers(worker);
  const crypto::esp::Operation* operation = worker.scratch.openings.data();
  for (const Opening& opening : std::span(openings.items).first(openings.count())) {
    const crypto::esp::Operation& opened = *operation++;
    const ArrivedEsp& arrived = *opening.arrived;
    const std::uint8_t protocol = opened.text[wire::ipv4::kProtocol];
    const wire::PortsAt ports_at = wire::kPortsOfProtocol[protocol];
    const bool may_be_plain = is_authentic(opened) && may_be_known(ports_at);
    const std::uint32_t total = may_be_plain ? plain_inside(*arrived.sa, opened) : 0;
    // Again: one burst may hold a number twice.
    if (total == 0 || !tally.begin(*arrived.sa) || opening.sequence <= tally.highest())
        [[unlikely]] {
      tally.end();
      accept_slowly(worker, burst, opening, opened, refusals);
      continue;
    }
    tally.add(opening.sequence, total);
    offers.add(burst.packets[arrived.position], arrived.position, opened.text, total,
               known_flow_key(opened.text, PacketOrigin::tunnel, protocol, ports_at));
  }
  tally.end();
}

/// Whether the window has or has passed the number of a packet that is for its SA.
bool is_replay(const ArrivedEsp& arrived) {
  InboundSa& sa = *arrived.sa;
  return sa.replay_window().check(sa.extend(arrived.sequence())) != ReplayVerdict::fresh;
}

}  // namespace

void open_plain(WorkerState& worker, Burst& burst) {
  const ArrivedEsp* next = worker.arrived.data();
  if (next == worker.arrived_end) return;
  Openings openings;
  Refusals refusals(worker, burst);
  while (next != worker.arrived_end) {
    worker.enter(Stage::lookup);
    openings.begin();
    next = take_arrived(worker, burst, next, openings, refusals);
    if (openings.end == openings.items.data()) break;  // it waits for none: all are taken
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
