// What workers read and write of a security association: two cache lines inbound, one and a
// pre-built outer header outbound. Expanded keys, windows, selectors and what is seldom needed
// stand apart. RCU: an SA that was found stays whole until the worker's next quiescent state.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

#include <rte_cycles.h>

#include "crypto/esp/esp_crypto.hpp"
#include "crypto/esp/transform.hpp"
#include "crypto/suite.hpp"
#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/last_refusal.hpp"
#include "dataplane/tables/replay_window.hpp"
#include "dataplane/tables/sad.hpp"
#include "wire/ip.hpp"
#include "wire/ip_address.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane {

/// Outer addresses; two sets, so that a change never shows half.
struct SaEndpoints {
  wire::Endpoint local, remote;
};

/// Packets of an inbound SA with extended numbers that failed authentication one after another,
/// `after_packets` authentic ones (RFC 4303 §A3.1).
struct FailedPackets {
  std::uint64_t after_packets = 0;
  std::uint32_t in_a_row = 0;
};

/// Selectors of the common shape, one range a side with any protocol and port: two compares.
/// `span` 0xffffffff takes every address; a shape that does not fit has `is_exact` false in the SA.
struct SimpleSelectors {
  std::uint32_t remote_first = 0, remote_span = 0;  ///< host order
  std::uint32_t local_first = 0, local_span = 0;

  [[nodiscard]] bool match(std::uint32_t remote, std::uint32_t local) const {
    return remote - remote_first <= remote_span && local - local_first <= local_span;
  }
};

/// The same of IPv6, one range a side.
struct SimpleSelectorsV6 {
  unsigned __int128 remote_first = 0, remote_span = 0;  ///< host order
  unsigned __int128 local_first = 0, local_span = 0;

  [[nodiscard]] bool match(unsigned __int128 remote, unsigned __int128 local) const {
    return remote - remote_first <= remote_span && local - local_first <= local_span;
  }
};
/// An IPv6 address as a number.
[[nodiscard]] inline unsigned __int128 as_number(const std::uint8_t* address) {
  const auto half = [&](std::size_t at) {
    return wire::Be64::from_raw(wire::load_raw<std::uint64_t>(address + at)).host();
  };
  return static_cast<unsigned __int128>(half(0)) << 64U | half(8);
}

/// The seldom needed part of either direction. Single writer: main, but for `drops` (relaxed: any
/// worker; a lost count is not worth a lock) and `stop_cause` (any; the first one stays).
/// Counters have 64 bits, for a flood of 10 Mpps goes once through 32 in seven minutes, and a total
/// never goes back.
struct SaDetails {
  std::uint64_t sa_id = 0;
  crypto::EspSuite suite;
  std::vector<wire::TrafficSelector> local, remote;
  std::array<SaEndpoints, 2> endpoints;
  std::atomic<std::uint8_t> current_endpoints{0};
  std::atomic<StopCause> stop_cause{StopCause::none};
  std::array<std::atomic<std::uint64_t>, kDropReasons> drops{};
  std::atomic<std::uint64_t> last_drop_tsc{0};  ///< 0: never; as `drops`
  config::HeaderOptions headers;
  bool changes_outer = false;  ///< the outer header is not the default rules' alone
  bool copies_dscp_in = false;
  bool selects_ports = false;   ///< later fragments match no selector (RFC 4301 §7)
  bool selects_opaque = false;  ///< it is for later fragments, among others (RFC 4301 §7.2)
  std::atomic<std::uint16_t> path_mtu{kNoPathMtu};
  std::atomic<std::uint64_t> dummies{0};  ///< outbound: sealed without contents (RFC 4303 §2.6)

  SaDetails() = default;
  virtual ~SaDetails() = default;
  SaDetails(const SaDetails&) = delete;
  SaDetails& operator=(const SaDetails&) = delete;

  [[nodiscard]] const SaEndpoints& outer() const {
    // Acquire pairs with the release in Sad::update_endpoints.
    return endpoints[current_endpoints.load(std::memory_order_acquire)];
  }
  void count_drop(DropReason reason, std::uint32_t packets = 1) {
    drops[static_cast<std::size_t>(reason)].fetch_add(packets, std::memory_order_relaxed);
    // A dummy ends as it should.
    if (reason != DropReason::dummy_packet)
      last_drop_tsc.store(rte_rdtsc(), std::memory_order_relaxed);
  }
};

