#include "dataplane/control/neighbor_table.hpp"

namespace culvert::dataplane::control {

std::string_view to_string(NeighborState state) {
  switch (state) {
    case NeighborState::stale:
      return "stale";
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

Wanted NeighborTable::want(const NeighborKey& key, WantedBy by, Instant now,
                           std::vector<NeighborAction>& out) {
  if (const Entry* const known = find(key)) {
    switch (known->state) {
      case NeighborState::incomplete:
      case NeighborState::reachable:
      case NeighborState::probing:
      case NeighborState::fixed:
        return Wanted::hold;
      case NeighborState::failed:
        if (now - known->since < kFailedHold) return Wanted::failed;
        break;
      case NeighborState::stale:
        break;
    }
  }
  if (!may_ask(key, by, new_resolutions_, now, out)) return Wanted::refused;
  ask(key, by, now, out);
  return Wanted::hold;
}

void NeighborTable::used(const NeighborKey& key, WantedBy by, Instant now,
                         std::vector<NeighborAction>& out) {
  const Entry* const known = find(key);
  if (known == nullptr || known->state != NeighborState::stale) return;
  if (may_ask(key, by, stale_asked_, now, out)) ask(key, by, now, out);
}

/// What waits goes to everybody; whoever said where it is, is asked there first.
void NeighborTable::ask(const NeighborKey& key, WantedBy by, Instant now,
                        std::vector<NeighborAction>& out) {
  Entry& entry = entries_[key];
  settle(key, entry);
  if (entry.by == WantedBy::route) by = WantedBy::route;
  entry = {NeighborState::incomplete, entry.mac, 1, now, now + kRetransmit, ++last_place_, by};
  if (by == WantedBy::route) {
    unresolved_of_routes_.emplace(entry.place, key);
  } else {
    unresolved_[key.port].emplace(entry.place, key);
    ++unresolved_count_;
  }
  out.emplace_back(Solicit{key, entry.mac});
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
    case NeighborState::stale:
    case NeighborState::failed:
    case NeighborState::fixed:
      break;
  }
}

void NeighborTable::asked_us(const NeighborKey& key, const wire::MacAddress& mac, Instant now,
                             std::vector<NeighborAction>& out) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return enter_stale(key, mac, now);
  Entry& entry = found->second;
  switch (entry.state) {
    case NeighborState::incomplete:
      // Of whom nothing is known it is as good as an answer: either is anybody's to make up.
      if (!entry.mac) return confirm(key, entry, mac, now, out);
      [[fallthrough]];
    case NeighborState::reachable:
    case NeighborState::probing:
      announced(key, mac, now, out);
      break;
    case NeighborState::failed:
      settle(key, entry);
      entries_.erase(found);
      enter_stale(key, mac, now);
      break;
    case NeighborState::stale:
      if (entry.mac == mac) entry.due = now + kStaleKnown;
      announced(key, mac, now, out);
      break;
    case NeighborState::fixed:
      break;
  }
}

/// It displaces none that we asked for, nor that answered.
void NeighborTable::enter_stale(const NeighborKey& key, const wire::MacAddress& mac, Instant now) {
  if (stale_.size() >= kMaxStale || (entries_.size() >= kMaxNeighbors && !stale_.empty())) {
    forget_oldest_stale();
  }
  if (entries_.size() >= kMaxNeighbors) return;
  const std::uint64_t place = ++last_place_;
  entries_[key] = {NeighborState::stale, mac, 0, now, now + kStaleKnown, place};
  stale_.emplace(place, key);
}

void NeighborTable::announced(const NeighborKey& key, const wire::MacAddress& mac, Instant now,
                              std::vector<NeighborAction>& out) {
  const auto found = entries_.find(key);
  if (found == entries_.end() || !found->second.mac || found->second.mac == mac) return;
  Entry& entry = found->second;
  switch (entry.state) {
    case NeighborState::reachable:
      // A failover moves an address to another MAC: ask everybody at once rather than believe it.
      entry.state = NeighborState::probing;
      entry.attempts = 1;
      entry.due = now + kRetransmit;
      out.emplace_back(Solicit{key, std::nullopt});
      break;
    case NeighborState::incomplete:
      // Neither is believed any more.
      entry.mac.reset();
      out.emplace_back(Solicit{key, std::nullopt});
      break;
    case NeighborState::stale:
      settle(key, entry);
      entries_.erase(found);
      break;
    case NeighborState::probing:
    case NeighborState::failed:
    case NeighborState::fixed:
      break;
  }
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
    settle(key, entry);
    entry = {NeighborState::fixed, mac, 0, now, Instant::max()};
    out.emplace_back(Resolved{key, mac});
  }
}

void NeighborTable::tick(Instant now, std::vector<NeighborAction>& out) {
  for (auto item = entries_.begin(); item != entries_.end();) {
    const bool gone = item->second.due <= now && expire(item->first, item->second, now, out);
    if (gone) settle(item->first, item->second);
    item = gone ? entries_.erase(item) : std::next(item);
  }
}

void NeighborTable::confirm(const NeighborKey& key, Entry& entry, const wire::MacAddress& mac,
                            Instant now, std::vector<NeighborAction>& out) {
  const bool was_usable =
      entry.state == NeighborState::reachable || entry.state == NeighborState::probing;
  const bool unchanged = was_usable && entry.mac == mac;
  settle(key, entry);
  entry = {NeighborState::reachable, mac, 0, now, now + kReachable, 0, entry.by};
  if (entry.by == WantedBy::packet) {
    entry.place = ++last_place_;
    answered_.emplace(entry.place, key);
  }
  if (!unchanged) out.emplace_back(Resolved{key, mac});
}

