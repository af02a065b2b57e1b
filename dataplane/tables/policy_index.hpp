// Which of many ordered rules a packet meets first. Rules are grouped by their shape: how many
// leading bits of each field all their packets have in common. A packet is looked up once a shape,
// in one hash table; deployments have a handful of shapes however many rules they have. One writer
// changes it rule by rule while workers read (RCU).
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

#include "dataplane/tables/compiled_rule.hpp"
#include "dataplane/tables/flow_key.hpp"
#include "dataplane/tables/mapped_array.hpp"
#include "dataplane/tables/reclaimer.hpp"
#include "dataplane/tables/shape_probes.hpp"

namespace culvert::dataplane {

/// What a search costs: places asked, rules compared there.
struct SearchEffort {
  std::size_t probes = 0, rules = 0;
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
    /// The next one that is not for packets in clear alone: packets of a tunnel go by it. Without,
    /// they would go through all that must not come in clear, which a tunnel's own packets are.
    std::atomic<Node*> next_open{nullptr};
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
  /// Under what a search looks for it.
  [[nodiscard]] static std::uint32_t hash_of_rule(const PolicyRule& rule);
  /// How many rules of the section stand there.
  [[nodiscard]] std::size_t alike(std::uint32_t hash, std::uint64_t section) const;

  // ---- workers ----

  /// Shapes to look for.
  [[nodiscard]] std::size_t probes() const {
    return probes_.load(std::memory_order_acquire)->size();
  }
  /// The first rule in order that the packet meets; nullptr: none.
  [[nodiscard]] const Node* find(const Flow& flow, bool in_clear) const;
  /// What that looks at.
  [[nodiscard]] SearchEffort effort(const Flow& flow, bool in_clear) const;

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
  template <typename Seen>
  [[nodiscard]] const Node* better_of(const Probe& probe, std::uint32_t hash, const Flow& flow,
                                      bool in_clear, const Node* best, Seen& seen) const;
  template <typename Seen>
  [[nodiscard]] const Node* search(const Flow& flow, bool in_clear, Seen& seen) const;
  /// From there to `until` the next open one is `to` where it was `before`.
  static void lead(Node* from, const Node* until, const Node* before, Node* to);
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
  /// The most rules of their section that a search which looks for one of these, which are of one
  /// policy, compares already. Main thread.
  [[nodiscard]] std::size_t most_alike(std::span<const PolicyRule> rules) const;

  /// The most that a search asks for. Worker threads.
  [[nodiscard]] std::size_t probes() const { return std::max(v4_.probes(), v6_.probes()); }
  /// `entry` is kNoEntry when there is none. Worker threads.
  [[nodiscard]] Match find(const FlowKey& flow, bool in_clear) const;
  /// The same, but by what the packet shows: no match is unclear.
  [[nodiscard]] Match find_shown(const FlowKey& flow, bool in_clear) const;
  /// What that looks at.
  [[nodiscard]] SearchEffort effort(const FlowKey& flow, bool in_clear) const;

 private:
  RuleTable<std::uint32_t> v4_;
  RuleTable<unsigned __int128> v6_;
  std::unique_ptr<UnclearRules> unclear_;
};

}  // namespace culvert::dataplane
