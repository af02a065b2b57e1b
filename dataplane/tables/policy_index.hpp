// Which of many ordered rules a packet meets first. Rules are grouped by their shape: how many
// leading bits of each field all their packets have in common. A packet is looked up once a shape,
// in one hash table; deployments have a handful of shapes however many rules they have. Where there
// are many, only those are asked for that have rules around both addresses (shape_probes.hpp). One
// writer changes it rule by rule while workers read (RCU).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/tables/flow_key.hpp"
#include "dataplane/tables/mapped_array.hpp"
#include "dataplane/tables/reclaimer.hpp"
#include "dataplane/tables/shape_probes.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane {

/// One pair of selectors of a policy, in one direction.
struct PolicyRule {
  wire::TrafficSelector source, destination;
  PolicyRank rank;
  std::uint32_t entry = 0;     ///< among rules of one rank the lower one is first
  bool reverse = false;        ///< comes behind the same entry's other direction
  bool in_clear_only = false;  ///< only packets that were received unprotected meet it
  /// A later fragment that may be of it goes no further: what is of it must not pass otherwise.
  bool must_be_ruled_out = false;
};

/// A rule as it is compared, addresses as numbers.
template <typename Address>
struct CompiledRule {
  Address source_first, source_last, destination_first, destination_last;
  std::uint16_t source_port_first, source_port_last;  ///< first > last: no port that is known
  std::uint16_t destination_port_first, destination_port_last;
  std::uint8_t source_protocol, destination_protocol;  ///< 0: any
  bool reverse : 1;
  bool in_clear_only : 1;
  bool takes_unknown_ports : 1;
  std::uint32_t entry;
  friend bool operator==(const CompiledRule&, const CompiledRule&) = default;
};

/// A packet as it is compared.
template <typename Address>
struct CompiledFlow {
  Address source, destination;
  std::uint16_t source_port, destination_port;
  std::uint8_t protocol;
  bool ports_known;
};

/// The rules of one family of addresses.
template <typename Address>
class RuleTable {
 public:
  using Rule = CompiledRule<Address>;
  using Flow = CompiledFlow<Address>;
  using Shape = RuleShape<Address>;

  struct Node {
    Rule rule;
    std::uint32_t hash = 0;
    PolicyRank rank;
    std::atomic<Node*> next{nullptr};
  };
  using Retired = std::vector<std::unique_ptr<Node>>;

  /// For so many rules; more are slower, not wrong.
  RuleTable(std::size_t rules, Reclaimer& reclaimer);
  ~RuleTable();
  RuleTable(const RuleTable&) = delete;
  RuleTable& operator=(const RuleTable&) = delete;

  // ---- main thread ----

  /// Visible to workers with `publish`, or before when its shape is there already.
  void insert(const PolicyRule& rule);
  /// Workers that look now may still meet it; it is theirs until the grace period ends.
  void erase(const PolicyRule& rule, Retired& retired);
  /// Makes the shapes of what was inserted and erased what workers look for.
  void publish();
  [[nodiscard]] std::size_t shapes() const { return shapes_.size(); }

  // ---- workers ----

  /// Shapes to look for.
  [[nodiscard]] std::size_t probes() const {
    return probes_.load(std::memory_order_acquire)->size();
  }
  /// Those of them that a search for the flow looks for if it meets nothing.
  [[nodiscard]] std::size_t probes_for(const Flow& flow) const;
  /// The first rule in order that the packet meets; nullptr: none.
  [[nodiscard]] const Node* find(const Flow& flow, bool in_clear) const;

 private:
  using Probes = ShapeProbes<Address>;
  using Probe = typename Probes::Probe;
  struct Group {
    std::size_t rules = 0;
    PolicyRank first;
  };

  /// Buckets are asked for so many at once: where memory is slow, one after the other they took
  /// 0.1 µs a shape.
  static constexpr std::size_t kProbesAhead = 16;

