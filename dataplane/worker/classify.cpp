// Ethernet frame → IP packet, told apart by what it is for.
#include <rte_mbuf.h>

#include "dataplane/worker/stages.hpp"
#include "dataplane/worker/train.hpp"
#include "wire/esp.hpp"
#include "wire/ethernet.hpp"
#include "wire/icmp.hpp"
#include "wire/udp.hpp"
#include "wire/vlan.hpp"

namespace culvert::dataplane {
namespace {

DropReason reason_of(wire::IpError error, bool is_v4) {
  switch (error) {
    case wire::IpError::truncated:
      return DropReason::truncated_packet;
    case wire::IpError::header_invalid:
      return is_v4 ? DropReason::ipv4_header_invalid : DropReason::ipv6_header_invalid;
    case wire::IpError::checksum_wrong:
      return DropReason::ipv4_checksum_wrong;
    case wire::IpError::extension_unsupported:
      return DropReason::ipv6_extension_unsupported;
    case wire::IpError::first_fragment_short:
      return DropReason::fragment_invalid;
  }
  return DropReason::truncated_packet;
}

/// Whether it may be an encrypted packet for us: ESP, or ESP in UDP on port 4500 (RFC 3948 §2.1).
/// The inbound stage asks whether the SA and the address are ours. Fragments never are: they would
/// have to be reassembled first; nor is what a Routing header sends on.
bool may_be_encrypted(const std::uint8_t* ip, const wire::IpHeader& header) {
  if (header.is_fragment || header.is_routed_on) return false;
  if (header.protocol == wire::protocol::kEsp) return true;
  if (header.protocol != wire::protocol::kUdp) return false;
  if (header.payload_bytes() < wire::udp::kHeaderBytes) return false;
  const std::uint8_t* const udp = ip + header.payload_offset;
  return wire::load_u16(udp + 2) == wire::udp::kNatTraversalPort;
}

bool is_neighbor_discovery(const std::uint8_t* ip, const wire::IpHeader& header) {
  return header.protocol == wire::protocol::kIcmpv6 && !header.is_fragment &&
         !header.is_routed_on && header.payload_bytes() >= 4 &&
         wire::icmpv6::is_neighbor_discovery(ip[header.payload_offset]);
}

/// An IP packet whose header is sound goes on to a stage.
void sort(WorkerState& worker, Burst& burst, std::uint32_t position, bool is_for_a_group) {
  const std::uint8_t* const ip = burst.ip[position];
  const wire::IpHeader& header = burst.header[position];
  burst.origin[position] = PacketOrigin::clear;
  if (is_for_a_group || header.protocol == wire::protocol::kIcmpv6) [[unlikely]] {
    if ((ip[0] >> 4U) == 6 && is_neighbor_discovery(ip, header)) {
      punt_frame(worker, burst, position, PuntReason::neighbor_discovery);
      return;
    }
    // RFC 1122 §3.3.6: a link-layer broadcast does not carry what is for one host alone.
    if (is_for_a_group) {
      worker.drop(burst.packets[position], DropDirection::in, DropReason::destination_multicast);
      return;
    }
  }
  if (may_be_encrypted(ip, header)) {
    burst.encrypted.push(position);
  } else {
    burst.undecided.push(position);
  }
}

/// Where what most frames are goes.
struct ShortWays {
  explicit ShortWays(WorkerState& worker) : known(worker), arrived(worker) {}
  OfferRun<Ipv4> known;
  ArrivalRun<Ipv4> arrived;
};

/// `again`: ESP with the SPI of the one before.
enum class Way : std::uint8_t { general, known, arrived, again };

/// What most frames are: IPv4 without options, whole and sound, for this port's own MAC. The
/// general way says why another is not. `mac`: the port's, in the low six bytes of a frame's first
/// eight.
Way classify_plain(ShortWays& ways, rte_mbuf* packet, std::uint32_t position, std::uint64_t mac) {
  std::uint8_t* const frame = rte_pktmbuf_mtod(packet, std::uint8_t*);
  if (packet->data_len < wire::ethernet::kHeaderBytes + Ipv4::kLeastKnownBytes) return Way::general;
  std::uint8_t* const ip = frame + wire::ethernet::kHeaderBytes;
  const std::uint64_t destination = wire::load_raw<std::uint64_t>(frame);
  // Ethertype, version and length of the header; the class of traffic is any.
  const std::uint32_t kind = wire::load_raw<std::uint32_t>(ip - 2) & 0x00ffffffU;
  const std::uint32_t length = wire::load_u16(ip + wire::ipv4::kTotalLength);
  const std::uint16_t fragment = wire::load_raw<std::uint16_t>(ip + wire::ipv4::kFragment);
  constexpr std::uint16_t kFragmentBits =
      wire::Be16{wire::ipv4::kMoreFragments | wire::ipv4::kOffsetMask}.raw();
  const bool is_plain = ((destination ^ mac) << 16U) == 0 && kind == 0x00450008U &&
                        (fragment & kFragmentBits) == 0 && length >= Ipv4::kLeastKnownBytes &&
                        length + wire::ethernet::kHeaderBytes <= packet->data_len &&
                        wire::plain_ipv4_checksum_is_right(ip);
  if (!is_plain) [[unlikely]]
    return Way::general;
  const std::uint8_t protocol = ip[wire::ipv4::kProtocol];
  const bool is_on_port_4500 = wire::load_raw<std::uint16_t>(ip + wire::ipv4::kHeaderBytes + 2) ==
                               wire::Be16{wire::udp::kNatTraversalPort}.raw();
  if (protocol != wire::protocol::kEsp && !(protocol == wire::protocol::kUdp && is_on_port_4500)) {
    const wire::PortsAt ports_at = wire::kPortsOfProtocol[protocol];
    if (!may_be_known(ports_at)) return Way::general;
    ways.known.add(packet, position, ip, length,
                   Ipv4::flow_key(ip, PacketOrigin::clear, protocol, ports_at));
    return Way::known;
  }
  std::uint8_t* const payload = ip + wire::ipv4::kHeaderBytes;
  const std::size_t payload_bytes = length - wire::ipv4::kHeaderBytes;
  if (protocol == wire::protocol::kEsp) [[likely]] {
    if (payload_bytes < wire::esp::kHeaderBytes) return Way::general;
    const bool is_again =
        ways.arrived.add(position, payload, payload_bytes, wire::ipv4::kHeaderBytes);
    return is_again ? Way::again : Way::arrived;
  }
  constexpr std::size_t kLeast = wire::udp::kHeaderBytes + wire::esp::kHeaderBytes;
  if (payload_bytes < kLeast) return Way::general;
  const std::uint32_t udp_bytes = wire::load_u16(payload + 4);
  if (udp_bytes < kLeast || udp_bytes > payload_bytes) return Way::general;
  ways.arrived.add(position, payload + wire::udp::kHeaderBytes, udp_bytes - wire::udp::kHeaderBytes,
                   wire::ipv4::kHeaderBytes + wire::udp::kHeaderBytes);
  return Way::arrived;
}

/// Where most frames with IPv6 go.
struct ShortWaysV6 {
  explicit ShortWaysV6(WorkerState& worker) : known(worker), arrived(worker) {}
  OfferRun<Ipv6> known;
  ArrivalRun<Ipv6> arrived;
};

/// As `classify_plain`, of frames with IPv6: without extension headers.
Way classify_plain_v6(ShortWaysV6& ways, rte_mbuf* packet, std::uint32_t position,
                      std::uint64_t mac) {
  std::uint8_t* const frame = rte_pktmbuf_mtod(packet, std::uint8_t*);
  if (packet->data_len < wire::ethernet::kHeaderBytes + Ipv6::kLeastKnownBytes) return Way::general;
  std::uint8_t* const ip = frame + wire::ethernet::kHeaderBytes;
  const std::uint64_t destination = wire::load_raw<std::uint64_t>(frame);
  // Ethertype and version; class of traffic and flow label are any.
  const std::uint32_t kind = wire::load_raw<std::uint32_t>(ip - 2) & 0x00f0ffffU;
  const std::uint32_t length = Ipv6::total_bytes(ip);
  const bool is_plain = ((destination ^ mac) << 16U) == 0 && kind == 0x0060dd86U &&
                        length >= Ipv6::kLeastKnownBytes &&
                        length + wire::ethernet::kHeaderBytes <= packet->data_len;
  if (!is_plain) return Way::general;
  const std::uint8_t protocol = ip[Ipv6::kProtocol];
  std::uint8_t* const payload = ip + Ipv6::kHeaderBytes;
  if (protocol == wire::protocol::kEsp) {
    const std::size_t payload_bytes = length - Ipv6::kHeaderBytes;
    if (payload_bytes < wire::esp::kHeaderBytes) return Way::general;
    const bool is_again = ways.arrived.add(position, payload, payload_bytes, Ipv6::kHeaderBytes);
    return is_again ? Way::again : Way::arrived;
  }
  const wire::PortsAt ports_at = wire::kPortsOfProtocol[protocol];
  const bool is_on_port_4500 =
      wire::load_raw<std::uint16_t>(payload + 2) == wire::Be16{wire::udp::kNatTraversalPort}.raw();
  if ((protocol == wire::protocol::kUdp && is_on_port_4500) || !may_be_known(ports_at) ||
      wire::ipv6::is_extension(protocol)) {
    return Way::general;
  }
  ways.known.add(packet, position, ip, length,
                 Ipv6::flow_key(ip, PacketOrigin::clear, protocol, ports_at));
  return Way::known;
}

/// The frames from `position` to `end` that go on with the train of the one that arrived are left
/// to inbound. Where they end.
template <typename Family>
std::uint32_t pass_followers(ArrivedEsp& first, rte_mbuf* const* packets, std::uint32_t position,
                             std::uint32_t end) {
  const Train<Family> train(first.ip());
  const std::uint32_t begin = position;
  while (position < end && train.may_go_on_with(packets[position])) ++position;
  first.followers = static_cast<std::uint16_t>(position - begin);
  return position;
}

/// Frames from `position` to `end` as far as they have a short way with IPv6: where they end. Not
/// inlined: what most frames are, IPv4, needs the registers.
[[gnu::noinline]] std::uint32_t classify_ipv6(WorkerState& worker, const Burst& burst,
                                              std::uint32_t position, std::uint32_t end,
                                              std::uint64_t mac) {
  ShortWaysV6 ways(worker);
  while (position < end) {
    const Way way = classify_plain_v6(ways, burst.packets[position], position, mac);
    if (way == Way::general) break;
    ++position;
    if (way == Way::again)
      position = pass_followers<Ipv6>(ways.arrived.last(), burst.packets.data(), position, end);
  }
  return position;
}

/// A port's MAC as `classify_plain` compares it.
std::uint64_t mac_of(const PortInfo& port) {
  std::uint64_t mac = 0;
  for (std::size_t at = 0; at < port.mac.size(); ++at) {
    mac |= std::uint64_t{port.mac[at]} << (8 * at);
  }
  return mac;
}

void classify_one(WorkerState& worker, Burst& burst, std::uint32_t position) {
  rte_mbuf* const packet = burst.packets[position];
  const auto drop = [&](DropReason reason) { worker.drop(packet, DropDirection::in, reason); };
  const wire::Bytes frame(rte_pktmbuf_mtod(packet, const std::uint8_t*), packet->data_len);
  if (frame.size() < wire::ethernet::kHeaderBytes) return drop(DropReason::malformed_ethernet);
  const bool is_for_a_group = wire::ethernet::is_for_a_group(frame);
  const PortInfo& port = worker.tables.ports[raw(burst.received_on[position])];
  if (!is_for_a_group && !wire::ethernet::is_for(frame, port.mac)) {
    return drop(DropReason::not_for_us);
  }
  const wire::Bytes ip = frame.subspan(wire::ethernet::kHeaderBytes);
  burst.ip[position] = rte_pktmbuf_mtod_offset(packet, std::uint8_t*, wire::ethernet::kHeaderBytes);
  const std::uint16_t type = wire::ethernet::type_of(frame);
  if (wire::vlan::is_tag(type)) {
    if (!take_priority_tag(packet)) return drop(DropReason::unknown_vlan);
    return classify_one(worker, burst, position);
  }
  if (type == wire::ethernet::kIpv4) [[likely]] {
    const auto header = wire::parse_ipv4(ip);
    if (!header) return drop(reason_of(header.error(), true));
    burst.header[position] = *header;
    return sort(worker, burst, position, is_for_a_group);
  }
  if (type == wire::ethernet::kIpv6) {
    const auto header = wire::parse_ipv6(ip);
    if (!header) return drop(reason_of(header.error(), false));
    burst.header[position] = *header;
    return sort(worker, burst, position, is_for_a_group);
  }
  if (type == wire::ethernet::kArp) return punt_frame(worker, burst, position, PuntReason::arp);
  drop(DropReason::unknown_ethertype);
}

}  // namespace

void classify_follower(WorkerState& worker, Burst& burst, std::uint32_t position) {
  classify_one(worker, burst, position);
}

void classify(WorkerState& worker, Burst& burst) {
  ShortWays ways(worker);
  for (std::uint32_t position = 0; position < burst.count;) {
    const PortId port = burst.received_on[position];
    const std::uint64_t mac = mac_of(worker.tables.ports[raw(port)]);
    std::uint32_t end = burst.is_from_one_port ? burst.count : position + 1;
    while (end < burst.count && burst.received_on[end] == port) ++end;
    while (position < end) {
      const Way way = classify_plain(ways, burst.packets[position], position, mac);
      if (way == Way::general) [[unlikely]] {
        const std::uint32_t next = classify_ipv6(worker, burst, position, end, mac);
        if (next != position) {
          position = next;
          continue;
        }
        classify_one(worker, burst, position);
      }
      ++position;
      if (way == Way::again)
        position = pass_followers<Ipv4>(ways.arrived.last(), burst.packets.data(), position, end);
    }
  }
}

}  // namespace culvert::dataplane