/// Once more, where it is or was.
void NeighborTable::probe(const NeighborKey& key, Entry& entry, Instant now,
                          std::vector<NeighborAction>& out) {
  ++entry.attempts;
  entry.due = now + kRetransmit;
  // The last attempt goes to everybody: the address may have moved.
  const bool last = entry.attempts == kMaxAttempts;
  out.emplace_back(Solicit{key, last ? std::nullopt : entry.mac});
}

bool NeighborTable::expire(const NeighborKey& key, Entry& entry, Instant now,
                           std::vector<NeighborAction>& out) {
  switch (entry.state) {
    case NeighborState::stale:
      return true;
    case NeighborState::incomplete:
      if (entry.attempts < kMaxAttempts) {
        probe(key, entry, now, out);
        return false;
      }
      entry.state = NeighborState::failed;
      entry.mac.reset();
      entry.since = now;
      entry.due = now + kFailedKnown;
      out.emplace_back(Failed{key});
      return false;
    case NeighborState::reachable:
      entry.state = NeighborState::probing;
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

/// Makes room for one more that is asked for, if there may be one.
bool NeighborTable::may_ask(const NeighborKey& key, WantedBy by, PortRate& rate, Instant now,
                            std::vector<NeighborAction>& out) {
  const std::size_t kept = by == WantedBy::route ? 0 : kKeptForRoutes;
  const Entry* const known = find(key);
  // One that failed has a place there.
  const bool is_unresolved = known != nullptr && known->state == NeighborState::failed;
  const bool lacks_unresolved = !is_unresolved && !has_room(by);
  const bool lacks_entry = known == nullptr && entries_.size() >= kMaxNeighbors - kept;
  const bool takes_stale = lacks_entry && !stale_.empty();
  std::optional<NeighborKey> unresolved;
  if (lacks_unresolved || (lacks_entry && !takes_stale)) {
    unresolved = to_give_way(key.port, by, now);
    if (!unresolved && (lacks_unresolved || answered_.empty())) return false;
  }
  if (!rate.take(key.port, by, now)) return false;
  if (unresolved) {
    give_way(*unresolved, out);
  } else if (takes_stale) {
    forget_oldest_stale();
  } else if (lacks_entry) {
    lose_oldest_answered(out);
  }
  return true;
}

bool NeighborTable::PortRate::take(PortId port, WantedBy by, Instant now) {
  if (by == WantedBy::route) return true;
  return buckets.try_emplace(port, rate, now).first->second.take(rate, now);
}

bool NeighborTable::has_room(WantedBy by) const {
  if (unresolved_count_ + unresolved_of_routes_.size() >= kMaxUnresolved) return false;
  return by == WantedBy::route || unresolved_count_ < kMaxUnresolved - kKeptForRoutes;
}

/// Whose place among the unresolved one more on a port takes.
std::optional<NeighborKey> NeighborTable::to_give_way(PortId port, WantedBy by, Instant now) const {
  const Places* oldest = nullptr;
  const Places* most = nullptr;
  for (const auto& [each, places] : unresolved_) {
    if (oldest == nullptr || places.begin()->first < oldest->begin()->first) oldest = &places;
    if (most == nullptr || places.size() > most->size()) most = &places;
  }
  if (oldest != nullptr && had_its_time(oldest->begin()->second, now)) {
    return oldest->begin()->second;
  }
  if (by == WantedBy::route) {
    const Places& routes = unresolved_of_routes_;
    if (routes.empty() || !had_its_time(routes.begin()->second, now)) return std::nullopt;
    return routes.begin()->second;
  }
  const auto own = unresolved_.find(port);
  const std::size_t ports = unresolved_.size() + (own == unresolved_.end() ? 1 : 0);
  const std::size_t share = (kMaxUnresolved - kKeptForRoutes) / ports;
  const std::size_t count = own == unresolved_.end() ? 0 : own->second.size();
  if (most == nullptr || count >= share || most->size() <= share) return std::nullopt;
  return most->begin()->second;
}

/// Who failed was asked for before all on its port whose time is not over.
bool NeighborTable::had_its_time(const NeighborKey& key, Instant now) const {
  const Entry& entry = entries_.at(key);
  return entry.state == NeighborState::failed || now - entry.since >= kRetransmit;
}

/// Precondition: it is one of the unresolved.
void NeighborTable::give_way(const NeighborKey& key, std::vector<NeighborAction>& out) {
  const auto found = entries_.find(key);
  if (found->second.state == NeighborState::incomplete) out.emplace_back(GaveWay{key});
  settle(key, found->second);
  entries_.erase(found);
}

/// Precondition: there are stale ones.
void NeighborTable::forget_oldest_stale() {
  const auto oldest = stale_.begin();
  entries_.erase(oldest->second);
  stale_.erase(oldest);
}

/// Precondition: there are such.
void NeighborTable::lose_oldest_answered(std::vector<NeighborAction>& out) {
  const auto oldest = answered_.begin();
  out.emplace_back(Lost{oldest->second});
  entries_.erase(oldest->second);
  answered_.erase(oldest);
}

void NeighborTable::settle(const NeighborKey& key, const Entry& entry) {
  if (entry.place == 0) return;
  if (const auto port = unresolved_.find(key.port); port != unresolved_.end()) {
    unresolved_count_ -= port->second.erase(entry.place);
    if (port->second.empty()) unresolved_.erase(port);
  }
  unresolved_of_routes_.erase(entry.place);
  stale_.erase(entry.place);
  answered_.erase(entry.place);
}

}  // namespace culvert::dataplane::control