  /// The first rule of a shape that the packet meets, if it is before `best`; else that.
  [[nodiscard]] const Node* better_of(const Probe& probe, std::uint32_t hash, const Flow& flow,
                                      bool in_clear, const Node* best) const;
  [[nodiscard]] std::atomic<Node*>& bucket(std::uint32_t hash) const {
    return buckets_[hash & mask_];
  }

  Reclaimer& reclaimer_;
  std::uint32_t mask_;
  /// Each a list in order. In huge pages where the kernel gives some: a search looks into as many
  /// pages as there are shapes.
  MappedArray<std::atomic<Node*>> buckets_;
  PrefixFilter prefixes_;
  std::atomic<const Probes*> probes_;
  std::map<Shape, Group> shapes_;
  bool shapes_changed_ = false;
};

extern template class RuleTable<std::uint32_t>;
extern template class RuleTable<unsigned __int128>;

class UnclearRules;

/// Both families.
class PolicyIndex {
 public:
  static constexpr std::uint32_t kNoEntry = 0xffffffff;
  struct Match {
    std::uint32_t entry = kNoEntry;
    bool reverse = false;
    bool unclear = false;  ///< a later fragment, which does not show whether it is of the entry
  };

  PolicyIndex(std::size_t rules, Reclaimer& reclaimer);
  ~PolicyIndex();
  PolicyIndex(const PolicyIndex&) = delete;
  PolicyIndex& operator=(const PolicyIndex&) = delete;

  /// Quickest from the last in order to the first. `publish` when all are in.
  void insert(const PolicyRule& rule);
  /// Frees the rules, which may be any of one entry's, after the grace period.
  void erase(std::span<const PolicyRule> rules, Reclaimer& reclaimer);
  void publish();

  /// The most that a search asks for. Worker threads.
  [[nodiscard]] std::size_t probes() const { return std::max(v4_.probes(), v6_.probes()); }
  /// What one for this flow asks for if it meets nothing. Worker threads.
  [[nodiscard]] std::size_t probes_for(const FlowKey& flow) const;
  /// `entry` is kNoEntry when there is none. Worker threads.
  [[nodiscard]] Match find(const FlowKey& flow, bool in_clear) const;
  /// The same, but by what the packet shows: no match is unclear.
  [[nodiscard]] Match find_shown(const FlowKey& flow, bool in_clear) const;

 private:
  RuleTable<std::uint32_t> v4_;
  RuleTable<unsigned __int128> v6_;
  std::unique_ptr<UnclearRules> unclear_;
};

/// The rules of the last changes: whether what a flow met before them is what it meets now, told
/// without a search, which costs a probe a shape.
class RecentRules {
 public:
  /// A flow that more changes have passed by is searched for again.
  static constexpr std::uint32_t kChanges = 32;
  /// Beyond, a search is as cheap, and counted by whoever paces searches.
  static constexpr std::size_t kMostRules = 256;

  RecentRules() = default;
  ~RecentRules();
  RecentRules(const RecentRules&) = delete;
  RecentRules& operator=(const RecentRules&) = delete;

  /// Main thread: these came or went with the change that makes `generation`, before workers are
  /// told of it. Generations follow one another.
  void note(std::uint64_t generation, std::span<const PolicyRule> rules, Reclaimer& reclaimer);
  /// Worker threads: whether the flow meets no rule of the changes behind `since` up to `now`.
  /// False, too, when one of them is not known any more.
  [[nodiscard]] bool pass_by(const FlowKey& flow, bool in_clear, std::uint64_t since,
                             std::uint64_t now) const;

 private:
  struct Noted {
    std::uint64_t generation;
    std::vector<CompiledRule<std::uint32_t>> v4;
    std::vector<CompiledRule<unsigned __int128>> v6;
  };

  std::array<std::atomic<const Noted*>, kChanges> noted_{};  ///< RCU, by generation
};

}  // namespace culvert::dataplane
