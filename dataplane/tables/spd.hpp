// The security policy database (RFC 4301 §4.4.1): ordered, first match wins. A whole list is built
// aside and swapped; one policy is put into the list that workers read, or taken out of it, at a
// cost that does not follow from how many there are. Single writer: main.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "channel/messages.hpp"
#include "config/config.hpp"
#include "dataplane/tables/counters.hpp"
#include "dataplane/tables/flow_key.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/policy_counters.hpp"
#include "dataplane/tables/policy_index.hpp"
#include "dataplane/tables/recent_rules.hpp"
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
  PolicyRank rank;  ///< no two that `insert` meets have the same
  PolicyOrigin origin = PolicyOrigin::configured;
  PolicyAction action = PolicyAction::discard;
  channel::ChildId child_id{};                ///< protect only
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
  unclear,              ///< may be what is protected or discarded, and does not show it
  no_match,             ///< default_policy decides
};

/// The list as workers read it: which policy a packet meets, what is done with it, counters.
class SpdSnapshot {
 public:
  static constexpr std::uint32_t kNoEntry = PolicyIndex::kNoEntry;
  using Match = PolicyIndex::Match;

  SpdSnapshot(std::uint32_t capacity, config::PolicyAction default_policy, Reclaimer& reclaimer);
  ~SpdSnapshot();
  SpdSnapshot(const SpdSnapshot&) = delete;
  SpdSnapshot& operator=(const SpdSnapshot&) = delete;

  /// First match in order. `entry` is kNoEntry when there is none. Read `generation` before it, for
  /// what is remembered of the answer.
  [[nodiscard]] Match find(const FlowKey& flow, PacketOrigin origin) const {
    return index_.find(flow, origin == PacketOrigin::clear);
  }
  /// First match in order of those that the packet shows to be of: no match is unclear.
  [[nodiscard]] Match find_shown(const FlowKey& flow, PacketOrigin origin) const {
    return index_.find_shown(flow, origin == PacketOrigin::clear);
  }
  /// How dear a search is: hash tables that it asks.
  [[nodiscard]] std::size_t probes() const { return index_.probes(); }
  /// What the search for this flow looks at.
  [[nodiscard]] SearchEffort effort(const FlowKey& flow, PacketOrigin origin) const {
    return index_.effort(flow, origin == PacketOrigin::clear);
  }
  /// Whether what a flow met under the generation `since` is what it meets under `now`: it meets
  /// none of the policies that came and went between. False, too, when that is not known any more.
  [[nodiscard]] bool stays(const FlowKey& flow, PacketOrigin origin, std::uint64_t since,
                           std::uint64_t now) const {
    return recent_.pass_by(flow, origin == PacketOrigin::clear, since, now);
  }
  /// What a match means now; the outbound SA is read at the time of the call.
  [[nodiscard]] Verdict verdict(const Match& match, SlotIndex& outbound) const {
    outbound = kNoSlot;
    if (match.entry == kNoEntry) return Verdict::no_match;
    if (match.unclear) return Verdict::unclear;
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
  /// Whether a match stands before another one in the order of the policies.
  [[nodiscard]] bool is_before(const Match& match, const Match& other) const {
    return std::pair(live_[match.entry].rank, match.entry) <
           std::pair(live_[other.entry].rank, other.entry);
  }
  /// Whether there may be packets in fragments all but the first of which do not show what they are
  /// to meet.
  [[nodiscard]] bool lets_pass_by_first() const {
    // Relaxed: who has found such a policy has seen what was written before it.
    return bypasses_by_port_.load(std::memory_order_relaxed) ||
           has_unclear_.load(std::memory_order_relaxed);
  }
  /// What is done with what no policy names: fixed for the life of a snapshot.
  [[nodiscard]] config::PolicyAction default_policy() const { return default_policy_; }
  [[nodiscard]] channel::ChildId child_id(const Match& match) const {
    return live_[match.entry].child_id;
  }
  /// A worker's packets of the policy; nullptr when none matched. Valid until the worker's next
  /// quiescent report.
  [[nodiscard]] Counter* counter_of(const Match& match, WorkerId worker) const {
    if (match.entry == kNoEntry) return nullptr;
    return &live_[match.entry].counters.of(worker);
  }
  void count(const Match& match, WorkerId worker, std::uint64_t packets) const {
    if (Counter* const counter = counter_of(match, worker)) counter->add(packets);
  }
  /// Another one after each change of which packet meets which policy: what flow caches compare. Of
  /// 64 bits: with 32, a thousand changes a second would bring the same again within fifty days,
  /// and a flow that has rested since would be taken for a known one.
  [[nodiscard]] std::uint64_t generation() const {
    // Acquire pairs with the release in `Spd`: who sees the number sees the change.
    return generation_.load(std::memory_order_acquire);
  }

 private:
  friend class Spd;
  struct Live {
    std::atomic<SlotIndex> outbound;
    PolicyAction action;
    channel::ChildId child_id;
    PolicyCounters::Place counters;
    PolicyRank rank;
  };

  const std::uint32_t capacity_;  ///< entries `live_` has room for
  const config::PolicyAction default_policy_;
  PolicyIndex index_;
  RecentRules recent_;
  Live* live_;  ///< raw memory: what no entry had is never touched
  std::atomic<std::uint64_t> generation_{0};
  // These stay when the last such policy goes.
  std::atomic<bool> bypasses_by_port_{false};
  std::atomic<bool> has_unclear_{false};  ///< whose packets not all fragments show to be of it
};

class Spd {
 public:
  /// Where a policy stands: in the order of the list.
  struct Place {
    PolicyRank rank;
    std::uint32_t index;  ///< in the snapshot
    friend auto operator<=>(const Place&, const Place&) = default;
  };

