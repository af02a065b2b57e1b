// Which of many ordered rules a packet meets first. Rules are grouped by their shape: how many
// leading bits of each field all their packets have in common. A packet is looked up once a shape,
// in one hash table; deployments have a handful of shapes however many rules they have. One writer
// changes it rule by rule while workers read (RCU).
#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/tables/flow_key.hpp"
#include "dataplane/tables/reclaimer.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane {

/// Where a policy stands in the order: by section, then by place in it.
struct PolicyRank {
  std::uint64_t section = 0;
  std::uint64_t place = 0;
  friend constexpr auto operator<=>(const PolicyRank&, const PolicyRank&) = default;
};

/// One pair of selectors of a policy, in one direction.
struct PolicyRule {
  wire::TrafficSelector source, destination;
  PolicyRank rank;
  std::uint32_t entry = 0;     ///< among rules of one rank the lower one is first
  bool reverse = false;        ///< comes behind the same entry's other direction
  bool in_clear_only = false;  ///< only packets that were received unprotected meet it
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
};

/// A packet as it is compared.
template <typename Address>
struct CompiledFlow {
  Address source, destination;
  std::uint16_t source_port, destination_port;
  std::uint8_t protocol;
  bool ports_known;
};

/// Leading bits that the packets of a rule have in common, as masks.
template <typename Address>
struct RuleShape {
  Address source, destination;
  std::uint16_t source_port, destination_port;
  std::uint8_t protocol;
  friend constexpr auto operator<=>(const RuleShape&, const RuleShape&) = default;
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

  /// The first rule in order that the packet meets; nullptr: none.
  [[nodiscard]] const Node* find(const Flow& flow, bool in_clear) const;

 private:
  struct Probe {
    Shape shape;
    std::uint32_t salt;
    PolicyRank first;  ///< no rule of this shape stands before it
  };
  using Probes = std::vector<Probe>;
  struct Group {
    std::size_t rules = 0;
    PolicyRank first;
  };

  [[nodiscard]] std::atomic<Node*>& bucket(std::uint32_t hash) const {
    return buckets_[hash & mask_];
  }

  Reclaimer& reclaimer_;
  std::uint32_t mask_;
  std::unique_ptr<std::atomic<Node*>[]> buckets_;  ///< each a list in order
  std::atomic<const Probes*> probes_;              ///< by `first`
  std::map<Shape, Group> shapes_;
  bool shapes_changed_ = false;
};

extern template class RuleTable<std::uint32_t>;
extern template class RuleTable<unsigned __int128>;

/// Both families.
class PolicyIndex {
 public:
  static constexpr std::uint32_t kNoEntry = 0xffffffff;
  struct Match {
    std::uint32_t entry = kNoEntry;
    bool reverse = false;
  };

  PolicyIndex(std::size_t rules, Reclaimer& reclaimer)
      : v4_(rules, reclaimer), v6_(rules, reclaimer) {}

  /// Quickest from the last in order to the first. `publish` when all are in.
  void insert(const PolicyRule& rule);
  /// Frees the rules, which may be any of one entry's, after the grace period.
  void erase(std::span<const PolicyRule> rules, Reclaimer& reclaimer);
  void publish();

  /// `entry` is kNoEntry when there is none. Worker threads.
  [[nodiscard]] Match find(const FlowKey& flow, bool in_clear) const;

 private:
  RuleTable<std::uint32_t> v4_;
  RuleTable<unsigned __int128> v6_;
};

}  // namespace culvert::dataplane
