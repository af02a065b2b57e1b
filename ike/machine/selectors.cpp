#include "ike/machine/selectors.hpp"

#include <algorithm>
#include <cassert>

namespace culvert::ike {
namespace {

using Selectors = std::vector<wire::TrafficSelector>;

wire::TrafficSelector host(const wire::IpAddress& address) {
  return wire::TrafficSelector::of({address, static_cast<std::uint8_t>(address.size() * 8)});
}

void set_address(Selectors& selectors, const wire::IpAddress& address) {
  for (wire::TrafficSelector& one : selectors) one.first = one.last = address;
}

Selectors configured_side(const Selectors& side, const wire::IpAddress& address, bool transport) {
  if (side.empty()) return {host(address)};
  Selectors result = side;
  if (!transport) return result;
  for (wire::TrafficSelector& one : result) {
    if (one.contains(address)) one.first = one.last = address;
  }
  return result;
}

/// The address that all of them name alone.
std::optional<wire::IpAddress> only_address(const Selectors& selectors) {
  if (selectors.empty()) return std::nullopt;
  const wire::IpAddress& address = selectors.front().first;
  const bool alone = std::ranges::all_of(selectors, [&](const wire::TrafficSelector& one) {
    return one.first == address && one.last == address;
  });
  return alone ? std::optional(address) : std::nullopt;
}

/// A packet's side without what it has no ports for.
wire::TrafficSelector side_of_packet(const wire::IpAddress& address, std::uint8_t protocol,
                                     std::uint16_t port) {
  wire::TrafficSelector selector = host(address);
  selector.protocol = protocol;
  const bool has_ports = protocol == wire::protocol::kTcp || protocol == wire::protocol::kUdp ||
                         protocol == wire::protocol::kSctp;
  if (has_ports) selector.port_first = selector.port_last = port;
  return selector;
}

/// What `configured` leaves of it.
std::optional<wire::TrafficSelector> within(const wire::TrafficSelector& packet,
                                            const Selectors& configured) {
  for (const wire::TrafficSelector& one : configured) {
    if (const auto common = packet.intersect(one)) return common;
  }
  return std::nullopt;
}

}  // namespace

SelectorPair configured_selectors(const config::Child& child, const IkeSa& ike) {
  const bool transport = child.mode == config::Mode::transport;
  return {configured_side(child.local_ts, ike.local.address, transport),
          configured_side(child.remote_ts, ike.remote.address, transport)};
}

SelectorPair seen_here(SelectorPair named, const IkeSa& ike) {
  if (ike.nat_local && only_address(named.local)) set_address(named.local, ike.local.address);
  if (ike.nat_remote && only_address(named.remote)) set_address(named.remote, ike.remote.address);
  return named;
}

SelectorPair named_by_peer(SelectorPair narrowed, const SelectorPair& named, const IkeSa& ike) {
  const auto ours = only_address(named.local), theirs = only_address(named.remote);
  if (ike.nat_local && ours) set_address(narrowed.local, *ours);
  if (ike.nat_remote && theirs) set_address(narrowed.remote, *theirs);
  return narrowed;
}

std::optional<SelectorPair> selectors_of_packet(const channel::Acquire& packet,
                                                const SelectorPair& configured) {
  const auto local =
      within(side_of_packet(packet.source, packet.protocol, packet.source_port), configured.local);
  const auto remote =
      within(side_of_packet(packet.destination, packet.protocol, packet.destination_port),
             configured.remote);
  if (!local || !remote) return std::nullopt;
  return SelectorPair{{*local}, {*remote}};
}

SelectorPair pair_of_packet(const channel::Acquire& packet, const SelectorPair& configured) {
  const auto side = [](Selectors selectors, const wire::IpAddress& address) {
    std::erase_if(selectors, [&](const auto& one) { return !one.contains(address); });
    set_address(selectors, address);
    return selectors;
  };
  return {side(configured.local, packet.source), side(configured.remote, packet.destination)};
}

bool is_single_pair(const SelectorPair& selectors) {
  return only_address(selectors.local) && only_address(selectors.remote);
}

bool covers(const SelectorPair& outer, const SelectorPair& inner) {
  return wire::covers(outer.local, inner.local) && wire::covers(outer.remote, inner.remote);
}

std::string text_of(const SelectorPair& selectors) {
  return wire::to_string(selectors.local) + " === " + wire::to_string(selectors.remote);
}

channel::SelectorSet selector_set(const std::vector<wire::TrafficSelector>& selectors) {
  assert(selectors.size() <= channel::kMaxSelectors);
  channel::SelectorSet set;
  set.count = static_cast<std::uint32_t>(selectors.size());
  std::ranges::copy(selectors, set.items.begin());
  return set;
}

}  // namespace culvert::ike