  /// `room`: for so many policies one can be added without building the whole list.
  Spd(std::uint32_t workers, Reclaimer& reclaimer, std::uint32_t room = 1024);
  ~Spd();
  Spd(const Spd&) = delete;
  Spd& operator=(const Spd&) = delete;

  // ---- main thread ----

  /// The whole list, by rank; among equal ones the first given is first. Packet counts of entries
  /// that stay (same origin, child, policy id and selectors) go on.
  /// `before_swap` is called when all of it is built, which may take seconds, and workers still
  /// read the list before.
  void replace(std::vector<PolicyEntry> entries, config::PolicyAction default_policy,
               const std::function<void()>& before_swap = {});
  /// The same, and with what no policy names is done as before.
  void replace(std::vector<PolicyEntry> entries) { replace(std::move(entries), default_policy_); }
  /// One more policy. A worker meets it or not, whole, for each of its packets.
  void insert(PolicyEntry entry);
  /// A negotiated policy less. False: there is none of this id.
  bool erase(channel::PolicyId policy);
  /// One pointer store: the negotiated policy's traffic goes to another SA. False: no such policy.
  bool rebind(channel::PolicyId policy, SlotIndex outbound);
  /// Routes are others, and with them whose packets are for us: what workers remember of any flow
  /// is looked for again, as after `replace`. Behind the change of routes.
  void outdate();
  /// No policy names `outbound` any more; those that did become traps.
  void unbind(SlotIndex outbound);
  /// How many rules of the same section a search for a packet of `entry` compares already.
  [[nodiscard]] std::size_t most_alike(const PolicyEntry& entry) const;
  /// Whether a policy sends its traffic to `outbound`.
  [[nodiscard]] bool names(SlotIndex outbound) const { return bound_.contains(outbound); }
  /// The current list with summed packet counts.
  [[nodiscard]] std::vector<PolicyEntry> entries() const;
  /// Up to `most` of them behind `after` (nullopt: from the first), which becomes the last one's
  /// place. None: that was the end. Policies may come and go between two calls.
  [[nodiscard]] std::vector<PolicyEntry> entries(std::optional<Place>& after,
                                                 std::size_t most) const;
  [[nodiscard]] config::PolicyAction default_policy() const { return default_policy_; }

  // ---- workers ----

  /// Valid until the worker's next quiescent report.
  [[nodiscard]] const SpdSnapshot& snapshot() const {
    // Acquire pairs with the release in `replace`.
    return *current_.load(std::memory_order_acquire);
  }

 private:
  struct Kept {
    PolicyEntry entry;
    PolicyCounters::Taken counters;  ///< shared between versions
  };
  using List = std::map<Place, Kept>;

  [[nodiscard]] SpdSnapshot& current() const { return *current_.load(std::memory_order_relaxed); }
  void keep(SpdSnapshot& in, std::uint32_t index, PolicyEntry entry,
            PolicyCounters::Taken counters);
  [[nodiscard]] std::uint32_t free_index();
  void bind(List::iterator kept, SlotIndex outbound);
  void forget_binding(List::iterator kept);
  void announce(SpdSnapshot& changed, std::span<const PolicyRule> rules);

  const std::uint32_t workers_;
  const std::uint32_t room_;
  Reclaimer& reclaimer_;
  PolicyCounters counters_;
  std::atomic<SpdSnapshot*> current_{nullptr};
  List list_;  ///< of `current_`, in order
  std::unordered_map<channel::PolicyId, List::iterator> negotiated_;
  std::unordered_multimap<SlotIndex, List::iterator> bound_;  ///< by outbound SA
  std::uint32_t next_index_ = 0;                              ///< from here on none had an entry
  std::shared_ptr<std::vector<std::uint32_t>> free_indices_;  ///< no worker reads them any more
  std::uint64_t last_generation_ = 0;
  config::PolicyAction default_policy_ = config::PolicyAction::discard;  ///< of `current_`
};

}  // namespace culvert::dataplane
