#include "dataplane/tables/policy_index.hpp"

#include <algorithm>
#include <bit>

#include "dataplane/tables/unclear_rules.hpp"

namespace culvert::dataplane {
namespace {

template <typename Address>
Address number_of(const wire::IpAddress& address) {
  Address number = 0;
  for (std::size_t index = 0; index < sizeof(Address); ++index) {
    number = static_cast<Address>(number << 8U) | address.bytes[index];
  }
  return number;
}

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

struct PortRange {
  std::uint16_t first, last;
};
constexpr PortRange kNoPort{65535, 0};

/// Ports are of a protocol: a selector of any protocol with ports is met by none that is known.
PortRange known_ports(const wire::TrafficSelector& selector) {
  if (selector.any_protocol() && !selector.any_port()) return kNoPort;
  return {selector.port_first, selector.port_last};
}
/// A packet whose ports cannot be known (a fragment but the first) meets only selectors that want
/// none, or OPAQUE (RFC 4301 §4.4.1.2, §7).
bool takes_unknown_port(const wire::TrafficSelector& selector) {
  return selector.any_port() || selector.opaque_port();
}
std::uint16_t port_mask(std::uint16_t first, std::uint16_t last) {
  return first > last ? std::uint16_t{0} : common_mask(first, last);
}

template <typename Address>
CompiledRule<Address> compiled(const PolicyRule& rule) {
  const PortRange source = known_ports(rule.source);
  const PortRange destination = known_ports(rule.destination);
  CompiledRule<Address> made{};
  made.source_first = number_of<Address>(rule.source.first);
  made.source_last = number_of<Address>(rule.source.last);
  made.destination_first = number_of<Address>(rule.destination.first);
  made.destination_last = number_of<Address>(rule.destination.last);
  made.source_port_first = source.first;
  made.source_port_last = source.last;
  made.destination_port_first = destination.first;
  made.destination_port_last = destination.last;
  made.source_protocol = rule.source.protocol;
  made.destination_protocol = rule.destination.protocol;
  made.reverse = rule.reverse;
  made.in_clear_only = rule.in_clear_only;
  made.takes_unknown_ports =
      takes_unknown_port(rule.source) && takes_unknown_port(rule.destination);
  made.entry = rule.entry;
  return made;
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

bool within(auto value, auto first, auto last) { return first <= value && value <= last; }

/// Whether the rule is about these addresses, and such a packet.
template <typename Address>
bool is_between(const CompiledRule<Address>& rule, const CompiledFlow<Address>& flow,
                bool in_clear) {
  if (rule.in_clear_only && !in_clear) return false;
  return within(flow.source, rule.source_first, rule.source_last) &&
         within(flow.destination, rule.destination_first, rule.destination_last);
}

template <typename Address>
bool is_met(const CompiledRule<Address>& rule, const CompiledFlow<Address>& flow, bool in_clear) {
  const auto is_of = [&](std::uint8_t protocol) {
    return protocol == 0 || protocol == flow.protocol;
  };
  if (!is_between(rule, flow, in_clear) || !is_of(rule.source_protocol) ||
      !is_of(rule.destination_protocol)) {
    return false;
  }
  if (!flow.ports_known) return rule.takes_unknown_ports;
  return within(flow.source_port, rule.source_port_first, rule.source_port_last) &&
         within(flow.destination_port, rule.destination_port_first, rule.destination_port_last);
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

template <typename Address>
CompiledFlow<Address> compiled(const FlowKey& flow) {
  return {number_of<Address>(flow.source),
          number_of<Address>(flow.destination),
          flow.source_port,
          flow.destination_port,
          flow.protocol,
          flow.ports_known};
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

  std::atomic<Node*>* place = &bucket(made->hash);
  Node* next = place->load(std::memory_order_relaxed);
  while (next != nullptr && is_before(*next, *made)) {
    place = &next->next;
    next = place->load(std::memory_order_relaxed);
  }
  made->next.store(next, std::memory_order_relaxed);
  // Release pairs with the acquires in `find`: the rule before its place.
  place->store(made.release(), std::memory_order_release);

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
  std::atomic<Node*>* place = &bucket(hash_of(shape, salt_of(shape), example_of(gone)));
  Node* node = place->load(std::memory_order_relaxed);
  while (node != nullptr && node->rule != gone) {
    place = &node->next;
    node = place->load(std::memory_order_relaxed);
  }
  if (node == nullptr) return;
  // It keeps its `next`: who stands on it goes on from there.
  place->store(node->next.load(std::memory_order_relaxed), std::memory_order_release);
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
  auto next = std::make_unique<Probes>();
  for (const auto& [shape, group] : shapes_) next->push_back({shape, salt_of(shape), group.first});
  std::ranges::sort(*next, {}, &Probe::first);
  // Release pairs with the acquire in `find`.
  const Probes* const before = probes_.exchange(next.release(), std::memory_order_acq_rel);
  reclaimer_.retire([before] { delete before; });
}

template <typename Address>
const typename RuleTable<Address>::Node* RuleTable<Address>::find(const Flow& flow,
                                                                  bool in_clear) const {
  const Node* best = nullptr;
  std::array<std::uint32_t, kProbesAhead> hashes;
  std::span<const Probe> left(*probes_.load(std::memory_order_acquire));
  while (!left.empty()) {
    if (best != nullptr && best->rank < left.front().first) break;
    const auto group = left.first(std::min(left.size(), kProbesAhead));
    left = left.subspan(group.size());
    for (std::size_t at = 0; at < group.size(); ++at) {
      hashes[at] = hash_of(group[at].shape, group[at].salt, flow);
      __builtin_prefetch(&bucket(hashes[at]));
    }
    for (std::size_t at = 0; at < group.size(); ++at) {
      best = better_of(group[at], hashes[at], flow, in_clear, best);
    }
  }
  return best;
}

template <typename Address>
const typename RuleTable<Address>::Node* RuleTable<Address>::better_of(const Probe& probe,
                                                                       std::uint32_t hash,
                                                                       const Flow& flow,
                                                                       bool in_clear,
                                                                       const Node* best) const {
  if (best != nullptr && best->rank < probe.first) return best;
  // No such rule takes a packet whose ports are not known.
  if (!flow.ports_known && (probe.shape.source_port | probe.shape.destination_port) != 0) {
    return best;
  }
  const Node* node = bucket(hash).load(std::memory_order_acquire);
  for (; node != nullptr; node = node->next.load(std::memory_order_acquire)) {
    if (best != nullptr && !is_before(*node, *best)) break;
    if (node->hash == hash && is_met(node->rule, flow, in_clear)) return node;
  }
  return best;
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

RecentRules::~RecentRules() {
  for (const auto& noted : noted_) delete noted.load(std::memory_order_relaxed);
}

void RecentRules::note(std::uint32_t generation, std::span<const PolicyRule> rules,
                       Reclaimer& reclaimer) {
  auto made = std::make_unique<Noted>();
  made->generation = generation;
  for (const PolicyRule& rule : rules) {
    if (rule.source.first.is_v4()) {
      made->v4.push_back(compiled<std::uint32_t>(rule));
    } else {
      made->v6.push_back(compiled<unsigned __int128>(rule));
    }
  }
  // Release pairs with the acquire in `pass_by`.
  const Noted* const before =
      noted_[generation % kChanges].exchange(made.release(), std::memory_order_acq_rel);
  if (before == nullptr) return;
  reclaimer.retire([before] { delete before; });
}

bool RecentRules::pass_by(const FlowKey& flow, bool in_clear, std::uint32_t since,
                          std::uint32_t now) const {
  if (now - since > kChanges) return false;
  std::size_t looked_at = 0;
  // Of a packet that does not show all, rules between its addresses may be unclear.
  const bool shows_all = flow.ports_known;
  const auto meets_none = [in_clear, shows_all](const auto& rules, const auto& packet) {
    return std::ranges::none_of(rules, [&](const auto& rule) {
      return shows_all ? is_met(rule, packet, in_clear) : is_between(rule, packet, in_clear);
    });
  };
  const bool is_v4 = flow.source.is_v4();
  const auto v4 = is_v4 ? compiled<std::uint32_t>(flow) : CompiledFlow<std::uint32_t>{};
  const auto v6 = is_v4 ? CompiledFlow<unsigned __int128>{} : compiled<unsigned __int128>(flow);
  for (std::uint32_t generation = since + 1; generation != now + 1; ++generation) {
    const Noted* const noted = noted_[generation % kChanges].load(std::memory_order_acquire);
    if (noted == nullptr || noted->generation != generation) return false;
    looked_at += is_v4 ? noted->v4.size() : noted->v6.size();
    if (looked_at > kMostRules) return false;
    if (is_v4 ? !meets_none(noted->v4, v4) : !meets_none(noted->v6, v6)) return false;
  }
  return true;
}

}  // namespace culvert::dataplane
