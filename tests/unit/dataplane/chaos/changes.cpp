#include "tests/unit/dataplane/chaos/changes.hpp"

#include <cstdlib>
#include <string>
#include <utility>

namespace culvert::test {

using namespace dataplane;

namespace {

PolicyEntry entry(PolicyAction action, channel::PolicyId id, PolicyRank rank,
                  const std::string& remote) {
  PolicyEntry made;
  made.rank = rank;
  made.origin = PolicyOrigin::negotiated;
  made.action = action;
  made.policy = id;
  made.local = {wire::TrafficSelector::parse("10.1.0.0/24").value()};
  made.remote = {wire::TrafficSelector::parse(remote).value()};
  return made;
}
channel::PolicyId id_of(std::uint64_t group, std::uint32_t number) {
  return channel::PolicyId{group * 1000 + number};
}
enum Group : std::uint64_t { kProtect = 1, kBypass, kDiscard, kOther };

wire::Prefix peer(std::uint32_t child) {
  return wire::Prefix::parse(text_of("203.0.113.", child + 1, "/32")).value();
}

}  // namespace

std::string text_of(const char* begin, std::uint32_t child, const char* end) {
  return begin + std::to_string(child) + end;
}

Changes::Changes(Gateway& gateway, Known& known, std::uint64_t seed)
    : tables_(gateway.tables()), known_(known), random_(seed) {
  const auto bypassed = tables_.fib->lookup(wire::IpAddress::parse("198.51.100.2").value());
  if (!tables_.fib->add(wire::Prefix::parse("10.9.0.0/16").value(), bypassed)) std::abort();
}

void Changes::change() {
  const std::uint32_t child = below(kChildren), how = below(64);
  const auto kind = static_cast<Kind>(below(kKinds));
  switch (kind) {
    case sas:
      change_sas(child, how);
      break;
    case policies:
      change_policies(child, how);
      break;
    case routes:
    case kKinds:
      change_routes(child, how);
      break;
  }
  ++made_[kind];
  tables_.reclaimer->poll();
}

// ---- SAs ----

/// New SAs of both directions; those before them go when the traffic has moved (RFC 7296 §2.8).
void Changes::install(std::uint32_t number) {
  Child& child = children_[number];
  const Child before = child;
  SaOptions options;
  options.window = 1024;
  options.outer_remote = peer(number).address.to_string();
  options.remote_selectors = {text_of("10.2.", number, ".0/24")};
  const auto leased = tables_.sad->lease_spis(1);
  if (leased.empty()) return;  // all slots wait for their grace period
  // As ours, not as the peer's: the same addresses, in the other direction.
  child.in = outbound_sa(options, static_cast<std::uint32_t>(leased[0]));
  child.in.direction = channel::Direction::in;
  child.out = outbound_sa(options, next_spi_++);
  known_.add(child.in, number);
  known_.add(child.out, number);
  const auto slot = tables_.sad->install(child.out, 1);
  if (!slot || !tables_.sad->install(child.in, 1)) std::abort();
  child.slot = *slot;
  child.has_inbound = true;
  if (child.has_policy) tables_.spd->rebind(id_of(kProtect, number), *slot);
  if (before.slot != kNoSlot) remove_outbound(before.out, before.slot);
  if (before.has_inbound) remove_inbound(before.in);
}

void Changes::remove_outbound(const channel::InstallSa& sa, SlotIndex slot) {
  tables_.spd->unbind(slot);
  if (tables_.sad->remove(sa.sa) != channel::Outcome::ok) std::abort();
  known_.remove(sa, *tables_.reclaimer);
}
void Changes::remove_inbound(const channel::InstallSa& sa) {
  if (tables_.sad->remove(sa.sa) != channel::Outcome::ok) std::abort();
  known_.remove(sa, *tables_.reclaimer);
}

void Changes::change_sas(std::uint32_t number, std::uint32_t how) {
  Child& child = children_[number];
  if (child.slot == kNoSlot || !child.has_inbound || how < 32) return install(number);
  if (how < 36) {
    remove_outbound(child.out, std::exchange(child.slot, kNoSlot));
  } else if (how < 40) {
    remove_inbound(child.in);
    child.has_inbound = false;
  } else if (how < 52) {
    const auto& sa = how % 2 == 0 ? child.in : child.out;
    static_cast<void>(tables_.sad->update_endpoints({sa.sa, sa.local, sa.remote}));
  } else {
    tables_.sad->set_path_mtu(child.out.sa, static_cast<std::uint16_t>(1300 + how));
  }
}

// ---- policies ----

void Changes::change_policies(std::uint32_t number, std::uint32_t how) {
  Child& child = children_[number];
  Spd& spd = *tables_.spd;
  if (how == 0) return spd.replace(spd.entries());  // as by a reload
  if (how < 24) {
    if (std::exchange(child.has_policy, !child.has_policy)) {
      spd.erase(id_of(kProtect, number));
      return known_.take_away(Known::protect, number, *tables_.reclaimer);
    }
    known_.give(Known::protect, number);
    PolicyEntry made = entry(PolicyAction::protect, id_of(kProtect, number), {1, number},
                             text_of("10.2.", number, ".0/24"));
    made.outbound = child.slot;
    spd.insert(made);
  } else if (how < 40) {
    if (std::exchange(child.has_bypass, !child.has_bypass)) {
      spd.erase(id_of(kBypass, number));
      return known_.take_away(Known::bypass, number, *tables_.reclaimer);
    }
    known_.give(Known::bypass, number);
    spd.insert(entry(PolicyAction::bypass, id_of(kBypass, number), {2, number},
                     text_of("10.9.", number, ".0/24")));
  } else if (how < 52) {
    // In front of the lower half of what its child protects.
    if (std::exchange(child.has_discard, !child.has_discard)) {
      spd.erase(id_of(kDiscard, number));
    } else {
      spd.insert(entry(PolicyAction::discard, id_of(kDiscard, number), {0, number},
                       text_of("10.2.", number, ".0/25")));
    }
  } else {
    // Of many shapes, for what no packet is: what has to be searched for comes and goes.
    const std::uint32_t other = below(static_cast<std::uint32_t>(has_other_.size()));
    if (std::exchange(has_other_[other], !has_other_[other])) {
      spd.erase(id_of(kOther, other));
    } else {
      spd.insert(entry(PolicyAction::bypass, id_of(kOther, other), {3, other},
                       "172.16.0.0/" + std::to_string(13 + other % 16)));
    }
  }
}

// ---- routes ----

/// The FIB changes one of two copies after a grace period: two pass before the index is free.
void Changes::release_later(AdjacencyIndex next_hop) {
  Reclaimer& reclaimer = *tables_.reclaimer;
  reclaimer.retire([this, &reclaimer, next_hop] {
    reclaimer.retire([this, next_hop] { tables_.adjacencies->release(next_hop); });
  });
}

/// To a neighbour whose address is new each time: six equal bytes, never halves of two.
void Changes::lay_route(std::uint32_t number) {
  Child& child = children_[number];
  const auto fresh = tables_.adjacencies->add_neighbor(kWan, peer(number).address, 1500);
  if (!fresh) return;
  MacAddress mac{};
  mac.fill(static_cast<std::uint8_t>(below(128) * 2));
  tables_.adjacencies->resolve(*fresh, mac, mac);
  known_.give(Known::route, number);
  if (!tables_.fib->add(peer(number), *fresh)) std::abort();
  if (std::exchange(child.has_route, true)) release_later(child.next_hop);
  child.next_hop = *fresh;
}

void Changes::change_routes(std::uint32_t number, std::uint32_t how) {
  Child& child = children_[number];
  if (!child.has_route || how < 32) return lay_route(number);
  if (how < 40) {
    tables_.fib->remove(peer(number));
    release_later(child.next_hop);
    child.has_route = false;
    known_.take_away(Known::route, number, *tables_.reclaimer);
  } else if (how < 52) {
    // Somewhere else: longer and shorter than what the traffic meets.
    const auto other = wire::Prefix::parse(text_of("203.0.", 64 + below(32), ".0/28")).value();
    if (how % 2 == 0) {
      if (!tables_.fib->add(other, Adjacencies::kDrop)) std::abort();
    } else {
      tables_.fib->remove(other);
    }
  } else {
    tables_.adjacencies->set_mtu(child.next_hop, static_cast<std::uint16_t>(1400 + how));
    tables_.reclaimer->outdate();
  }
}

}  // namespace culvert::test
