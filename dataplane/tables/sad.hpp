// The security association database, both directions (RFC 4301 §4.4.2). What the main thread does
// with it; what a worker reads of an SA is in sa.hpp.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "config/header_options.hpp"
#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/ecn_alarm.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/last_refusal.hpp"
#include "dataplane/tables/reclaimer.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane {

struct InboundSa;   // sa.hpp
struct OutboundSa;  // sa.hpp

/// By how far packets came late: bucket k counts distances below 2^k from the highest number.
inline constexpr std::size_t kLateBuckets = 21;
struct LatePackets {
  std::array<std::uint64_t, kLateBuckets> accepted{};  ///< within the window, verified
  /// Left of the window: dropped before their ICV was looked at, so that a forger can make some,
  /// and whoever sends old packets again.
  std::array<std::uint64_t, kLateBuckets> missed{};
};

/// What an SA has carried: every packet that it sealed, or that was authentic, whatever became of
/// it then. Bytes are those of inner IP packets, with what hides their size (RFC 4303 §2.7) and
/// without ESP's own padding.
struct SaUsage {
  std::uint64_t packets = 0, bytes = 0;
  std::uint64_t last_packet_tsc = 0;  ///< 0: never one
  std::uint64_t sequence = 0;         ///< highest received and verified, or last sent
};
/// A packet that an SA's selectors refused, and what they would have taken.
struct SaRefusal {
  RefusedPacket packet;
  std::vector<wire::TrafficSelector> source, destination;
};
struct SaTraffic : SaUsage {
  std::array<std::uint64_t, kDropReasons> drops{};
  std::uint64_t last_drop_tsc = 0;                     ///< 0: never
  std::array<std::uint64_t, kEcnAlarms> ecn_alarms{};  ///< inbound
  LatePackets late;                                    ///< inbound
  std::optional<SaRefusal> last_refusal;               ///< inbound
  std::uint64_t resynchronized = 0;                    ///< inbound (RFC 4303 appendix A3)
  std::uint64_t dummies = 0;                           ///< outbound, of `packets`
};

inline constexpr std::uint16_t kNoPathMtu = 0xffff;  ///< the link's alone counts
static_assert(config::HeaderOptions::kAnyPath == kNoPathMtu);

/// What of an SA is decided here and not negotiated.
struct SaSettings {
  config::HeaderOptions headers;
  std::uint64_t first_sequence = 1;     ///< outbound: sent first; inbound: what is before is old
  std::uint16_t path_mtu = kNoPathMtu;  ///< outbound: learnt before, as `set_path_mtu`
  std::optional<std::uint32_t> iv_start{};  ///< outbound: OutboundSa's; nullopt: drawn
  /// Inbound: of those before `first_sequence`, in order, what was not received.
  std::vector<std::uint64_t> missing{};
  /// By Sad::expand, and only read during the installation; nullptr: it expands the key itself.
  const crypto::esp::ExpandedKey* expanded = nullptr;
};

/// How far an SA had come when the last worker was done with it.
struct LastNumbers {
  std::uint64_t highest = 0;           ///< received and verified, or sent
  std::vector<std::uint64_t> missing;  ///< inbound: ReplayWindow's
};
using TakeLastNumbers = std::function<void(const LastNumbers&)>;
using TakeTraffic = std::function<void(const SaTraffic&)>;
/// What is told of an SA that was removed when no worker has it any more, by the reclaimer: all
/// that it ever carried, and how far it came.
struct WhenEnded {
  TakeTraffic traffic{};
  TakeLastNumbers numbers{};
};

inline constexpr std::uint64_t kNeverEnds = ~0ULL;  ///< of a moment in TSC cycles

/// Why an SA no longer passes packets although it is installed; main asks (`stopped`).
enum class StopCause : std::uint8_t { none, hard_bytes, hard_packets, hard_time, sequence };

/// The configured half of an SA: control only; workers never see it. No key.
struct SaRecord {
  channel::InstallSa spec;  ///< the key is wiped
  SlotIndex slot = kNoSlot;
  std::uint64_t installed_tsc = 0;
  bool is_over = false;  ///< the main thread's expiry scan has seen it, and logged it
};

class Sad {
 public:
  /// `capacity` slots a direction (rounded up to a power of two). `engine` expands keys; it is only
  /// used by the main thread. The error is a sentence (no memory).
  static std::expected<std::unique_ptr<Sad>, std::string> create(std::uint32_t capacity,
                                                                 std::uint32_t workers,
                                                                 const crypto::esp::Engine& engine,
                                                                 Reclaimer& reclaimer);
  virtual ~Sad() = default;
  /// Whether the keys' pages stay in memory; otherwise they may be swapped out.
  [[nodiscard]] virtual bool keys_locked() const = 0;

  // ---- main thread ----