/// What only inbound SAs have, half a KiB of it. Written by the SA's worker; main reads (relaxed).
struct InboundDetails final : SaDetails {
  SimpleSelectorsV6 simple_v6;  ///< main, before publication
  std::array<std::atomic<std::uint64_t>, kEcnAlarms> ecn_alarms{};
  std::array<std::atomic<std::uint64_t>, kLateBuckets> late{}, missed{};
  LastRefusal last_refusal;
  std::atomic<std::uint64_t> resynchronized{0};
  FailedPackets failed;              ///< the SA's worker's alone
  std::uint64_t moved_hint_tsc = 0;  ///< of the last one, 0: none; the SA's worker's alone

  void count_alarm(EcnAlarm alarm) {
    if (alarm == EcnAlarm::none) return;
    ecn_alarms[static_cast<std::size_t>(alarm)].fetch_add(1, std::memory_order_relaxed);
  }
  /// `distance` from the highest number received: 1 or more.
  void count_late(std::uint64_t distance, bool is_missed) {
    const auto bucket =
        std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(distance)), kLateBuckets - 1);
    (is_missed ? missed : late)[bucket].fetch_add(1, std::memory_order_relaxed);
  }
};

/// SAs of the common shape are plain: tunnel mode, IPv4, UDP in IPv4 or IPv6 outside, AES-GCM-16
/// (and inbound, selectors that two compares decide, of either family inside or both). Packets of
/// such an SA go the short way through the worker, which knows these sizes (RFC 4106).
inline constexpr std::size_t kPlainIvBytes = 8, kPlainIcvBytes = 16;
[[nodiscard]] inline bool is_plain_suite(const crypto::EspSuite& suite) {
  return suite.encryption == crypto::Encryption::aes_gcm_16 &&
         suite.integrity == crypto::Integrity::none;
}

struct alignas(64) InboundSa {
  // Written by main before `spi` is published.
  std::atomic<std::uint32_t> spi{0};  ///< host order; vacant: one that is not for this place
  std::uint32_t salt = 0;             ///< as in KEYMAT's memory; AES-CCM: its last byte is zero
  const crypto::esp::ExpandedKey* key = nullptr;
  ReplayWord* window = nullptr;
  InboundDetails* details = nullptr;
  std::atomic<std::uint64_t> outer_addresses{0};  ///< IPv4: source, destination as in the packet
  std::atomic<std::uint32_t> outer_ports{0};      ///< UDP: source, destination as in the packet
  std::uint32_t window_packets = 0;
  std::uint16_t window_mask = 0;
  /// So many packets failed that the next is looked at more closely (Resynchronizer): by the
  /// general stage, as with `stopped`. The SA's worker's.
  std::atomic<bool> resync_due{false};
  /// Of the place: the SPI that the key daemon has for it, host order; 0: none. From its lease
  /// until its SA is removed. Also that of a manual SA which another one follows.
  std::atomic<std::uint32_t> leased{0};
  bool is_tunnel : 1 = true;
  bool has_esn : 1 = false;
  bool has_udp : 1 = false;
  bool outer_is_v4 : 1 = true;
  bool selectors_are_simple : 1 = false;     ///< for IPv4: `selectors` decide
  bool selectors_are_simple_v6 : 1 = false;  ///< for IPv6: those in the details
  bool checks_icmp_errors : 1 = false;  ///< by what they quote, whatever the selectors say of them
  crypto::esp::TransformId transform{};
  std::uint8_t plain_in_front = 0;  ///< plain (see kPlainIvBytes): bytes of IP and UDP, else 0
  std::atomic<bool> stopped{false};
  std::uint32_t newest = 0;  ///< of the block of `highest` (ReplayWindow); the SA's worker's

  // Written by the SA's worker; main reads (relaxed).
  alignas(64) std::uint64_t highest = 0;
  std::atomic<std::uint64_t> packets{0}, last_tsc{0};
  std::atomic<std::uint64_t> bytes_left{~0ULL};    ///< of the hard lifetime, or of 64 bits
  std::atomic<std::uint64_t> ends_at{kNeverEnds};  ///< TSC; main: any time
  std::uint64_t hard_packets = ~0ULL;              ///< main, before publication
  SimpleSelectors selectors;                       ///< main, before publication

