#include "dataplane/control/punts.hpp"

#include <algorithm>

#include <rte_mbuf.h>

#include "dataplane/control/flow_of.hpp"

namespace culvert::dataplane::control {
namespace {

/// Where in the packet's way the worker gave it up.
DropDirection direction_of(const PuntedPacket& origin) {
  return origin.from_tunnel && !origin.originated ? DropDirection::in : DropDirection::out;
}

}  // namespace

void Punts::arrived(rte_mbuf* mbuf, Instant now) {
  Packet packet(mbuf);
  const PuntedPacket origin = punted(mbuf);  // copied: the area is reused when it is sent on
  if (rte_pktmbuf_adj(mbuf, origin.ip_offset) == nullptr) {
    packets_.drop(std::move(packet), DropDirection::local, DropReason::truncated_packet);
    return;
  }
  switch (origin.reason) {
    case PuntReason::arp:
      neighbors_.arp_arrived(origin.received_on, std::move(packet), now);
      break;
    case PuntReason::neighbor_discovery:
      neighbors_.discovery_arrived(origin.received_on, std::move(packet), now);
      break;
    case PuntReason::ike:
    case PuntReason::ike_nat_traversal:
      ike_.arrived(std::move(packet), now);
      break;
    case PuntReason::ike_newcomer:
      ike_.newcomer_arrived(std::move(packet), now);
      break;
    case PuntReason::resolve_neighbor:
      resolve(std::move(packet), origin, now);
      break;
    case PuntReason::acquire:
      acquires_.arrived(std::move(packet), origin, now);
      break;
    case PuntReason::ttl_exceeded:
      refuse(std::move(packet), origin, IcmpErrorKind::time_exceeded, DropReason::ttl_exceeded,
             now);
      break;
    case PuntReason::packet_too_big:
      refuse(std::move(packet), origin, IcmpErrorKind::packet_too_big, DropReason::packet_too_big,
             now);
      break;
    case PuntReason::no_route:
      refuse(std::move(packet), origin, IcmpErrorKind::no_route, DropReason::no_route, now);
      break;
    case PuntReason::port_unreachable:
      refuse(std::move(packet), origin, IcmpErrorKind::port_unreachable,
             DropReason::local_port_closed, now);
      break;
    case PuntReason::reassembly_timeout:
      refuse(std::move(packet), origin, IcmpErrorKind::reassembly_timeout,
             DropReason::reassembly_timeout, now);
      break;
    case PuntReason::policy_discarded:
      // Nobody is told what the policy refuses: an error would map it for a scanner.
      packets_.drop(std::move(packet), direction_of(origin), DropReason::policy_discard);
      break;
    case PuntReason::path_too_big:
      path_too_big(std::move(packet), now);
      break;
    case PuntReason::path_unreachable:
      path_unreachable(std::move(packet));
      break;
    case PuntReason::unknown_spi:
      unknown_spi(std::move(packet), now);
      break;
  }
}

void Punts::refuse(Packet packet, const PuntedPacket& origin, IcmpErrorKind error,
                   DropReason reason, Instant now) {
  icmp_.report(error, origin.mtu, packet, origin, now);
  const bool was_for_us =
      error == IcmpErrorKind::port_unreachable || error == IcmpErrorKind::reassembly_timeout;
  const DropDirection direction = was_for_us ? DropDirection::local : direction_of(origin);
  packets_.drop(std::move(packet), direction, reason);
}

void Punts::resolve(Packet packet, const PuntedPacket& origin, Instant now) {
  NeighborKey neighbor{origin.link, origin.next_hop};
  if (origin.next_hop.is_unspecified()) {  // a connected network: the destination itself
    const auto pair = addresses_of(bytes_of(packet));
    if (!pair) {
      packets_.drop(std::move(packet), DropDirection::out, DropReason::truncated_packet);
      return;
    }
    neighbor.address = pair->destination;
  }
  neighbors_.send(neighbor, std::move(packet), origin, now);
}

void Punts::path_too_big(Packet packet, Instant now) {
  const auto taken = associations_.too_big(bytes_of(packet), now);
  if (taken) return packets_.deliver(std::move(packet));
  packets_.drop(std::move(packet), DropDirection::local, taken.error());
}

void Punts::path_unreachable(Packet packet) {
  if (associations_.unreachable(bytes_of(packet))) return packets_.deliver(std::move(packet));
  packets_.drop(std::move(packet), DropDirection::local, DropReason::icmp_ignored);
}

void Punts::unknown_spi(Packet packet, Instant now) {
  const auto seen = esp_header_of(bytes_of(packet));
  if (seen && channel_.connected() && unknown_spi_.take(kUnknownSpiEvents, now)) {
    channel::Event event;
    event.type = channel::EventType::unknown_spi;
    event.body.unknown_spi = {channel::Spi{seen->spi}, seen->from, seen->to};
    channel_.send(event);
  }
  packets_.drop(std::move(packet), DropDirection::in, DropReason::sa_not_found);
}

void Punts::peer_moved(const PeerMovedHint& hint, Instant now) {
  if (channel_.event_room() <= kRoomForOthers || !peer_moved_.take(kPeerMovedEvents, now)) return;
  channel::Event event;
  event.type = channel::EventType::peer_moved;
  wire::Endpoint seen;
  seen.address.family = hint.is_v6 ? wire::Family::v6 : wire::Family::v4;
  std::copy_n(hint.address, seen.address.size(), seen.address.bytes.begin());
  seen.port = hint.port;
  event.body.peer_moved = {channel::SaId{hint.sa}, seen};
  channel_.send(event);
}

}  // namespace culvert::dataplane::control
