// The short way inbound, pass 3 (known_inbound.cpp): whether what was decrypted is authentic, and
// the packet inside what most are, of either family; its SA's window and lifetimes.
#include <span>

#include <rte_mbuf.h>

#include "dataplane/worker/crypto_burst.hpp"
#include "dataplane/worker/header_fields.hpp"
#include "dataplane/worker/inbound.hpp"
#include "dataplane/worker/known_inbound.hpp"
#include "dataplane/worker/late_packets.hpp"
#include "wire/esp.hpp"

namespace culvert::dataplane {
namespace {

using Opening = CryptoScratch::Opening;

/// Whether two compares decide of the packets of a family inside: by the SA's own, or those in its
/// details.
bool has_simple_selectors(Ipv4, const InboundSa& sa) { return sa.selectors_are_simple; }
bool has_simple_selectors(Ipv6, const InboundSa& sa) { return sa.selectors_are_simple_v6; }

/// Whether what was decrypted is for the other family's pass. Of what is not authentic, nothing is.
bool is_of_other(Ipv4, const std::uint8_t* text) { return text[0] >> 4U == 6; }
bool is_of_other(Ipv6, const std::uint8_t* text) { return text[0] >> 4U == 4; }

/// Authentic packets of one SA after another, counted and committed at once. Lifetimes count
/// authenticated packets only, and a hard limit means not one more (RFC 4301 §4.4.2.1): near it,
/// this takes none.
template <typename Family>
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
  /// A number that is not above the highest. False: the window refuses it.
  [[gnu::noinline]] bool add_late(std::uint64_t sequence, std::uint64_t bytes) {
    numbers_.end();
    ReplayWindow window = sa_->replay_window();
    const bool is_fresh = window.commit(sequence) == ReplayVerdict::fresh;
    numbers_.begin(window);
    if (!is_fresh) return false;
    count_late(*sa_, sequence);
    ++packets_;
    bytes_ += bytes;
    return true;
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
    if (!has_simple_selectors(Family{}, sa)) return false;
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

/// Whether the packet inside, of `total` bytes by its header, is what most are: without options,
/// whole and sound, and taken by the selectors, if they are simple. All of the text but what is
/// behind it was looked at.
bool is_plain_packet(Ipv4, const InboundSa& sa, const std::uint8_t* inner, std::uint32_t) {
  static_assert(kLeastPlainEsp - kAroundPlain - wire::esp::kTrailerBytes - 3 >=
                Ipv4::kLeastKnownBytes);
  constexpr std::uint16_t kFragmentBits =
      wire::Be16{wire::ipv4::kMoreFragments | wire::ipv4::kOffsetMask}.raw();
  return (wire::load_raw<std::uint16_t>(inner + wire::ipv4::kFragment) & kFragmentBits) == 0 &&
         wire::plain_ipv4_checksum_is_right(inner) &&
         sa.selectors.match(wire::load_u32(inner + wire::ipv4::kSource),
                            wire::load_u32(inner + wire::ipv4::kDestination));
}
bool is_plain_packet(Ipv6, const InboundSa& sa, const std::uint8_t* inner, std::uint32_t total) {
  return total >= Ipv6::kLeastKnownBytes && !wire::ipv6::is_extension(inner[Ipv6::kProtocol]) &&
         sa.details->simple_v6.match(as_number(inner + wire::ipv6::kSource),
                                     as_number(inner + wire::ipv6::kDestination));
}
bool begins_as(Ipv4, const std::uint8_t* inner) { return inner[0] == 0x45; }
bool begins_as(Ipv6, const std::uint8_t* inner) { return inner[0] >> 4U == 6; }

/// The same, with the least padding.
template <typename Family>
bool is_plain_inside(const InboundSa& sa, const crypto::esp::Operation& operation,
                     std::uint32_t total) {
  const std::uint8_t* const inner = operation.text;
  const auto padding =
      static_cast<std::uint32_t>(operation.text_bytes - wire::esp::kTrailerBytes - total);
  return begins_as(Family{}, inner) &&
         // Nothing but padding and trailer is behind the packet.
         padding <= 3 &&
         wire::esp::ends_as<Family::kAsNextHeader>(inner + operation.text_bytes, padding) &&
         is_plain_packet(Family{}, sa, inner, total);
}

/// What the outer header says of congestion is known inside (RFC 6040 §4.2). False: there is a
/// packet to drop or an alarm to count, or it is not this way's to accept.
[[gnu::noinline]] bool takes_notes(const Opening& side, const crypto::esp::Operation& opened) {
  if ((side.notes & Opening::kOdd) != 0) return false;
  const std::size_t in_front = wire::esp::kHeaderBytes + kPlainIvBytes + side.sa->plain_in_front;
  const EcnVerdict verdict = apply_to_inner(opened.text, opened.text - in_front, false);
  return !verdict.drop && verdict.alarm == EcnAlarm::none;
}

/// Whether what was decrypted goes the short way on, but for its number and its SA's limits.
template <typename Family>
bool goes_on(const Opening& side, const crypto::esp::Operation& opened, wire::PortsAt ports_at,
             std::uint32_t total) {
  return is_authentic(opened) && may_be_known(ports_at) &&
         is_plain_inside<Family>(*side.sa, opened, total) &&
         (side.notes == 0 || takes_notes(side, opened));
}

/// The same of one that does not as most do.
template <typename Family>
[[gnu::cold, gnu::noinline]] bool goes_on_late(const Opening& side,
                                               const crypto::esp::Operation& opened) {
  const wire::PortsAt ports_at = wire::kPortsOfProtocol[opened.text[Family::kProtocol]];
  return goes_on<Family>(side, opened, ports_at, Family::total_bytes(opened.text));
}

/// What was decrypted and does not go the short way on: a forgery ends, the rest is the general
/// stage's to accept.
[[gnu::noinline]] void accept_slowly(WorkerState& worker, Burst& burst, const Opening& opening,
                                     const crypto::esp::Operation& operation, Refusals& refusals) {
  InboundSa& sa = *opening.sa;
  const std::uint32_t position = opening.position;
  if (!is_authentic(operation)) return refusals.take_forgery(position, sa, opening.sequence);
  if ((opening.notes & Opening::kOdd) == 0) {
    const std::size_t in_front = wire::esp::kHeaderBytes + kPlainIvBytes + sa.plain_in_front;
    describe_outer(burst, position, operation.text - in_front, sa.plain_in_front);
  }
  accept_or_drop(worker, burst,
                 {&sa, opening.sequence, operation.text, operation.text + operation.text_bytes,
                  static_cast<std::uint16_t>(operation.text_bytes),
                  static_cast<std::uint8_t>(position), (opening.notes & Opening::kMoved) != 0},
                 operation.icv);
}

}  // namespace

namespace {

/// `accept_from`, in two forms: most bursts have no late packet, so their loop is one without. It
/// ends at the first; the other goes on from there.
template <typename Family, bool kTakesLate>
[[gnu::noinline]] std::uint32_t accept(std::uint32_t next, WorkerState& worker, Burst& burst,
                                       Openings& openings, Refusals& refusals) {
  Tally<Family> tally(burst.tsc);
  OfferRun<Family> offers(worker);
  const auto sides = std::span(worker.scratch.opening_sides).first(openings.count);
  const crypto::esp::Operation* operation = &worker.scratch.openings[next];
  for (const Opening& side : sides.subspan(next)) {
    const crypto::esp::Operation& opened = *operation++;
    const std::uint8_t protocol = opened.text[Family::kProtocol];
    const wire::PortsAt ports_at = wire::kPortsOfProtocol[protocol];
    const std::uint32_t total = Family::total_bytes(opened.text);
    const auto index = [&] {
      return static_cast<std::uint32_t>(&side - worker.scratch.opening_sides.data());
    };
    const bool is_plain = goes_on<Family>(side, opened, ports_at, total);
    // Again: one burst may hold a number twice.
    if (!is_plain || !tally.begin(*side.sa) || side.sequence <= tally.highest()) [[unlikely]] {
      if (goes_on_late<Family>(side, opened) && tally.begin(*side.sa)) {
        if constexpr (!kTakesLate) {
          tally.end();
          openings.has_late = true;
          return index();
        } else if (tally.add_late(side.sequence, total)) {
          offers.add(burst.packets[side.position], side.position, opened.text, total,
                     Family::flow_key(opened.text, PacketOrigin::tunnel, protocol, ports_at));
          continue;
        }
      }
      tally.end();
      if (is_of_other(Family{}, opened.text) && is_authentic(opened)) return index();
      accept_slowly(worker, burst, side, opened, refusals);
      continue;
    }
    tally.add(side.sequence, total);
    offers.add(burst.packets[side.position], side.position, opened.text, total,
               Family::flow_key(opened.text, PacketOrigin::tunnel, protocol, ports_at));
  }
  tally.end();
  return openings.count;
}

}  // namespace

template <typename Family>
std::uint32_t accept_from(std::uint32_t next, WorkerState& worker, Burst& burst, Openings& openings,
                          Refusals& refusals) {
  if (!openings.has_late) [[likely]]
    next = accept<Family, false>(next, worker, burst, openings, refusals);
  if (!openings.has_late) [[likely]]
    return next;
  return accept<Family, true>(next, worker, burst, openings, refusals);
}

template std::uint32_t accept_from<Ipv4>(std::uint32_t, WorkerState&, Burst&, Openings&, Refusals&);
template std::uint32_t accept_from<Ipv6>(std::uint32_t, WorkerState&, Burst&, Openings&, Refusals&);

}  // namespace culvert::dataplane
