#include "dataplane/control/neighbor_table.hpp"

namespace culvert::dataplane::control {

std::string_view to_string(NeighborState state) {
  switch (state) {
    case NeighborState::incomplete:
      return "incomplete";
    case NeighborState::reachable:
    case NeighborState::probing:
      return "reachable";
    case NeighborState::failed:
      return "failed";
    case NeighborState::fixed:
      return "static";
  }
  return "failed";
}

const NeighborTable::Entry* NeighborTable::find(const NeighborKey& key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : &found->second;
}

bool NeighborTable::want(const NeighborKey& key, Instant now, std::vector<NeighborAction>& out) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    if (unresolved_.size() >= kMaxUnresolved) give_way(out);
    if (!make_room(out)) return false;
  } else if (found->second.state != NeighborState::failed) {
    return true;
  } else if (now - found->second.since < kFailedHold) {
    return false;
  }
  Entry& entry = entries_[key];
  settle(entry);
  entry = {NeighborState::incomplete, {}, 1, now, now + kRetransmit, ++last_asked_};
  unresolved_.emplace(entry.asked, key);
  out.emplace_back(Solicit{key, std::nullopt});
  return true;
}

void NeighborTable::answered(const NeighborKey& key, const wire::MacAddress& mac, Instant now,
                             std::vector<NeighborAction>& out) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  switch (entry.state) {
    case NeighborState::incomplete:
    case NeighborState::probing:
      confirm(key, entry, mac, now, out);
      break;
    case NeighborState::reachable:
      announced(key, mac, now, out);
      break;
    case NeighborState::failed:
    case NeighborState::fixed:
      break;
  }
}

void NeighborTable::asked_us(const NeighborKey& key, const wire::MacAddress& mac, Instant now,
                             std::vector<NeighborAction>& out) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    if (!make_room(out)) return;
    confirm(key, entries_[key], mac, now, out);
    return;
  }
  switch (found->second.state) {
    case NeighborState::incomplete:
    case NeighborState::failed:
      confirm(key, found->second, mac, now, out);
      break;
    case NeighborState::reachable:
    case NeighborState::probing:
      announced(key, mac, now, out);
      break;
    case NeighborState::fixed:
      break;
  }
}

void NeighborTable::announced(const NeighborKey& key, const wire::MacAddress& mac, Instant now,
                              std::vector<NeighborAction>& out) {
  const auto found = entries_.find(key);
  if (found == entries_.end() || found->second.state != NeighborState::reachable) return;
  if (found->second.mac == mac) return;
  // A failover moves an address to another MAC: ask everybody at once rather than believe it.
  Entry& entry = found->second;
  entry.state = NeighborState::probing;
  entry.attempts = 1;
  entry.due = now + kRetransmit;
  out.emplace_back(Solicit{key, std::nullopt});
}

void NeighborTable::fix(const std::map<NeighborKey, wire::MacAddress>& neighbors, Instant now,
                        std::vector<NeighborAction>& out) {
  std::erase_if(entries_, [&](const auto& item) {
    if (item.second.state != NeighborState::fixed || neighbors.contains(item.first)) return false;
    out.emplace_back(Lost{item.first});
    return true;
  });
  // The limit is for what the link tells: these are as many as the configuration may have.
  for (const auto& [key, mac] : neighbors) {
    Entry& entry = entries_[key];
    if (entry.state == NeighborState::fixed && entry.mac == mac) continue;
    settle(entry);
    entry = {NeighborState::fixed, mac, 0, now, Instant::max()};
    out.emplace_back(Resolved{key, mac});
  }
}

void NeighborTable::tick(Instant now, std::vector<NeighborAction>& out) {
  for (auto item = entries_.begin(); item != entries_.end();) {
    const bool gone = item->second.due <= now && expire(item->first, item->second, now, out);
    if (gone) settle(item->second);
    item = gone ? entries_.erase(item) : std::next(item);
  }
}

void NeighborTable::confirm(const NeighborKey& key, Entry& entry, const wire::MacAddress& mac,
                            Instant now, std::vector<NeighborAction>& out) {
  const bool was_usable =
      entry.state == NeighborState::reachable || entry.state == NeighborState::probing;
  const bool unchanged = was_usable && entry.mac == mac;
  settle(entry);
  entry = {NeighborState::reachable, mac, 0, now, now + kReachable};
  if (!unchanged) out.emplace_back(Resolved{key, mac});
}

void NeighborTable::probe(const NeighborKey& key, Entry& entry, Instant now,
                          std::vector<NeighborAction>& out) {
  entry.state = NeighborState::probing;
  ++entry.attempts;
  entry.due = now + kRetransmit;
  // The last attempt goes to everybody: the address may have moved.
  const bool last = entry.attempts == kMaxAttempts;
  out.emplace_back(Solicit{key, last ? std::nullopt : std::optional<wire::MacAddress>(entry.mac)});
}

bool NeighborTable::expire(const NeighborKey& key, Entry& entry, Instant now,
                           std::vector<NeighborAction>& out) {
  switch (entry.state) {
    case NeighborState::incomplete:
      if (entry.attempts < kMaxAttempts) {
        ++entry.attempts;
        entry.due = now + kRetransmit;
        out.emplace_back(Solicit{key, std::nullopt});
        return false;
      }
      entry.state = NeighborState::failed;
      entry.since = now;
      entry.due = now + kFailedKnown;
      out.emplace_back(Failed{key});
      return false;
    case NeighborState::reachable:
      entry.attempts = 0;
      probe(key, entry, now, out);
      return false;
    case NeighborState::probing:
      if (entry.attempts < kMaxAttempts) {
        probe(key, entry, now, out);
        return false;
      }
      out.emplace_back(Lost{key});
      return true;
    case NeighborState::failed:
      return true;
    case NeighborState::fixed:
      return false;
  }
  return true;
}

bool NeighborTable::make_room(std::vector<NeighborAction>& out) {
  if (entries_.size() < kMaxNeighbors) return true;
  if (unresolved_.empty()) return false;
  give_way(out);
  return true;
}

/// Precondition: there are unresolved ones. Who failed was asked for before all whose time is not
/// over.
void NeighborTable::give_way(std::vector<NeighborAction>& out) {
  const auto oldest = unresolved_.begin();
  const NeighborKey key = oldest->second;
  const auto found = entries_.find(key);
  if (found->second.state == NeighborState::incomplete) out.emplace_back(GaveWay{key});
  unresolved_.erase(oldest);
  entries_.erase(found);
}

void NeighborTable::settle(Entry& entry) {
  if (entry.asked != 0) unresolved_.erase(entry.asked);
  entry.asked = 0;
}

}  // namespace culvert::dataplane::control
