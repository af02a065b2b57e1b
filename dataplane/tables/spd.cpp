#include "dataplane/tables/spd.hpp"

#include <algorithm>
#include <utility>

namespace culvert::dataplane {
namespace {

/// Whether one side of a packet is in a selector. A packet whose ports cannot be known (a fragment
/// but the first) only meets selectors that want none, or OPAQUE (RFC 4301 §4.4.1.2, §7).
bool side_matches(const wire::TrafficSelector& selector, const wire::IpAddress& address,
                  std::uint8_t protocol, std::uint16_t port, bool ports_known) {
  if (ports_known) return selector.matches(address, protocol, port);
  if (!selector.contains(address)) return false;
  if (!selector.any_protocol() && selector.protocol != protocol) return false;
  return selector.any_port() || selector.opaque_port();
}

bool is_same_policy(const PolicyEntry& a, const PolicyEntry& b) {
  return a.origin == b.origin && a.action == b.action && a.child_index == b.child_index &&
         a.policy == b.policy && a.local == b.local && a.remote == b.remote;
}

}  // namespace

SpdSnapshot::Match SpdSnapshot::find(const FlowKey& flow, PacketOrigin origin) const {
  const bool in_clear = origin == PacketOrigin::clear;
  for (const Rule& rule : flow.source.is_v4() ? v4_ : v6_) {
    if (rule.reverse && !in_clear && live_[rule.entry].action == PolicyAction::protect) continue;
    if (side_matches(rule.source, flow.source, flow.protocol, flow.source_port, flow.ports_known) &&
        side_matches(rule.destination, flow.destination, flow.protocol, flow.destination_port,
                     flow.ports_known)) {
      return {rule.entry, rule.reverse};
    }
  }
  return {};
}

Spd::Spd(std::uint32_t workers, Reclaimer& reclaimer) : workers_(workers), reclaimer_(reclaimer) {
  replace({});
}

Spd::~Spd() {
  reclaimer_.drain();
  delete current_.load(std::memory_order_relaxed);
}

SpdSnapshot::EntryCounters Spd::counters_for(const PolicyEntry& entry) const {
  const SpdSnapshot* before = current_.load(std::memory_order_relaxed);
  for (std::size_t index = 0; index < entries_.size(); ++index) {
    if (is_same_policy(entries_[index], entry)) return before->owners_[index];
  }
  return SpdSnapshot::EntryCounters(new SpdSnapshot::PaddedCounter[workers_]);
}

void Spd::replace(std::vector<PolicyEntry> entries) {
  auto next = std::make_unique<SpdSnapshot>();
  next->generation_ = ++last_generation_;
  next->live_ = std::make_unique<SpdSnapshot::Live[]>(entries.size());
  for (std::uint32_t index = 0; index < entries.size(); ++index) {
    const PolicyEntry& entry = entries[index];
    SpdSnapshot::Live& live = next->live_[index];
    next->owners_.push_back(counters_for(entry));
    live.action = entry.action;
    live.child_index = entry.child_index;
    live.counters = next->owners_.back().get();
    live.outbound.store(entry.outbound, std::memory_order_relaxed);
    for (const bool reverse : {false, true}) {
      for (const wire::TrafficSelector& local : entry.local) {
        for (const wire::TrafficSelector& remote : entry.remote) {
          if (local.first.family != remote.first.family) continue;
          auto& rules = local.first.is_v4() ? next->v4_ : next->v6_;
          rules.push_back({reverse ? remote : local, reverse ? local : remote, index, reverse});
        }
      }
    }
  }
  entries_ = std::move(entries);
  // Release pairs with the acquire in `snapshot`.
  SpdSnapshot* before = current_.exchange(next.release(), std::memory_order_acq_rel);
  reclaimer_.outdate();
  if (before != nullptr) reclaimer_.retire([before] { delete before; });
}

bool Spd::rebind(channel::PolicyId policy, SlotIndex outbound) {
  SpdSnapshot* current = current_.load(std::memory_order_relaxed);
  for (std::size_t index = 0; index < entries_.size(); ++index) {
    PolicyEntry& entry = entries_[index];
    if (entry.origin != PolicyOrigin::negotiated || entry.policy != policy) continue;
    entry.outbound = outbound;
    // Release pairs with the acquire in `verdict`.
    current->live_[index].outbound.store(outbound, std::memory_order_release);
    reclaimer_.outdate();
    return true;
  }
  return false;
}

void Spd::unbind(SlotIndex outbound) {
  SpdSnapshot* current = current_.load(std::memory_order_relaxed);
  for (std::size_t index = 0; index < entries_.size(); ++index) {
    if (entries_[index].outbound != outbound) continue;
    entries_[index].outbound = kNoSlot;
    current->live_[index].outbound.store(kNoSlot, std::memory_order_release);
  }
  reclaimer_.outdate();
}

std::vector<PolicyEntry> Spd::entries() const {
  const SpdSnapshot* current = current_.load(std::memory_order_relaxed);
  std::vector<PolicyEntry> result = entries_;
  for (std::size_t index = 0; index < result.size(); ++index) {
    for (std::uint32_t worker = 0; worker < workers_; ++worker) {
      result[index].packets += current->owners_[index][worker].packets.read();
    }
  }
  return result;
}

}  // namespace culvert::dataplane
