#include "dataplane/control/neighbors.hpp"

#include <array>
#include <variant>

#include "wire/ip.hpp"

namespace culvert::dataplane::control {
namespace {

using wire::ArpMessage;
using wire::MacAddress;
using wire::NeighborMessage;

constexpr MacAddress kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

std::uint16_t ether_type_of(const wire::IpAddress& address) {
  return address.is_v4() ? kEtherTypeIpv4 : kEtherTypeIpv6;
}

/// As it came to the worker that counted its hop.
void give_back_hop(wire::MutableBytes packet) {
  std::uint8_t* const ip = packet.data();
  if (wire::is_v4(ip)) {
    ++ip[wire::ipv4::kTtl];
    wire::write_ipv4_checksum(ip, std::size_t{ip[0] & 0x0fU} * 4);
  } else {
    ++ip[wire::ipv6::kHopLimit];
  }
}

}  // namespace

void Neighbors::send(const NeighborKey& neighbor, Packet packet, const PuntedPacket& origin,
                     Instant now) {
  const WantedBy by = wanted_by(neighbor, origin);
  if (const auto mac = mac_of(neighbor)) {
    table_.used(neighbor, by, now, actions_);
    act(actions_);
    go_on(std::move(packet), origin, {neighbor.port, *mac, ether_type_of(neighbor.address)});
    return;
  }
  const bool is_here = topology_.is_on_link(neighbor.port, neighbor.address);
  switch (is_here ? table_.want(neighbor, by, now, actions_) : Wanted::failed) {
    case Wanted::hold:
      break;
    case Wanted::failed:
      if (unreachable_) unreachable_(neighbor, packet, origin);
      packets_.drop(std::move(packet), DropDirection::out, DropReason::neighbor_unresolved);
      return;
    case Wanted::refused:
      // Nobody is told that it cannot be reached: it was not asked.
      packets_.drop(std::move(packet), DropDirection::out, DropReason::neighbor_queue_full);
      return;
  }
  act(actions_);
  if (held_.is_full(neighbor) && held_.first(neighbor) != nullptr) {
    packets_.drop(std::move(packet), DropDirection::out, DropReason::neighbor_queue_full);
    return;
  }
  held_.push(neighbor, {std::move(packet), origin});
}

/// Somebody's packet in clear that waited while policies changed meets those that are in force now,
/// which may protect or refuse it: "the SPD (or associated caches) MUST be consulted during the
/// processing of all traffic that crosses the IPsec protection boundary" (RFC 4301 §5). What was
/// sealed, and what we made ourselves, goes where it was to go.
void Neighbors::go_on(Packet packet, const PuntedPacket& origin, const Link& link) {
  if (origin.originated || origin.policies == spd_.snapshot().generation()) {
    packets_.transmit(std::move(packet), link);
    return;
  }
  give_back_hop(bytes_of(packet));
  packets_.resume(std::move(packet), origin);
}

WantedBy Neighbors::wanted_by(const NeighborKey& neighbor, const PuntedPacket& origin) const {
  const bool is_configured = !origin.next_hop.is_unspecified() || topology_.is_gateway(neighbor) ||
                             packets_.is_peer(neighbor.address);
  return is_configured ? WantedBy::route : WantedBy::packet;
}

std::optional<MacAddress> Neighbors::mac_of(const NeighborKey& neighbor) const {
  const NeighborTable::Entry* const known = table_.find(neighbor);
  if (known != nullptr && known->mac) return known->mac;
  if (topology_.answers_nobody(neighbor.port)) return kAssumedMac;
  return std::nullopt;
}

void Neighbors::arp_arrived(PortId port, Packet packet, Instant now) {
  const auto message = wire::parse_arp(bytes_of(packet));
  if (!message) {
    packets_.drop(std::move(packet), DropDirection::local, DropReason::arp_ignored);
    return;
  }
  packets_.deliver(std::move(packet));
  const NeighborKey sender{port, message->sender};
  const bool for_us = topology_.is_own_on(port, message->target);
  // A probe (RFC 5227) has no sender address; our own address in it is somebody else's mistake.
  if (may_tell(port, message->sender) && !topology_.is_own(message->sender)) {
    const bool gratuitous = message->sender == message->target;
    if (gratuitous) {
      table_.announced(sender, message->sender_mac, now, actions_);
    } else if (message->operation == ArpMessage::Operation::reply) {
      table_.answered(sender, message->sender_mac, now, actions_);
    } else if (for_us) {
      table_.asked_us(sender, message->sender_mac, now, actions_);
    }
    act(actions_);
  }
  if (for_us && message->operation == ArpMessage::Operation::request) answer_arp(port, *message);
}

void Neighbors::discovery_arrived(PortId port, Packet packet, Instant now) {
  const auto message = wire::parse_neighbor_message(bytes_of(packet));
  if (!message) {
    packets_.drop(std::move(packet), DropDirection::local, DropReason::neighbor_discovery_ignored);
    return;
  }
  packets_.deliver(std::move(packet));
  if (message->type == NeighborMessage::Type::advertisement) {
    // RFC 4861 §7.2.5; an advertisement without the option confirms nothing we could use.
    if (!message->link_layer || !may_tell(port, message->target)) return;
    const NeighborKey target{port, message->target};
    if (message->solicited) {
      table_.answered(target, *message->link_layer, now, actions_);
    } else {
      table_.announced(target, *message->link_layer, now, actions_);
    }
    act(actions_);
    return;
  }
  if (!topology_.is_own_on(port, message->target)) return;
  if (message->link_layer && may_tell(port, message->source)) {
    table_.asked_us({port, message->source}, *message->link_layer, now, actions_);
    act(actions_);
  }
  answer_solicitation(port, *message);
}

/// What a capture says of itself was true of another link, and nobody would confirm it here.
bool Neighbors::may_tell(PortId port, const wire::IpAddress& neighbor) const {
  return topology_.is_on_link(port, neighbor) && !topology_.answers_nobody(port);
}

void Neighbors::answer_arp(PortId port, const ArpMessage& request) {
  ArpMessage reply;
  reply.operation = ArpMessage::Operation::reply;
  reply.sender_mac = packets_.mac(port);
  reply.sender = request.target;
  reply.target_mac = request.sender_mac;
  reply.target = request.sender;
  send_arp(port, reply, request.sender_mac);
}

/// RFC 4861 §7.2.4. Without an address or link-layer option the answer goes to all nodes.
void Neighbors::answer_solicitation(PortId port, const NeighborMessage& request) {
  NeighborMessage answer;
  answer.type = NeighborMessage::Type::advertisement;
  answer.source = request.target;
  answer.target = request.target;
  answer.link_layer = packets_.mac(port);
  answer.router = true;
  answer.override = true;
  answer.solicited = !request.source.is_unspecified();
  answer.destination = answer.solicited ? request.source : wire::all_nodes_multicast();

  std::optional<MacAddress> to = request.link_layer;
  if (!answer.solicited) to = wire::multicast_mac(answer.destination);
  if (!to) {
    to = mac_of({port, request.source});
    if (!to) return;
  }
  send_discovery(port, answer, *to);
}

void Neighbors::announce(const Topology& before) {
  for (const Route& route : topology_.routes()) {
    if (route.kind != RouteKind::local) continue;
    const wire::IpAddress& own = route.to.address;
    if (before.is_own_on(route.port, own)) continue;
    if (own.is_v4()) {
      ArpMessage message;
      message.sender_mac = packets_.mac(route.port);
      message.sender = own;
      message.target = own;
      send_arp(route.port, message, kBroadcast);
      continue;
    }
    NeighborMessage message;
    message.type = NeighborMessage::Type::advertisement;
    message.source = own;
    message.destination = wire::all_nodes_multicast();
    message.target = own;
    message.link_layer = packets_.mac(route.port);
    message.router = true;
    message.override = true;
    send_discovery(route.port, message, wire::multicast_mac(message.destination));
  }
}

void Neighbors::tick(Instant now) {
  table_.tick(now, actions_);
  act(actions_);
}

void Neighbors::topology_changed(Instant now) {
  const auto gone = [&](const NeighborKey& key) {
    return !topology_.is_on_link(key.port, key.address);
  };
  for (const auto& [key, entry] : table_.entries()) {
    if (!gone(key)) continue;
    forwarding_.neighbor_lost(key);
    for (Held& held : held_.take(key)) {
      packets_.drop(std::move(held.packet), DropDirection::out, DropReason::neighbor_unresolved);
    }
  }
  table_.forget_if(gone);
  table_.fix(topology_.static_neighbors(), now, actions_);
  act(actions_);
}

void Neighbors::stop() {
  for (Held& held : held_.take_all()) {
    packets_.drop(std::move(held.packet), DropDirection::out, DropReason::shutting_down);
  }
}

void Neighbors::act(std::vector<NeighborAction>& actions) {
  for (const NeighborAction& action : actions) {
    std::visit([&](const auto& concrete) { act(concrete); }, action);
  }
  actions.clear();
}

void Neighbors::act(const Solicit& action) {
  const auto& [port, target] = action.key;
  const auto source = topology_.source_on(port, target);
  if (!source) return;
  if (target.is_v4()) {
    ArpMessage request;
    request.sender_mac = packets_.mac(port);
    request.sender = *source;
    request.target = target;
    send_arp(port, request, action.unicast.value_or(kBroadcast));
    return;
  }
  NeighborMessage request;
  request.source = *source;
  request.destination = action.unicast ? target : wire::solicited_node_multicast(target);
  request.target = target;
  request.link_layer = packets_.mac(port);
  send_discovery(port, request, action.unicast.value_or(wire::multicast_mac(request.destination)));
}

void Neighbors::act(const Resolved& action) {
  forwarding_.neighbor_resolved(action.key, action.mac);
  for (Held& held : held_.take(action.key)) {
    go_on(std::move(held.packet), held.origin,
          {action.key.port, action.mac, ether_type_of(action.key.address)});
  }
}

void Neighbors::act(const Lost& action) { forwarding_.neighbor_lost(action.key); }

void Neighbors::act(const Failed& action) {
  for (Held& held : held_.take(action.key)) {
    if (unreachable_) unreachable_(action.key, held.packet, held.origin);
    packets_.drop(std::move(held.packet), DropDirection::out, DropReason::neighbor_unresolved);
  }
}

void Neighbors::act(const GaveWay& action) {
  for (Held& held : held_.take(action.key)) {
    packets_.drop(std::move(held.packet), DropDirection::out, DropReason::neighbor_queue_full);
  }
}

void Neighbors::send_arp(PortId port, const ArpMessage& message, const MacAddress& to) {
  std::array<std::uint8_t, wire::kArpBytes> buffer{};
  wire::Writer writer(buffer);
  wire::build_arp(writer, message);
  if (Packet packet = packets_.make(writer.written())) {
    packets_.transmit(std::move(packet), {port, to, kEtherTypeArp});
  }
}

void Neighbors::send_discovery(PortId port, const NeighborMessage& message, const MacAddress& to) {
  std::array<std::uint8_t, wire::kNeighborMessageBytes> buffer{};
  wire::Writer writer(buffer);
  wire::build_neighbor_message(writer, message);
  if (Packet packet = packets_.make(writer.written())) {
    packets_.transmit(std::move(packet), {port, to, kEtherTypeIpv6});
  }
}

}  // namespace culvert::dataplane::control
