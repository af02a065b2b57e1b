#include "dataplane/tables/spd.hpp"

#include <algorithm>
#include <functional>
#include <utility>

namespace culvert::dataplane {
namespace {

bool is_same_policy(const PolicyEntry& a, const PolicyEntry& b) {
  return a.origin == b.origin && a.action == b.action && a.child_id == b.child_id &&
         a.policy == b.policy && a.local == b.local && a.remote == b.remote;
}

/// The same for what `is_same_policy` calls the same.
std::size_t policy_hash(const PolicyEntry& entry) {
  auto hash = static_cast<std::size_t>(entry.child_id);
  const auto mix = [&](std::uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
    hash ^= hash >> 29U;
  };
  mix(static_cast<std::uint64_t>(entry.policy));
  for (const auto* const side : {&entry.local, &entry.remote}) {
    for (const wire::TrafficSelector& selector : *side) {
      for (const auto& address : {selector.first, selector.last}) {
        for (std::size_t at = 0; at < address.size(); at += 4) {
          mix(std::uint64_t{address.bytes[at]} << 24U |
              std::uint64_t{address.bytes[at + 1]} << 16U |
              std::uint64_t{address.bytes[at + 2]} << 8U | address.bytes[at + 3]);
        }
      }
      mix(std::uint64_t{selector.port_first} << 24U | std::uint64_t{selector.port_last} << 8U |
          selector.protocol);
    }
  }
  return hash;
}

bool is_any_side(const PolicyEntry& entry, auto is_it) {
  return std::ranges::any_of(entry.local, is_it) || std::ranges::any_of(entry.remote, is_it);
}
bool asks_for_ports(const PolicyEntry& entry) {
  return is_any_side(entry, [](const wire::TrafficSelector& selector) {
    return !selector.any_port() && !selector.opaque_port();
  });
}
/// IPv6 fragments but the first may hide it behind an extension header.
bool asks_for_protocol_in_v6(const PolicyEntry& entry) {
  return is_any_side(entry, [](const wire::TrafficSelector& selector) {
    return !selector.any_protocol() && !selector.first.is_v4();
  });
}

/// Every pair of selectors, both ways; a protect policy's reverse is what must not come in clear.
std::vector<PolicyRule> rules_of(const PolicyEntry& entry, std::uint32_t index) {
  std::vector<PolicyRule> rules;
  for (const bool reverse : {false, true}) {
    for (const wire::TrafficSelector& local : entry.local) {
      for (const wire::TrafficSelector& remote : entry.remote) {
        if (local.first.family != remote.first.family) continue;
        rules.push_back({.source = reverse ? remote : local,
                         .destination = reverse ? local : remote,
                         .rank = entry.rank,
                         .entry = index,
                         .reverse = reverse,
                         .in_clear_only = reverse && entry.action == PolicyAction::protect,
                         .must_be_ruled_out = entry.action != PolicyAction::bypass});
      }
    }
  }
  return rules;
}

}  // namespace

SpdSnapshot::SpdSnapshot(std::uint32_t capacity, config::PolicyAction default_policy,
                         Reclaimer& reclaimer)
    : capacity_(capacity),
      default_policy_(default_policy),
      index_(std::size_t{2} * capacity, reclaimer),  // forth and back
      live_(std::allocator<Live>().allocate(capacity)) {
  static_assert(std::is_trivially_destructible_v<Live>);
}

SpdSnapshot::~SpdSnapshot() { std::allocator<Live>().deallocate(live_, capacity_); }

Spd::Spd(std::uint32_t workers, Reclaimer& reclaimer, std::uint32_t room)
    : workers_(workers), room_(room), reclaimer_(reclaimer), counters_(workers) {
  replace({});
}

Spd::~Spd() {
  reclaimer_.drain();
  delete current_.load(std::memory_order_relaxed);
}

void Spd::keep(SpdSnapshot& in, std::uint32_t index, PolicyEntry entry,
               PolicyCounters::Taken counters) {
  std::construct_at(&in.live_[index], entry.outbound, entry.action, entry.child_id, counters.place,
                    entry.rank);
  const auto set_if = [](std::atomic<bool>& flag, bool is_so) {
    if (is_so) flag.store(true, std::memory_order_relaxed);
  };
  const bool is_by_port = asks_for_ports(entry);
  if (entry.action == PolicyAction::bypass) {
    set_if(in.bypasses_by_port_, is_by_port || asks_for_protocol_in_v6(entry));
  } else {
    set_if(in.has_unclear_, is_by_port || asks_for_protocol_in_v6(entry));
  }
  const Place place{entry.rank, index};
  const auto kept =
      list_.emplace_hint(list_.end(), place, Kept{std::move(entry), std::move(counters)});
  const PolicyEntry& stays = kept->second.entry;
  if (stays.origin == PolicyOrigin::negotiated) negotiated_.try_emplace(stays.policy, kept);
  if (stays.outbound != kNoSlot) bound_.emplace(stays.outbound, kept);
}

void Spd::announce(SpdSnapshot& changed, std::span<const PolicyRule> rules) {
  changed.recent_.note(last_generation_ + 1, rules, reclaimer_);
  // Release pairs with the acquire in `SpdSnapshot::generation`.
  changed.generation_.store(++last_generation_, std::memory_order_release);
  reclaimer_.outdate();
}

void Spd::outdate() {
  // Nothing is noted for this generation, so that no flow is known to have stayed. Release pairs
  // with the acquire in `SpdSnapshot::generation`: who sees the number sees the routes.
  current().generation_.store(++last_generation_, std::memory_order_release);
  reclaimer_.outdate();
}

void Spd::replace(std::vector<PolicyEntry> entries, config::PolicyAction default_policy,
                  const std::function<void()>& before_swap) {
  default_policy_ = default_policy;
  std::ranges::stable_sort(entries, {}, &PolicyEntry::rank);
  const auto count = static_cast<std::uint32_t>(entries.size());
  // What was taken out keeps its index for a grace period.
  auto next = std::make_unique<SpdSnapshot>(std::max(room_, count) + room_ / 4 + 64, default_policy,
                                            reclaimer_);

  const auto before = std::make_shared<List>(std::exchange(list_, {}));
  negotiated_.clear();
  bound_.clear();
  // Growing one of them later would take the time of many insertions.
  negotiated_.reserve(next->capacity_);
  bound_.reserve(next->capacity_);
  std::unordered_multimap<std::size_t, const Kept*> counted;
  counted.reserve(before->size());
  for (const auto& [place, kept] : *before) counted.emplace(policy_hash(kept.entry), &kept);
  const auto counters_for = [&](const PolicyEntry& entry) {
    auto [found, end] = counted.equal_range(policy_hash(entry));
    for (; found != end; ++found) {
      if (is_same_policy(found->second->entry, entry)) return found->second->counters;
    }
    return counters_.take();
  };

  for (std::uint32_t index = 0; index < count; ++index) {
    auto counters = counters_for(entries[index]);
    keep(*next, index, std::move(entries[index]), std::move(counters));
  }
  for (auto kept = list_.rbegin(); kept != list_.rend(); ++kept) {
    for (const PolicyRule& rule : rules_of(kept->second.entry, kept->first.index)) {
      next->index_.insert(rule);
    }
  }
  next->index_.publish();
  next_index_ = count;
  free_indices_ = std::make_shared<std::vector<std::uint32_t>>();

  next->generation_.store(++last_generation_, std::memory_order_relaxed);
  if (before_swap) before_swap();
  // Release pairs with the acquire in `snapshot`.
  SpdSnapshot* const old = current_.exchange(next.release(), std::memory_order_acq_rel);
  reclaimer_.outdate();
  // Counters are read through the old one until the grace period ends.
  if (old != nullptr) {
    reclaimer_.retire([old, before] { delete old; });
  }
}

std::uint32_t Spd::free_index() {
  if (free_indices_->empty()) reclaimer_.poll();
  if (free_indices_->empty() && next_index_ == current().capacity_) {
    std::vector<PolicyEntry> all;
    for (const auto& [place, kept] : list_) all.push_back(kept.entry);
    replace(std::move(all));
  }
  if (free_indices_->empty()) return next_index_++;
  const std::uint32_t index = free_indices_->back();
  free_indices_->pop_back();
  return index;
}

void Spd::insert(PolicyEntry entry) {
  const std::uint32_t index = free_index();
  SpdSnapshot& snapshot = current();
  const auto rules = rules_of(entry, index);
  keep(snapshot, index, std::move(entry), counters_.take());
  for (const PolicyRule& rule : rules) snapshot.index_.insert(rule);
  snapshot.index_.publish();
  announce(snapshot, rules);
}

bool Spd::erase(channel::PolicyId policy) {
  const auto named = negotiated_.find(policy);
  if (named == negotiated_.end()) return false;
  const List::iterator kept = named->second;
  const std::uint32_t index = kept->first.index;
  SpdSnapshot& snapshot = current();
  const auto rules = rules_of(kept->second.entry, index);
  snapshot.index_.erase(rules, reclaimer_);
  snapshot.index_.publish();
  announce(snapshot, rules);
  forget_binding(kept);
  negotiated_.erase(named);
  // A list that was replaced meanwhile has indices of its own.
  reclaimer_.retire([counters = kept->second.counters, indices = free_indices_, index] {
    indices->push_back(index);
  });
  list_.erase(kept);
  return true;
}

void Spd::forget_binding(List::iterator kept) {
  auto [bound, end] = bound_.equal_range(kept->second.entry.outbound);
  for (; bound != end; ++bound) {
    if (bound->second != kept) continue;
    bound_.erase(bound);
    return;
  }
}

void Spd::bind(List::iterator kept, SlotIndex outbound) {
  forget_binding(kept);
  kept->second.entry.outbound = outbound;
  if (outbound != kNoSlot) bound_.emplace(outbound, kept);
  // Release pairs with the acquire in `verdict`.
  current().live_[kept->first.index].outbound.store(outbound, std::memory_order_release);
}

bool Spd::rebind(channel::PolicyId policy, SlotIndex outbound) {
  const auto named = negotiated_.find(policy);
  if (named == negotiated_.end()) return false;
  bind(named->second, outbound);
  reclaimer_.outdate();
  return true;
}

void Spd::unbind(SlotIndex outbound) {
  if (!names(outbound)) return;
  for (auto bound = bound_.find(outbound); bound != bound_.end(); bound = bound_.find(outbound)) {
    bind(bound->second, kNoSlot);
  }
  reclaimer_.outdate();
}

std::size_t Spd::most_alike(const PolicyEntry& entry) const {
  return current().index_.most_alike(rules_of(entry, 0));
}

std::vector<PolicyEntry> Spd::entries() const {
  std::optional<Place> after;
  return entries(after, list_.size());
}

std::vector<PolicyEntry> Spd::entries(std::optional<Place>& after, std::size_t most) const {
  std::vector<PolicyEntry> result;
  result.reserve(std::min(most, list_.size()));
  auto next = after ? list_.upper_bound(*after) : list_.begin();
  for (; result.size() < most && next != list_.end(); ++next) {
    const auto& [place, kept] = *next;
    after = place;
    result.push_back(kept.entry);
    for (std::uint32_t worker = 0; worker < workers_; ++worker) {
      result.back().packets += kept.counters.place.of(static_cast<WorkerId>(worker)).read();
    }
  }
  return result;
}

}  // namespace culvert::dataplane
