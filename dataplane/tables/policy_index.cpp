#include "dataplane/tables/policy_index.hpp"

#include <algorithm>
#include <bit>

#include "dataplane/tables/unclear_rules.hpp"

namespace culvert::dataplane {
namespace {

/// The leading bits in which the two are the same.
template <typename Number>
Number common_mask(Number first, Number last) {
  Number mask = 0;
  for (Number bit = Number{1} << (sizeof(Number) * 8 - 1); bit != 0; bit >>= 1U) {
    if (((first ^ last) & bit) != 0) break;
    mask = static_cast<Number>(mask | bit);
  }
  return mask;
}

std::uint16_t port_mask(std::uint16_t first, std::uint16_t last) {
  return first > last ? std::uint16_t{0} : common_mask(first, last);
}

template <typename Address>
RuleShape<Address> shape_of(const CompiledRule<Address>& rule) {
  const bool has_protocol = (rule.source_protocol | rule.destination_protocol) != 0;
  return {common_mask(rule.source_first, rule.source_last),
          common_mask(rule.destination_first, rule.destination_last),
          port_mask(rule.source_port_first, rule.source_port_last),
          port_mask(rule.destination_port_first, rule.destination_port_last),
          static_cast<std::uint8_t>(has_protocol ? 0xff : 0)};
}

/// A packet that meets the rule has these values in the bits of its shape.
template <typename Address>
CompiledFlow<Address> example_of(const CompiledRule<Address>& rule) {
  return {rule.source_first,
          rule.destination_first,
          rule.source_port_first,
          rule.destination_port_first,
          rule.source_protocol != 0 ? rule.source_protocol : rule.destination_protocol,
          true};
}

std::uint64_t mixed(std::uint64_t state, std::uint64_t word) {
  state = (state ^ word) * 0x9e3779b97f4a7c15ULL;
  return state ^ (state >> 32U);
}
std::uint64_t mixed(std::uint64_t state, std::uint32_t source, std::uint32_t destination) {
  return mixed(state, std::uint64_t{source} << 32U | destination);
}
std::uint64_t mixed(std::uint64_t state, unsigned __int128 source, unsigned __int128 destination) {
  for (const auto address : {source, destination}) {
    state = mixed(state, static_cast<std::uint64_t>(address >> 64U));
    state = mixed(state, static_cast<std::uint64_t>(address));
  }
  return state;
}

template <typename Address>
std::uint32_t hash_of(const RuleShape<Address>& shape, std::uint32_t salt,
                      const CompiledFlow<Address>& flow) {
  const std::uint64_t rest =
      std::uint64_t{salt} << 40U |
      static_cast<std::uint64_t>(flow.protocol & shape.protocol) << 32U |
      static_cast<std::uint64_t>(flow.source_port & shape.source_port) << 16U |
      static_cast<std::uint64_t>(flow.destination_port & shape.destination_port);
  const auto hash = mixed(mixed(rest, static_cast<Address>(flow.source & shape.source),
                                static_cast<Address>(flow.destination & shape.destination)),
                          rest);
  return static_cast<std::uint32_t>(hash);
}

/// Tells shapes apart whose masked packets look alike.
template <typename Address>
std::uint32_t salt_of(const RuleShape<Address>& shape) {
  const std::uint64_t rest = std::uint64_t{shape.source_port} << 32U |
                             std::uint64_t{shape.destination_port} << 16U | shape.protocol;
  return static_cast<std::uint32_t>(mixed(rest, shape.source, shape.destination)) & 0xffffffU;
}

/// A bucket that is not empty costs a look at a rule, most of them of another shape: with two for
/// each rule a search of 700 shapes took 50 µs longer.
constexpr std::size_t kBucketsARule = 8;

/// Order among all rules.
template <typename Node>
bool is_before(const Node& a, const Node& b) {
  if (a.rank != b.rank) return a.rank < b.rank;
  if (a.rule.entry != b.rule.entry) return a.rule.entry < b.rule.entry;
  return !a.rule.reverse && b.rule.reverse;
}

/// The first of a list from there that packets of a tunnel may meet.
template <typename Node>
Node* open_from(Node* node) {
  if (node == nullptr || !node->rule.in_clear_only) return node;
  return node->next_open.load(std::memory_order_relaxed);
}

template <typename Table>
const typename Table::Node* node_in(const Table& table, const FlowKey& flow, bool in_clear) {
  return table.find(compiled<decltype(typename Table::Flow{}.source)>(flow), in_clear);
}

PolicyIndex::Match match_of(const auto* node, bool unclear) {
  if (node == nullptr) return {};
  return {node->rule.entry, node->rule.reverse, unclear};
}

/// What the packet is seen to be of, or what stands before it and it may be of.
template <typename Table>
PolicyIndex::Match match_in(const Table& table, const Table& unclear, const FlowKey& flow,
                            bool in_clear) {
  const auto* const shown = node_in(table, flow, in_clear);
  if (flow.ports_known) [[likely]]
    return match_of(shown, false);
  const auto* const hidden = node_in(unclear, UnclearRules::as_shown(flow), in_clear);
  const bool is_hidden_first =
      hidden != nullptr && (shown == nullptr || is_before(*hidden, *shown));
  return is_hidden_first ? match_of(hidden, true) : match_of(shown, false);
}

}  // namespace

template <typename Address>
RuleTable<Address>::RuleTable(std::size_t rules, Reclaimer& reclaimer)
    : reclaimer_(reclaimer),
      mask_(static_cast<std::uint32_t>(
          std::bit_ceil(std::max<std::size_t>(kBucketsARule * rules, 64)) - 1)),
      prefixes_(rules),
      probes_(nullptr) {
  // Zero bytes are empty lists.
  buckets_.map_and_touch(std::size_t{mask_} + 1);
  probes_.store(new Probes, std::memory_order_relaxed);
}

template <typename Address>
RuleTable<Address>::~RuleTable() {
  std::size_t left = 0;
  for (const auto& [shape, group] : shapes_) left += group.rules;
  // Not to the last bucket: there are some for all rules that might have come.
  for (std::size_t index = 0; left != 0 && index <= mask_; ++index) {
    Node* node = buckets_[index].load(std::memory_order_relaxed);
    while (node != nullptr) {
      const std::unique_ptr<Node> owned(node);
      node = owned->next.load(std::memory_order_relaxed);
      --left;
    }
  }
  delete probes_.load(std::memory_order_relaxed);
}

template <typename Address>
void RuleTable<Address>::insert(const PolicyRule& rule) {
  auto made = std::make_unique<Node>();
  made->rule = compiled<Address>(rule);
  made->rank = rule.rank;
  const Shape shape = shape_of(made->rule);
  made->hash = hash_of(shape, salt_of(shape), example_of(made->rule));

  prefixes_.add(PrefixFilter::Side::source, shape.source, made->rule.source_first);
  prefixes_.add(PrefixFilter::Side::destination, shape.destination, made->rule.destination_first);
  std::atomic<Node*>& list = bucket(made->hash);
  std::atomic<Node*>* place = &list;
  Node* next = place->load(std::memory_order_relaxed);
  Node* open = nullptr;  // the last one before its place
  for (; next != nullptr && is_before(*next, *made);
       next = place->load(std::memory_order_relaxed)) {
    if (!next->rule.in_clear_only) open = next;
    place = &next->next;
  }
  Node* const next_open = open_from(next);
  made->next.store(next, std::memory_order_relaxed);
  made->next_open.store(next_open, std::memory_order_relaxed);
  Node* const placed = made.release();
  // Release pairs with the acquires in `search`: the rule before its place.
  place->store(placed, std::memory_order_release);
  if (!placed->rule.in_clear_only) {
    lead(open != nullptr ? open : list.load(std::memory_order_relaxed), placed, next_open, placed);
  }

  Group& group = shapes_[shape];
  if (group.rules++ == 0 || rule.rank < group.first) {
    group.first = rule.rank;
    shapes_changed_ = true;
  }
}

template <typename Address>
void RuleTable<Address>::erase(const PolicyRule& rule, Retired& retired) {
  const Rule gone = compiled<Address>(rule);
  const Shape shape = shape_of(gone);
  std::atomic<Node*>& list = bucket(hash_of(shape, salt_of(shape), example_of(gone)));
  std::atomic<Node*>* place = &list;
  Node* node = place->load(std::memory_order_relaxed);
  Node* open = nullptr;
  for (; node != nullptr && node->rule != gone; node = place->load(std::memory_order_relaxed)) {
    if (!node->rule.in_clear_only) open = node;
    place = &node->next;
  }
  if (node == nullptr) return;
  // It keeps its `next` and `next_open`: who stands on it goes on from there.
  Node* const next = node->next.load(std::memory_order_relaxed);
  place->store(next, std::memory_order_release);
  if (!gone.in_clear_only) {
    lead(open != nullptr ? open : list.load(std::memory_order_relaxed), next, node,
         node->next_open.load(std::memory_order_relaxed));
  }
  prefixes_.remove(PrefixFilter::Side::source, shape.source, gone.source_first);
  prefixes_.remove(PrefixFilter::Side::destination, shape.destination, gone.destination_first);
  retired.emplace_back(node);
  const auto group = shapes_.find(shape);
  if (--group->second.rules == 0) {
    shapes_.erase(group);
    shapes_changed_ = true;
  }
}

template <typename Address>
void RuleTable<Address>::publish() {
  if (!shapes_changed_) return;
  shapes_changed_ = false;
  std::vector<Probe> probes;
  for (const auto& [shape, group] : shapes_) probes.push_back({shape, salt_of(shape), group.first});
  auto next = std::make_unique<Probes>(std::move(probes));
  // Release pairs with the acquire in `search`.
  const Probes* const before = probes_.exchange(next.release(), std::memory_order_acq_rel);
  reclaimer_.retire([before] { delete before; });
}

template <typename Address>
void RuleTable<Address>::lead(Node* from, const Node* until, const Node* before, Node* to) {
  for (Node* node = from; node != until; node = node->next.load(std::memory_order_relaxed)) {
    // Release pairs with the acquires in `search`.
    if (node->next_open.load(std::memory_order_relaxed) == before) {
      node->next_open.store(to, std::memory_order_release);
    }
  }
}

template <typename Address>
std::uint32_t RuleTable<Address>::hash_of_rule(const PolicyRule& rule) {
  const Rule made = compiled<Address>(rule);
  const Shape shape = shape_of(made);
  return hash_of(shape, salt_of(shape), example_of(made));
}

template <typename Address>
std::size_t RuleTable<Address>::alike(std::uint32_t hash, std::uint64_t section) const {
  std::size_t count = 0;
  const Node* node = bucket(hash).load(std::memory_order_relaxed);
  for (; node != nullptr; node = node->next.load(std::memory_order_relaxed)) {
    if (node->hash == hash && node->rank.section == section) ++count;
  }
  return count;
}

template <typename Address>
template <typename Seen>
const typename RuleTable<Address>::Node* RuleTable<Address>::search(const Flow& flow, bool in_clear,
                                                                    Seen& seen) const {
  const Probes& probes = *probes_.load(std::memory_order_acquire);
  const typename Probes::Around around(probes, prefixes_, flow.source, flow.destination);
  const Node* best = nullptr;
  std::array<std::uint32_t, kProbesAhead> hashes;
  std::array<const Probe*, kProbesAhead> asked;
  bool is_over = false;
  for (std::size_t block = 0; block < probes.blocks() && !is_over; ++block) {
    std::uint64_t left = around.in(block);
    while (left != 0 && !is_over) {
      std::size_t count = 0;
      for (; count < kProbesAhead && left != 0; left &= left - 1) {
        const Probe& probe = probes.at(block, left);
        is_over = best != nullptr && best->rank < probe.first;  // and before all behind it
        if (is_over) break;
        hashes[count] = hash_of(probe.shape, probe.salt, flow);
        __builtin_prefetch(&bucket(hashes[count]));
        asked[count++] = &probe;
      }
      for (std::size_t at = 0; at < count; ++at) {
        best = better_of(*asked[at], hashes[at], flow, in_clear, best, seen);
      }
    }
  }
  return best;
}

template <typename Address>
template <typename Seen>
const typename RuleTable<Address>::Node* RuleTable<Address>::better_of(
    const Probe& probe, std::uint32_t hash, const Flow& flow, bool in_clear, const Node* best,
    Seen& seen) const {
  if (best != nullptr && best->rank < probe.first) return best;
  // No such rule takes a packet whose ports are not known.
  if (!flow.ports_known && (probe.shape.source_port | probe.shape.destination_port) != 0) {
    return best;
  }
  seen.probe();
  const Node* node = bucket(hash).load(std::memory_order_acquire);
  while (node != nullptr) {
    if (best != nullptr && !is_before(*node, *best)) break;
    seen.rule();
    if (node->hash == hash && is_met(node->rule, flow, in_clear)) return node;
    node = (in_clear ? node->next : node->next_open).load(std::memory_order_acquire);
  }
  return best;
}

template <typename Address>
const typename RuleTable<Address>::Node* RuleTable<Address>::find(const Flow& flow,
                                                                  bool in_clear) const {
  struct Nobody {
    static void probe() {}
    static void rule() {}
  } nobody;
  return search(flow, in_clear, nobody);
}

template <typename Address>
SearchEffort RuleTable<Address>::effort(const Flow& flow, bool in_clear) const {
  struct Counting {
    SearchEffort seen;
    void probe() { ++seen.probes; }
    void rule() { ++seen.rules; }
  } counting;
  static_cast<void>(search(flow, in_clear, counting));
  return counting.seen;
}

template class RuleTable<std::uint32_t>;
template class RuleTable<unsigned __int128>;

PolicyIndex::PolicyIndex(std::size_t rules, Reclaimer& reclaimer)
    : v4_(rules, reclaimer),
      v6_(rules, reclaimer),
      unclear_(std::make_unique<UnclearRules>(rules, reclaimer)) {}

PolicyIndex::~PolicyIndex() = default;

void PolicyIndex::insert(const PolicyRule& rule) {
  unclear_->insert(rule);
  if (rule.source.first.is_v4()) {
    v4_.insert(rule);
  } else {
    v6_.insert(rule);
  }
}

void PolicyIndex::erase(std::span<const PolicyRule> rules, Reclaimer& reclaimer) {
  struct Both {
    RuleTable<std::uint32_t>::Retired v4;
    RuleTable<unsigned __int128>::Retired v6;
  };
  const auto retired = std::make_shared<Both>();
  for (const PolicyRule& rule : rules) {
    unclear_->erase(rule);
    if (rule.source.first.is_v4()) {
      v4_.erase(rule, retired->v4);
    } else {
      v6_.erase(rule, retired->v6);
    }
  }
  reclaimer.retire([retired] {});
}

void PolicyIndex::publish() {
  unclear_->publish();
  v4_.publish();
  v6_.publish();
}

PolicyIndex::Match PolicyIndex::find(const FlowKey& flow, bool in_clear) const {
  return flow.source.is_v4() ? match_in(v4_, unclear_->v4(), flow, in_clear)
                             : match_in(v6_, unclear_->v6(), flow, in_clear);
}

PolicyIndex::Match PolicyIndex::find_shown(const FlowKey& flow, bool in_clear) const {
  return flow.source.is_v4() ? match_of(node_in(v4_, flow, in_clear), false)
                             : match_of(node_in(v6_, flow, in_clear), false);
}

std::size_t PolicyIndex::most_alike(std::span<const PolicyRule> rules) const {
  // Of one policy: as a rule few places, each of which is gone through once.
  std::vector<std::uint32_t> v4, v6;
  for (const PolicyRule& rule : rules) {
    if (rule.source.first.is_v4()) {
      v4.push_back(RuleTable<std::uint32_t>::hash_of_rule(rule));
    } else {
      v6.push_back(RuleTable<unsigned __int128>::hash_of_rule(rule));
    }
  }
  std::size_t most = 0;
  const auto count_in = [&](const auto& table, std::vector<std::uint32_t>& hashes) {
    std::ranges::sort(hashes);
    hashes.erase(std::ranges::unique(hashes).begin(), hashes.end());
    for (const std::uint32_t hash : hashes) {
      most = std::max(most, table.alike(hash, rules.front().rank.section));
    }
  };
  count_in(v4_, v4);
  count_in(v6_, v6);
  return most;
}

SearchEffort PolicyIndex::effort(const FlowKey& flow, bool in_clear) const {
  return flow.source.is_v4() ? v4_.effort(compiled<std::uint32_t>(flow), in_clear)
                             : v6_.effort(compiled<unsigned __int128>(flow), in_clear);
}

}  // namespace culvert::dataplane
