// The short way of ESP packets for plain SAs (kPlainIvBytes), in the passes of open_inbound:
//   1. SPI, addresses, length; number above the window's highest; nonce and AAD
//   2. decrypt and compute ICVs
//   3. ICV compare, trailer, inner header, selectors; window commit and lifetimes
// What a flood is made of ends here too (refusals.hpp). What a packet needs more (another reason to
// be dropped, a number that came late, a limit that is near, IPv6 inside) is left to the general
// stage, as it is or decrypted.
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
  InboundSa* sa;
  std::uint64_t sequence;
  std::uint16_t position;
};
struct Openings {
  std::array<Opening, kBurstPackets> items;
  std::uint32_t count = 0;
  bool has_one_transform = true;
  bool waits = true;  ///< before a number that stands here already: it may be a replay

  void begin() {
    count = 0;
    has_one_transform = true;
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

/// For a plain SA of this worker's, from where its peer is, of a possible length, newer than all
/// before, with no congestion to tell of (RFC 6040 §4.2).
bool is_for(const InboundSa& sa, const ArrivedEsp& arrived) {
  constexpr std::uint32_t kAround = wire::esp::kHeaderBytes + kPlainIvBytes + kPlainIcvBytes;
  // An empty datagram of UDP inside, padded; what is shorter has no ports worth a short way.
  constexpr std::uint32_t kLeast = kAround + 32;
  static_assert(kAround % wire::esp::kAlignment == 0);
  // Acquire pairs with the release in `publish_inbound`.
  return sa.spi.load(std::memory_order_acquire) == arrived.spi() &&
         arrived.bytes_in_front == sa.plain_in_front &&
         !sa.stopped.load(std::memory_order_relaxed) &&
         arrived.addresses() == sa.outer_addresses.load(std::memory_order_relaxed) &&
         (arrived.ip()[1] & 3U) == 0 && arrived.bytes >= kLeast &&
         (arrived.bytes & (wire::esp::kAlignment - 1)) == 0 &&
         (!sa.has_udp || wire::load_raw<std::uint32_t>(arrived.esp - wire::udp::kHeaderBytes) ==
                             sa.outer_ports.load(std::memory_order_relaxed));
}

/// The nonce is salt and IV (RFC 4106 §4), the AAD SPI and number as they stand in the packet, or
/// with all 64 bits of the number (§5).
void describe_operation(CryptoScratch& scratch, std::uint32_t k, const InboundSa& sa,
                        const ArrivedEsp& arrived, std::uint64_t sequence) {
  std::uint8_t* const esp = arrived.esp;
  std::uint8_t* const nonce = scratch.nonces[k].bytes.data();
  wire::store_raw(nonce, sa.salt);
  wire::store_raw(nonce + 4, wire::load_raw<std::uint64_t>(esp + wire::esp::kHeaderBytes));
  crypto::esp::Operation& operation = scratch.operations[k];
  operation.key = sa.key;
  operation.text = esp + wire::esp::kHeaderBytes + kPlainIvBytes;
  operation.nonce = nonce;
  operation.aad = esp;
  operation.icv = scratch.icvs[k].bytes.data();
  operation.text_bytes = static_cast<std::uint16_t>(
      arrived.bytes - (wire::esp::kHeaderBytes + kPlainIvBytes + kPlainIcvBytes));
  operation.aad_bytes = wire::esp::kHeaderBytes;
  if (sa.has_esn) {
    operation.aad = scratch.aads[k].bytes.data();
    operation.aad_bytes =
        write_aad(scratch.aads[k], wire::load_raw<std::uint32_t>(esp), sequence, true);
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
const ArrivedEsp* take_arrived(WorkerState& worker, Burst& burst, const ArrivedEsp* next,
                               Openings& openings, Refusals& refusals) {
  const ArrivedEsp* const end = worker.arrived_end;
  const std::uint32_t workers = worker.tables.workers;
  const InboundSa* last_sa = nullptr;
  std::uint64_t last_sequence = 0;
  std::uint32_t k = 0;
  for (; next != end; ++next) {
    const ArrivedEsp& arrived = *next;
    InboundSa& sa = *arrived.sa;
    // `is_for` first: its acquire is what makes the SA's other fields those of this SPI.
    if (!is_for(sa, arrived) || (workers > 1 && worker.tables.sad->slot_of(sa) % workers !=
                                                    raw(worker.context.id))) [[unlikely]] {
      leave_foreign(burst, arrived, refusals);
      continue;
    }
    const std::uint64_t sequence = sa.extend(arrived.sequence());
    if (sequence <= sa.highest) [[unlikely]] {
      leave_old(burst, arrived, sequence, refusals);
      continue;
    }
    if (&sa != last_sa) {
      if (k != 0) openings.has_one_transform &= sa.transform == openings.items[0].sa->transform;
      last_sa = &sa;
    } else if (sequence <= last_sequence && openings.waits) [[unlikely]] {
      break;
    }
    last_sequence = sequence;
    rte_prefetch0(sa.replay_window().place_of(sequence));
    Opening& opening = openings.items[k];
    opening.sa = &sa;
    opening.sequence = sequence;
    opening.position = arrived.position;
    describe_operation(worker.scratch, k, sa, arrived, sequence);
    ++k;
  }
  openings.count = k;
  return next;
}

/// Pass 2.
void open(WorkerState& worker, const Openings& openings) {
  const auto process = [&](const crypto::EspSuite& suite,
                           std::span<const crypto::esp::Operation> run) {
    worker.context.engine->open(suite, run);
  };
  if (openings.has_one_transform) [[likely]] {
    return process(crypto::esp::transform(openings.items[0].sa->transform).suite,
                   std::span(worker.scratch.operations).first(openings.count));
  }
  for (std::uint32_t k = 0; k < openings.count; ++k) {
    worker.scratch.transforms[k] = openings.items[k].sa->transform;
  }
  for_each_suite(worker.scratch, openings.count, process);
}

/// Authentic packets of one SA after another, counted at once. Lifetimes count authenticated
/// packets only, and a hard limit means not one more (RFC 4301 §4.4.2.1): near it, this counts
/// none.
class Tally {
 public:
  explicit Tally(std::uint64_t tsc) : tsc_(tsc) {}
  /// False: this SA's packets are counted one by one, the long way.
  bool begin(InboundSa& sa) { return &sa == sa_ || begin_another(sa); }
  void add(std::uint64_t bytes) {
    ++packets_;
    bytes_ += bytes;
  }
  [[gnu::noinline]] void end() {
    if (packets_ == 0) return;
    sa_->packets.store(sa_->packets.load(std::memory_order_relaxed) + packets_,
                       std::memory_order_relaxed);
    sa_->bytes.store(sa_->bytes.load(std::memory_order_relaxed) + bytes_,
                     std::memory_order_relaxed);
    sa_->last_tsc.store(tsc_, std::memory_order_relaxed);
    packets_ = bytes_ = 0;
  }

 private:
  [[gnu::noinline]] bool begin_another(InboundSa& sa) {
    end();
    constexpr std::uint64_t kMostBytes = std::uint64_t{kBurstPackets} << 16U;
    const bool is_far =
        sa.packets.load(std::memory_order_relaxed) + kBurstPackets <= sa.hard_packets &&
        sa.bytes.load(std::memory_order_relaxed) + kMostBytes <= sa.hard_bytes;
    sa_ = is_far ? &sa : nullptr;
    return is_far;
  }

  std::uint64_t tsc_;
  InboundSa* sa_ = nullptr;  ///< far from its limits
  std::uint64_t packets_ = 0, bytes_ = 0;
};

/// Bytes of the packet inside, 0 when it is not what most are: IPv4 without options, whole and
/// sound, of a protocol whose flows can be known, with the least padding, taken by the selectors.
std::uint32_t plain_inside(const InboundSa& sa, const crypto::esp::Operation& operation) {
  const std::uint8_t* const inner = operation.text;
  const std::uint8_t* const end = inner + operation.text_bytes;
  // Padding and next header.
  const std::uint32_t trailer = wire::load_raw<std::uint16_t>(end - wire::esp::kTrailerBytes);
  const std::uint32_t padding = trailer & 0xffU;
  const std::uint32_t total = wire::load_u16(inner + wire::ipv4::kTotalLength);
  constexpr std::uint16_t kFragmentBits =
      wire::Be16{wire::ipv4::kMoreFragments | wire::ipv4::kOffsetMask}.raw();
  constexpr std::uint32_t kTrailer = wire::protocol::kIpv4 << 8U;
  const bool is_plain =
      // Up to three bytes of padding, 1, 2, 3 (RFC 4303 §2.4), and nothing else behind the packet.
      trailer - kTrailer <= 3 &&
      total + padding + wire::esp::kTrailerBytes == operation.text_bytes && inner[0] == 0x45 &&
      wire::esp::short_padding_is_right(end, padding) &&
      (wire::load_raw<std::uint16_t>(inner + wire::ipv4::kFragment) & kFragmentBits) == 0 &&
      wire::plain_ipv4_checksum_is_right(inner) && may_be_known(inner[wire::ipv4::kProtocol]) &&
      total >= kLeastKnownBytes &&
      sa.selectors.match(wire::load_u32(inner + wire::ipv4::kSource),
                         wire::load_u32(inner + wire::ipv4::kDestination));
  return is_plain ? total : 0;
}

/// What was decrypted and does not go the short way on: a forgery ends, the rest is the general
/// stage's to accept.
[[gnu::noinline]] void accept_slowly(WorkerState& worker, Burst& burst, const Opening& opening,
                                     const crypto::esp::Operation& operation, bool is_authentic,
                                     Refusals& refusals) {
  InboundSa& sa = *opening.sa;
  if (!is_authentic) return refusals.take_forgery(opening.position, sa, opening.sequence);
  const std::size_t in_front = wire::esp::kHeaderBytes + kPlainIvBytes + sa.plain_in_front;
  describe(burst, opening.position, operation.text - in_front, sa.has_udp);
  accept_or_drop(worker, burst,
                 {&sa, opening.sequence, operation.text, operation.text + operation.text_bytes,
                  static_cast<std::uint16_t>(operation.text_bytes),
                  static_cast<std::uint8_t>(opening.position), false},
                 operation.icv);
}

/// Pass 3.
void accept_all(WorkerState& worker, Burst& burst, const Openings& openings, Refusals& refusals) {
  Tally tally(burst.tsc);
  const crypto::esp::Operation* operation = worker.scratch.operations.data();
  for (const Opening& opening : std::span(openings.items).first(openings.count)) {
    const crypto::esp::Operation& opened = *operation++;
    InboundSa& sa = *opening.sa;
    const bool is_authentic =
        icvs_agree(opened.icv, opened.text + opened.text_bytes, kPlainIcvBytes);
    const std::uint32_t total = is_authentic ? plain_inside(sa, opened) : 0;
    // Again: one burst may hold a number twice.
    if (total == 0 || opening.sequence <= sa.highest || !tally.begin(sa)) [[unlikely]] {
      if (is_authentic) tally.end();
      accept_slowly(worker, burst, opening, opened, is_authentic, refusals);
      continue;
    }
    sa.replay_window().commit_newest(opening.sequence);
    tally.add(total);
    offer_known(worker, burst.packets[opening.position], opening.position, opened.text, total,
                PacketOrigin::tunnel);
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