  /// Up to `count` inbound SPIs that only an InstallSa of the same connection may use.
  virtual std::vector<channel::Spi> lease_spis(std::uint32_t count) = 0;
  /// The key daemon is gone, another may be there: what it leased and did not install waits for the
  /// next one, which keeps what peers know of; its first `lease_spis` returns the rest.
  virtual void abandon_leases() = 0;
  /// True: `spi` was leased before, and is again.
  [[nodiscard]] virtual bool keep_lease(channel::Spi spi) = 0;
  /// Installs either direction; an inbound SPI must be leased. Does not wipe the caller's key.
  virtual std::expected<SlotIndex, channel::Outcome> install(const channel::InstallSa& request,
                                                             std::uint64_t now_tsc,
                                                             const SaSettings& settings = {}) = 0;
  /// As `install`, for manual SAs: any inbound SPI ≥ 256 that is not in use.
  virtual std::expected<SlotIndex, channel::Outcome> install_manual(
      const channel::InstallSa& request, std::uint64_t now_tsc,
      const SaSettings& settings = {}) = 0;
  /// The request's key as `SaSettings::expanded` takes it: where another SA goes for this one, it
  /// need not go for a key that the engine refuses. The caller wipes it.
  [[nodiscard]] virtual std::expected<void, channel::Outcome> expand(
      const channel::InstallSa& request, crypto::esp::ExpandedKey& key) const = 0;
  /// Stops it at once; slot and key are wiped and reusable after a grace period. Until then workers
  /// may count what they have in hand.
  virtual channel::Outcome remove(channel::SaId sa, WhenEnded ended = {}) = 0;
  /// The same of an inbound SA that another one follows under its SPI: packets wait for that one as
  /// they do for one that is being negotiated, unless the place of the SPI is another SA's.
  virtual channel::Outcome remove_for_successor(channel::SaId sa, WhenEnded ended) = 0;
  /// Outbound: it gives out no number beyond `last`, which its successor begins behind. False: it
  /// may have come further already.
  [[nodiscard]] virtual bool end_numbers(const SaRecord& record, std::uint64_t last) = 0;
  /// Outbound, and no policy names it yet: its first number is the one behind `last`. Where there
  /// is none, it has none.
  virtual void begin_behind(const SaRecord& record, std::uint64_t last) = 0;
  /// The record has them at once. Packets have them at once, too, or, behind another change, when
  /// its grace period is over, if no later one has come by then.
  virtual channel::Outcome update_endpoints(const channel::UpdateEndpoints& request) = 0;
  /// Outbound: the largest outer packet that the way to the peer takes, as ICMP says; kNoPathMtu:
  /// the link's. Never more than the SA's `path_mtu` option.
  virtual void set_path_mtu(channel::SaId sa, std::uint16_t mtu) = 0;
  /// What holds; kNoPathMtu: the link's alone.
  [[nodiscard]] virtual std::uint16_t path_mtu(const SaRecord& record) const = 0;
  /// Workers pass no packet that they receive from this moment on, in TSC cycles; kNeverEnds until
  /// it is told.
  virtual void set_end(const SaRecord& record, std::uint64_t tsc) = 0;
  [[nodiscard]] virtual std::uint64_t end_of(const SaRecord& record) const = 0;
  /// No packet more, at once; the SA stays visible until removed.
  virtual void stop(channel::SaId sa, StopCause cause) = 0;

  [[nodiscard]] virtual SaRecord* find(channel::SaId sa) = 0;
  /// An inbound SA by SPI; nullptr when unknown.
  [[nodiscard]] virtual SaRecord* find_inbound(channel::Spi spi) = 0;
  /// An outbound SA by its place; nullptr when there is none.
  [[nodiscard]] virtual SaRecord* find_outbound(SlotIndex slot) = 0;
  virtual void for_each(const std::function<void(SaRecord&)>& visit) = 0;
  [[nodiscard]] virtual std::uint32_t count(channel::Direction direction) const = 0;
  /// How many more there can be at this moment: neither installed, nor leased, nor in their grace.
  [[nodiscard]] virtual std::uint32_t free_slots(channel::Direction direction) const = 0;
  [[nodiscard]] virtual bool supports(const crypto::EspSuite& suite) const = 0;
  [[nodiscard]] virtual SaTraffic traffic(const SaRecord& record) const = 0;
  /// The part of it that lifetimes count, at a fraction of the cost.
  [[nodiscard]] virtual SaUsage usage(const SaRecord& record) const = 0;
  [[nodiscard]] virtual StopCause stopped(const SaRecord& record) const = 0;

  // ---- workers ----

  /// nullptr when there is no such SA. One array access for SPIs of ours; manual SPIs stand in a
  /// small table that is asked when that misses.
  [[nodiscard]] virtual InboundSa* inbound(std::uint32_t spi_host_order) const = 0;
  [[nodiscard]] virtual OutboundSa* outbound(SlotIndex slot) const = 0;
  /// The place where an SPI of ours would stand, found without a call; its `spi` says whether it
  /// does. What is elsewhere (some manual SAs) is for `inbound`.
  [[nodiscard]] InboundSa* place_of(std::uint32_t spi_host_order) const;
  /// How many places there are in a direction: every SlotIndex of an SA is below.
  [[nodiscard]] std::uint32_t slots() const { return place_mask_ + 1; }
  /// Which place an SA has.
  [[nodiscard]] std::size_t slot_of(const InboundSa& sa) const;
  /// Of an SPI without an SA: whether one is being negotiated for it, and may come.
  [[nodiscard]] bool is_expected(std::uint32_t spi_host_order) const;
  /// Whether any is elsewhere.
  [[nodiscard]] bool has_displaced() const {
    // Relaxed: of an SA that is installed this moment the next burst knows.
    return displaced_->load(std::memory_order_relaxed) != 0;
  }

 protected:
  InboundSa* places_ = nullptr;  ///< by the SPI's low bits
  std::uint32_t place_mask_ = 0;
  const std::atomic<std::uint32_t>* displaced_ = nullptr;  ///< how many are elsewhere
};

}  // namespace culvert::dataplane