  [[nodiscard]] ReplayWindow replay_window() {
    return {highest, newest, window, window_packets, window_mask};
  }
  [[nodiscard]] std::uint64_t extend(std::uint32_t low) const {
    if (!has_esn) return low;
    return extend_sequence(highest, window_packets == 0 ? 32 : window_packets, low);
  }
};
static_assert(sizeof(InboundSa) == 128 && offsetof(InboundSa, highest) == 64);
static_assert(replay_words(channel::kMaxReplayWindow) - 1 <= UINT16_MAX);  // window_mask

inline InboundSa* Sad::place_of(std::uint32_t spi_host_order) const {
  return places_ + (spi_host_order & place_mask_);
}
inline std::size_t Sad::slot_of(const InboundSa& sa) const {
  return static_cast<std::size_t>(&sa - places_);
}
inline bool Sad::is_expected(std::uint32_t spi_host_order) const {
  // Relaxed: nothing is read because of it.
  return spi_host_order != 0 &&
         place_of(spi_host_order)->leased.load(std::memory_order_relaxed) == spi_host_order;
}

/// Bytes in front of the IV, ready but for lengths, identification, checksum, DSCP and sequence:
/// IPv4 or IPv6, then UDP or not. Transport mode keeps only UDP's.
inline constexpr std::size_t kMaxOuterBytes = 48;
struct alignas(64) OuterHeader {
  std::array<std::uint8_t, kMaxOuterBytes> bytes{};
  std::uint32_t spi = 0;       ///< network order
  std::uint32_t salt = 0;      ///< as in InboundSa
  std::uint32_t ipv4_sum = 0;  ///< of the constant IPv4 fields, memory order, folded to 16 bits
  std::uint8_t ip_bytes = 0;   ///< 20, 40; transport: 0
  std::uint8_t udp_bytes = 0;  ///< 8 or 0
  crypto::esp::TransformId transform{};
};
static_assert(sizeof(OuterHeader) == 64);

struct alignas(64) OutboundSa {
  // Written by main before a policy names the slot.
  const crypto::esp::ExpandedKey* key = nullptr;
  SaDetails* details = nullptr;
  bool is_tunnel : 1 = true;
  bool has_esn : 1 = false;
  bool is_plain = false;  ///< see kPlainIvBytes
  std::atomic<std::uint8_t> current_header{0};
  std::atomic<bool> stopped{true};
  /// Drawn at installation: a manual SA begins again at sequence number 1 with the same key after a
  /// restart, and must not meet the IVs of its life before. It does where 32 random bits come
  /// again, which nothing rules out; within a life they are told apart for certain
  /// (control/manual_keys.hpp).
  std::uint32_t iv_start = 0;

  /// Any worker: blocks are reserved by an atomic add when there are several.
  std::atomic<std::uint64_t> sequence{0};  ///< last number given out
  std::atomic<std::uint64_t> last_tsc{0};
  std::atomic<std::uint64_t> bytes_left{~0ULL};    ///< as inbound; any worker: SharedAdd::take
  std::atomic<std::uint64_t> ends_at{kNeverEnds};  ///< as inbound
  /// The last number that may be given out. Written by main; of an SA that another one follows it
  /// is lowered while workers send.
  std::atomic<std::uint64_t> sequence_limit{0};
  alignas(64) std::array<OuterHeader, 2> headers;

  [[nodiscard]] const OuterHeader& outer() const {
    // Acquire pairs with the release in Sad::update_endpoints.
    return headers[current_header.load(std::memory_order_acquire)];
  }
  /// What the explicit IV of a packet holds, or is made from, host order: unique under the key
  /// (RFC 4106 §3.1).
  [[nodiscard]] std::uint64_t iv(std::uint64_t number) const {
    return (std::uint64_t{iv_start} << 32U) + number;
  }
};
static_assert(sizeof(OutboundSa) == 192 && offsetof(OutboundSa, headers) == 64);

/// RFC 4301 §4.4.2.1: "a hard lifetime when the current SA ends and is destroyed". Workers end it
/// by time themselves, for the main thread may look at it seconds later. `tsc`: of the burst.
template <typename Sa>
[[nodiscard]] bool has_ended(const Sa& sa, std::uint64_t tsc) {
  // Relaxed: nothing is read because of it.
  return tsc >= sa.ends_at.load(std::memory_order_relaxed);
}
/// Not a packet more; of several causes the first one stays.
template <typename Sa>
void stop_sa(Sa& sa, StopCause cause) {
  StopCause none = StopCause::none;
  sa.details->stop_cause.compare_exchange_strong(none, cause, std::memory_order_relaxed);
  sa.stopped.store(true, std::memory_order_relaxed);
}

