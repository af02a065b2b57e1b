#include "dataplane/control/icmp_sender.hpp"

#include <array>

#include "dataplane/tables/return_flow.hpp"
#include "wire/ip.hpp"
#include "wire/neighbor_discovery.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane::control {

std::optional<IpPair> addresses_of(wire::Bytes packet) {
  if (packet.empty()) return std::nullopt;
  const unsigned version = packet[0] >> 4U;
  if (version == 4 && packet.size() >= 20) {
    return IpPair{wire::IpAddress::v4(packet.subspan(12, 4)),
                  wire::IpAddress::v4(packet.subspan(16, 4))};
  }
  if (version == 6 && packet.size() >= 40) {
    return IpPair{wire::IpAddress::v6(packet.subspan(8, 16)),
                  wire::IpAddress::v6(packet.subspan(24, 16))};
  }
  return std::nullopt;
}

void IcmpSender::report(IcmpErrorKind kind, std::uint32_t mtu, const Packet& offending,
                        const PuntedPacket& origin, Instant now) {
  if (origin.originated) return;  // our own packet: nobody to tell
  const auto pair = addresses_of(bytes_of(offending));
  if (!pair) return;
  if (kind == IcmpErrorKind::reassembly_timeout &&
      would_be_refused(spd_.snapshot(), bytes_of(offending), origin.from_tunnel)) {
    return;
  }
  // An error is up to 1280 bytes to copy and to sum up, and where it comes from has to be looked
  // for: beyond the rate neither is done. Of what no error may be about, none is counted against
  // it.
  const auto suppress = [&] { packets_.suppress(DropReason::icmp_rate_limited); };
  Limits& limits = limits_of(kind, pair->source.family);
  if (!limits.in_all.has(kInAll, now) || !limits.per_destination.may_admit(pair->source, now)) {
    return suppress();
  }
  const SlotIndex tunnel = origin.from_tunnel ? tunnel_of(bytes_of(offending)) : kNoSlot;
  if (origin.from_tunnel && !limits.per_tunnel.may_admit(tunnel, now)) return suppress();
  const auto source = source_for(origin, pair->source, pair->destination);
  if (!source) return;
  std::array<std::uint8_t, kMaxIcmpv6ErrorBytes> buffer{};
  wire::Writer writer(buffer);
  if (!build_icmp_error(writer, kind, mtu, *source, ++identification_, bytes_of(offending))) return;
  if (!limits.per_destination.admit(pair->source, now)) return suppress();
  // The error quotes the packet: what came encrypted must not go back in clear (RFC 4301 §6).
  if (origin.from_tunnel && !would_be_protected(spd_.snapshot(), writer.written())) return;
  if (origin.from_tunnel && !limits.per_tunnel.admit(tunnel, now)) return suppress();
  if (!limits.in_all.take(kInAll, now)) return suppress();
  Packet error = packets_.make(writer.written());
  if (!error) return;
  // Its policy may have gone when it comes to a worker.
  if (origin.from_tunnel) return packets_.answer_encrypted(std::move(error));
  packets_.originate(std::move(error));
}

IcmpSender::Limits& IcmpSender::limits_of(IcmpErrorKind kind, wire::Family family) {
  if (kind != IcmpErrorKind::packet_too_big) return errors_;
  return too_big_[family == wire::Family::v4 ? 0 : 1];
}

SlotIndex IcmpSender::tunnel_of(wire::Bytes offending) const {
  const auto header = wire::parse_ip(offending);
  const auto pair = addresses_of(offending);
  if (!header || !pair) return kNoSlot;
  const wire::Ports ports = wire::read_ports(offending, *header);
  const FlowKey answer{pair->destination, pair->source,     ports.destination,
                       ports.source,      header->protocol, ports.known};
  const SpdSnapshot& policies = spd_.snapshot();
  SlotIndex outbound = kNoSlot;
  static_cast<void>(policies.verdict(policies.find(answer, PacketOrigin::originated), outbound));
  return outbound;
}

/// The receiving interface's address (RFC 1812 §4.3.2.4). For a packet that came out of a tunnel
/// that is the outer network's, which the tunnel's selectors do not cover: there, the address
/// towards the packet's destination.
std::optional<wire::IpAddress> IcmpSender::source_for(const PuntedPacket& origin,
                                                      const wire::IpAddress& sender,
                                                      const wire::IpAddress& destination) const {
  if (topology_.is_own(destination)) return destination;
  if (origin.from_tunnel) {
    if (const auto next = topology_.next_hop(destination)) {
      // A link-local router's is an address that the sender could not answer.
      const bool is_near = wire::is_link_local(next->address);
      return topology_.source_on(next->port, is_near ? destination : next->address);
    }
  }
  return topology_.source_on(origin.received_on, sender);
}

bool would_be_refused(const SpdSnapshot& policies, wire::Bytes packet, bool from_tunnel) {
  const auto header = wire::parse_ip(packet);
  const auto pair = addresses_of(packet);
  if (!header || !pair) return true;
  const wire::Ports ports = wire::read_ports(packet, *header);
  if (!from_tunnel && header->protocol == wire::protocol::kEsp) return false;
  if (header->protocol == wire::protocol::kUdp && ports.known &&
      (ports.destination == wire::udp::kIkePort ||
       ports.destination == wire::udp::kNatTraversalPort)) {
    return false;
  }
  const FlowKey flow{pair->source,      pair->destination, ports.source,
                     ports.destination, header->protocol,  ports.known};
  SlotIndex outbound = kNoSlot;
  const Verdict verdict = policies.verdict(
      policies.find(flow, from_tunnel ? PacketOrigin::tunnel : PacketOrigin::clear), outbound);
  return verdict == Verdict::discard || verdict == Verdict::cleartext_violation;
}

bool would_be_protected(const SpdSnapshot& policies, wire::Bytes error) {
  const auto header = wire::parse_ip(error);
  const auto pair = addresses_of(error);
  if (!header || !pair) return false;
  const wire::Ports ports = wire::read_ports(error, *header);
  const FlowKey flow{pair->source,      pair->destination, ports.source,
                     ports.destination, header->protocol,  ports.known};
  const auto verdict_on = [&](const FlowKey& key) {
    SlotIndex outbound = kNoSlot;
    return policies.verdict(policies.find(key, PacketOrigin::originated), outbound);
  };
  const Verdict verdict = verdict_on(flow);
  if (verdict != Verdict::no_match) return verdict == Verdict::protect || verdict == Verdict::trap;
  // RFC 4301 §6.2: by the SA of the traffic that would answer the quoted packet, if there is one.
  const auto answer = return_flow(error, *header);
  return answer && verdict_on(*answer) == Verdict::protect;
}

}  // namespace culvert::dataplane::control
