// The security policy database (RFC 4301 §4.4.1): ordered, first match wins. A new version is built
// aside and swapped; workers read an immutable snapshot. Single writer: main.
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "config/config.hpp"
#include "dataplane/tables/counters.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/reclaimer.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane {

enum class PolicyOrigin : std::uint8_t { configured, negotiated, trap, manual };
enum class PolicyAction : std::uint8_t { bypass, discard, protect };

/// One policy as the main thread has it. `protect` without an outbound SA is a trap: packets are
/// held and an SA is asked for, or dropped; never sent in clear. bypass and discard match both
/// directions of a flow; protect matches local → remote, and its reverse is what must not arrive in
/// clear (RFC 4301 §5.2).
struct PolicyEntry {
  PolicyOrigin origin = PolicyOrigin::configured;
  PolicyAction action = PolicyAction::discard;
  std::uint32_t child_index = 0;              ///< protect only
  channel::PolicyId policy{};                 ///< negotiated only
  std::vector<wire::TrafficSelector> local;   ///< configured: source
  std::vector<wire::TrafficSelector> remote;  ///< configured: destination
  SlotIndex outbound = kNoSlot;
  std::uint64_t packets = 0;  ///< carried over by `replace` for entries that stay
};

/// What a packet meets.
enum class Verdict : std::uint8_t {
  bypass,
  discard,
  protect,
  trap,                 ///< protect, but no SA
  cleartext_violation,  ///< in clear although its reverse is protected
  no_match,             ///< default_policy decides
};

/// Where a packet is from decides which rules it meets.
enum class PacketOrigin : std::uint8_t {
  clear,       ///< received unprotected: must not be what a reversed protect entry protects
  tunnel,      ///< decrypted by us: its SA's selectors were checked already
  originated,  ///< made by us
};

/// A packet's selectors (RFC 4301 §4.4.1.1). Ports in host order; ICMP: type << 8 | code in both.
struct FlowKey {
  wire::IpAddress source, destination;
  std::uint16_t source_port = 0, destination_port = 0;
  std::uint8_t protocol = 0;
  bool ports_known = true;  ///< false for non-first fragments: only any-port and OPAQUE match
  friend bool operator==(const FlowKey&, const FlowKey&) = default;
};

/// An immutable version of the policies, but for two things that are stored into it: which SA an
/// entry's traffic goes to (one store at a rekey), and counters.
class SpdSnapshot {
 public:
  static constexpr std::uint32_t kNoEntry = 0xffffffff;

  /// A worker's counter of an entry, on a cache line of its own.
  struct alignas(64) PaddedCounter {
    Counter packets;
  };
  using EntryCounters = std::shared_ptr<PaddedCounter[]>;  ///< by worker; shared between versions

  struct Match {
    std::uint32_t entry = kNoEntry;
    bool reverse = false;
  };

  /// First match in order. `entry` is kNoEntry when there is none.
  [[nodiscard]] Match find(const FlowKey& flow, PacketOrigin origin) const;
  /// What a match means now; the outbound SA is read at the time of the call.
  [[nodiscard]] Verdict verdict(const Match& match, SlotIndex& outbound) const {
    outbound = kNoSlot;
    if (match.entry == kNoEntry) return Verdict::no_match;
    const Live& live = live_[match.entry];
    switch (live.action) {
      case PolicyAction::bypass:
        return Verdict::bypass;
      case PolicyAction::discard:
        return Verdict::discard;
      case PolicyAction::protect:
        break;
    }
    if (match.reverse) return Verdict::cleartext_violation;
    // Acquire pairs with the release in `Spd::rebind`: the SA before its slot.
    outbound = live.outbound.load(std::memory_order_acquire);
    return outbound == kNoSlot ? Verdict::trap : Verdict::protect;
  }
  [[nodiscard]] std::uint32_t child_index(const Match& match) const {
    return live_[match.entry].child_index;
  }
  /// A worker's packets of the policy; nullptr when none matched. Lives as long as the snapshot.
  [[nodiscard]] Counter* counter_of(const Match& match, WorkerId worker) const {
    if (match.entry == kNoEntry) return nullptr;
    return &live_[match.entry].counters[raw(worker)].packets;
  }
  void count(const Match& match, WorkerId worker, std::uint64_t packets) const {
    if (Counter* const counter = counter_of(match, worker)) counter->add(packets);
  }
  /// Differs from that of every other version: what flow caches compare.
  [[nodiscard]] std::uint32_t generation() const { return generation_; }

 private:
  friend class Spd;
  struct Live {
    std::atomic<SlotIndex> outbound{kNoSlot};
    PolicyAction action = PolicyAction::discard;
    std::uint32_t child_index = 0;
    PaddedCounter* counters = nullptr;
  };
  struct Rule {
    wire::TrafficSelector source, destination;
    std::uint32_t entry = 0;
    bool reverse = false;
  };
  std::vector<Rule> v4_, v6_;
  std::unique_ptr<Live[]> live_;
  std::vector<EntryCounters> owners_;
  std::uint32_t generation_ = 0;
};

class Spd {
 public:
  Spd(std::uint32_t workers, Reclaimer& reclaimer);
  ~Spd();
  Spd(const Spd&) = delete;
  Spd& operator=(const Spd&) = delete;

  // ---- main thread ----

  /// The whole ordered list. Packet counts of entries that stay (same origin, child, policy id and
  /// selectors) go on.
  void replace(std::vector<PolicyEntry> entries);
  /// One pointer store: the negotiated policy's traffic goes to another SA. False: no such policy.
  bool rebind(channel::PolicyId policy, SlotIndex outbound);
  /// No policy names `outbound` any more; those that did become traps.
  void unbind(SlotIndex outbound);
  /// The current list with summed packet counts.
  [[nodiscard]] std::vector<PolicyEntry> entries() const;

  // ---- workers ----

  /// Valid until the worker's next quiescent report.
  [[nodiscard]] const SpdSnapshot& snapshot() const {
    // Acquire pairs with the release in `replace`.
    return *current_.load(std::memory_order_acquire);
  }

 private:
  [[nodiscard]] SpdSnapshot::EntryCounters counters_for(const PolicyEntry& entry) const;

  std::uint32_t workers_;
  Reclaimer& reclaimer_;
  std::atomic<SpdSnapshot*> current_{nullptr};
  std::vector<PolicyEntry> entries_;  ///< of `current_`, in order
  std::uint32_t last_generation_ = 0;
};

}  // namespace culvert::dataplane