/// Adds to a counter that has one writer or, with several workers, many. Where it has an end, a
/// look and a step apart would not do, however far from the end the look is: others may come to the
/// end before the step of a worker that the system put to sleep.
class SharedAdd {
 public:
  explicit SharedAdd(std::uint32_t workers) : has_many_(workers > 1) {}
  /// The value before.
  std::uint64_t operator()(std::atomic<std::uint64_t>& counter, std::uint64_t amount) const {
    // Relaxed: numbers must be unique, nothing is ordered by them.
    if (has_many_) return counter.fetch_add(amount, std::memory_order_relaxed);
    const std::uint64_t before = counter.load(std::memory_order_relaxed);
    counter.store(before + amount, std::memory_order_relaxed);
    return before;
  }
  /// Takes from what is left, or, where that is less, nothing: all that is ever taken is never more
  /// than there was.
  [[nodiscard]] bool take(std::atomic<std::uint64_t>& left, std::uint64_t amount) const {
    std::uint64_t before = left.load(std::memory_order_relaxed);
    do {
      if (before < amount) [[unlikely]]
        return false;
    } while (!step(left, before, before - amount));
    return true;
  }
  /// From `before`, which the counter was at a look. False: `before` is what it is meanwhile, and
  /// what is read next is read behind it.
  [[nodiscard]] bool step(std::atomic<std::uint64_t>& counter, std::uint64_t& before,
                          std::uint64_t after) const {
    if (has_many_) {
      // Acquire: as the first look of whoever gives out numbers (reserve_sequence).
      return counter.compare_exchange_weak(before, after, std::memory_order_acquire);
    }
    counter.store(after, std::memory_order_relaxed);
    return true;
  }

 private:
  bool has_many_;
};

/// Numbers that a worker takes at once are fewer.
inline constexpr std::uint64_t kReservedAtOnce = 4096;

/// Numbers `first` .. `first + count - 1` are the caller's; fewer than asked when a limit is near.
struct SequenceBlock {
  std::uint64_t first = 0;
  std::uint32_t count = 0;
};

/// Reserves sequence numbers for a burst at once. At the limit the SA stops (RFC 4303 §3.3.3: "the
/// sender … MUST NOT send a packet on an SA if doing so would cause the sequence number to cycle").
/// The number is read before the limit (acquire). Sad::end_numbers lowers the limit and looks at
/// the number then: whoever has read the limit of before must not count from a number that
/// `end_numbers` has not seen, or a successor under the same key would use it again.
[[nodiscard]] SequenceBlock reserve_sequence(OutboundSa& sa, std::uint32_t count, SharedAdd add);
/// Whether so many are left behind `last`.
[[nodiscard]] inline bool has_numbers(const OutboundSa& sa, std::uint32_t count,
                                      std::uint64_t last) {
  const std::uint64_t limit = sa.sequence_limit.load(std::memory_order_relaxed);
  return last < limit && limit - last >= count;
}
/// The same of all that are asked for, or none: the SA goes on with the fewer that are left. `last`
/// is the number before them.
[[nodiscard]] inline bool reserve_all(OutboundSa& sa, std::uint32_t count, SharedAdd add,
                                      std::uint64_t& last) {
  last = sa.sequence.load(std::memory_order_acquire);  // as reserve_sequence
  do {
    if (!has_numbers(sa, count, last)) [[unlikely]]
      return false;
  } while (!add.step(sa.sequence, last, last + count));
  return true;
}

/// Why an SA that stopped does not pass a packet.
[[nodiscard]] DropReason drop_reason_of(StopCause cause);

/// The general selector check (RFC 4301 §5.2 step 4): any of the remote selectors takes the source,
/// any of the local ones the destination.
[[nodiscard]] bool selectors_match(const SaDetails& details, const wire::IpAddress& source,
                                   const wire::IpAddress& destination, std::uint8_t protocol,
                                   const wire::Ports& ports);

}  // namespace culvert::dataplane
