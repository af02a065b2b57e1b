// Packets for our own addresses: echo is answered in place, IKE goes to the main thread, the rest
// ends here with a reason.
#include <algorithm>
#include <cstring>

#include "dataplane/worker/decapsulate.hpp"
#include "dataplane/worker/sizes.hpp"
#include "dataplane/worker/stages.hpp"
#include "wire/checksum.hpp"
#include "wire/icmp.hpp"
#include "wire/ike/recipient_spi.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

/// The message's checksum with its own field included is zero when it is right.
bool checksum_is_right(const std::uint8_t* ip, const wire::IpHeader& header) {
  wire::ChecksumSum sum;
  sum.add(wire::Bytes(ip + header.payload_offset, header.payload_bytes()));
  if (header.protocol == wire::protocol::kIcmpv6) {
    sum.add_pseudo_header(source_of(ip), destination_of(ip), header.protocol,
                          static_cast<std::uint32_t>(header.payload_bytes()));
  }
  return sum.finish() == 0;
}

/// Whether an IPv4 header says by which way its packet goes (RFC 791 §3.1). Options that do not
/// hold together end there.
bool has_source_route(const std::uint8_t* ip) {
  constexpr std::uint8_t kEnd = 0, kNothing = 1, kLoose = 131, kStrict = 137;
  const std::size_t end = (ip[0] & 0x0fU) * std::size_t{4};
  std::size_t at = wire::ipv4::kHeaderBytes;
  while (at < end && ip[at] != kEnd) {
    if (ip[at] == kLoose || ip[at] == kStrict) return true;
    if (ip[at] == kNothing) {
      ++at;
      continue;
    }
    if (at + 1 == end || ip[at + 1] < 2) return false;
    at += ip[at + 1];
  }
  return false;
}

/// The header of an IPv4 reply, right in front of the message: where it begins. It is a header of
/// ours: without the options of the request; routers may cut it, and so may we, for what DF said of
/// the way here it did not say of the way back; named so that its pieces are told apart (RFC 6864
/// §4.3). The type of service stays (RFC 1349 §5.1: "sent with the same value").
std::uint8_t* write_reply_header(WorkerState& worker, std::uint8_t* request,
                                 wire::IpHeader& header) {
  const auto options_bytes =
      static_cast<std::uint16_t>(header.payload_offset - wire::ipv4::kHeaderBytes);
  std::uint8_t* const ip = request + options_bytes;
  std::memmove(ip, request, wire::ipv4::kHeaderBytes);
  header.payload_offset = wire::ipv4::kHeaderBytes;
  header.total_bytes = static_cast<std::uint16_t>(header.total_bytes - options_bytes);
  ip[0] = 0x45;
  wire::store_u16(ip + wire::ipv4::kTotalLength, header.total_bytes);
  wire::store_u16(ip + wire::ipv4::kIdentification,
                  static_cast<std::uint16_t>(worker.next_identification()));
  wire::store_u16(ip + wire::ipv4::kFragment, 0);
  std::swap_ranges(ip + wire::ipv4::kSource, ip + wire::ipv4::kDestination,
                   ip + wire::ipv4::kDestination);
  ip[wire::ipv4::kTtl] = wire::kOurHopLimit;
  wire::write_ipv4_checksum(ip, wire::ipv4::kHeaderBytes);
  return ip;
}

/// Request → reply in its buffer (RFC 792, RFC 4443 §4.2): addresses change places, which keeps
/// their sums; the type changes, which the checksum follows (RFC 1624). Where the reply begins.
std::uint8_t* turn_around(WorkerState& worker, std::uint8_t* ip, wire::IpHeader& header,
                          std::uint8_t reply_type) {
  std::uint8_t* const icmp = ip + header.payload_offset;
  // The code beside the type is 0 before and after.
  wire::store_u16(icmp + 2, wire::updated_checksum(wire::load_u16(icmp + 2),
                                                   static_cast<std::uint16_t>(icmp[0] << 8U),
                                                   static_cast<std::uint16_t>(reply_type << 8U)));
  icmp[0] = reply_type;
  if (wire::is_v4(ip)) return write_reply_header(worker, ip, header);
  std::swap_ranges(ip + wire::ipv6::kSource, ip + wire::ipv6::kDestination,
                   ip + wire::ipv6::kDestination);
  ip[wire::ipv6::kHopLimit] = wire::kOurHopLimit;
  return ip;
}

/// What answers a packet with a Routing header "must not include a Routing header that was
/// automatically derived" from it (RFC 8200 §8.4): the reply has no extension headers then.
void leave_extensions(Burst& burst, std::uint32_t position) {
  std::uint8_t* const ip = burst.ip[position];
  wire::IpHeader& header = burst.header[position];
  const std::size_t gone = header.payload_offset - wire::ipv6::kHeaderBytes;
  std::uint8_t* const moved = ip + gone;
  std::memmove(moved, ip, wire::ipv6::kHeaderBytes);
  moved[wire::ipv6::kNextHeader] = header.protocol;
  wire::store_u16(moved + wire::ipv6::kPayloadLength,
                  static_cast<std::uint16_t>(header.payload_bytes()));
  burst.ip[position] = moved;
  header.total_bytes = static_cast<std::uint16_t>(header.total_bytes - gone);
  header.payload_offset = wire::ipv6::kHeaderBytes;
  header.protocol_offset = wire::ipv6::kNextHeader;
  header.has_routing = false;
}

/// The reply is ours: it meets policy as what we originate, so that an echo that came through a
/// tunnel returns through it, and by no way that no policy names.
void answer(WorkerState& worker, Burst& burst, std::uint32_t position, std::uint8_t reply_type) {
  if (burst.header[position].has_routing) [[unlikely]]
    leave_extensions(burst, position);
  burst.ip[position] = turn_around(worker, burst.ip[position], burst.header[position], reply_type);
  worker.counters.delivered.add(1);
  worker.counters.originated.add(1);
  if (burst.origin[position] == PacketOrigin::tunnel) burst.note_answer_to_encrypted(position);
  burst.origin[position] = PacketOrigin::originated;
  burst.undecided.push(position);
}

/// What a router says about an ESP packet of ours (RFC 1191, RFC 4443 §3.2): the main thread asks
/// whether to believe it.
bool is_too_big_message(const std::uint8_t* icmp, std::uint8_t protocol) {
  return protocol == wire::protocol::kIcmp
             ? icmp[0] == wire::icmp::kUnreachable && icmp[1] == wire::icmp::kFragmentationNeeded
             : icmp[0] == wire::icmpv6::kPacketTooBig;
}

/// What a router or a firewall says of packets that it does not pass on, which may be an SA's: the
/// main thread asks, and shows it.
bool is_unreachable_message(const std::uint8_t* icmp, std::uint8_t protocol) {
  return icmp[0] == (protocol == wire::protocol::kIcmp ? wire::icmp::kUnreachable
                                                       : wire::icmpv6::kUnreachable);
}

void serve_icmp(WorkerState& worker, Burst& burst, std::uint32_t position,
                std::uint8_t request_type, std::uint8_t reply_type) {
  const std::uint8_t* const ip = burst.ip[position];
  const wire::IpHeader& header = burst.header[position];
  const auto drop = [&](DropReason reason) {
    worker.drop(burst.packets[position], DropDirection::local, reason);
  };
  if (header.payload_bytes() < wire::icmp::kHeaderBytes) return drop(DropReason::truncated_packet);
  const std::uint8_t* const icmp = ip + header.payload_offset;
  if (is_too_big_message(icmp, header.protocol)) {
    return punt_ip(worker, burst, position, {.reason = PuntReason::path_too_big});
  }
  // Who rejects whatever we send, or forges that, leaves the main thread its time and its ring.
  if (is_unreachable_message(icmp, header.protocol) && burst.tsc >= worker.next_unreachable) {
    worker.next_unreachable = burst.tsc + worker.millisecond;
    return punt_ip(worker, burst, position, {.reason = PuntReason::path_unreachable});
  }
  if (icmp[0] != request_type || icmp[1] != 0 || !checksum_is_right(ip, header)) {
    return drop(DropReason::icmp_ignored);
  }
  // RFC 1122 §3.2.2.6 wants the answer to go back by the same route, reversed: "the return route
  // MUST be reversed and used as a Source Route option". Whom the sender chooses to see our answers
  // is not the sender's to say: who is asked so does not answer (RFC 7126).
  if (wire::is_v4(ip) && has_source_route(ip)) return drop(DropReason::icmp_ignored);
  answer(worker, burst, position, reply_type);
}

/// A message that names no IKE SA is a newcomer's, and so is one that names an IKE SA which is not:
/// anybody can send such, in any number. What was decrypted has no frame any more: its data begins
/// at the IP header.
void punt_ike(WorkerState& worker, Burst& burst, std::uint32_t position, PuntReason reason,
              wire::Bytes message) {
  if (!worker.tables.ike_spis->contains(wire::ike::recipient_spi(message))) {
    reason = PuntReason::ike_newcomer;
  }
  if (burst.origin[position] == PacketOrigin::clear) {
    punt_frame(worker, burst, position, reason);
  } else {
    punt_ip(worker, burst, position, {.reason = reason});
  }
}

void serve_udp(WorkerState& worker, Burst& burst, std::uint32_t position) {
  const wire::IpHeader& header = burst.header[position];
  const std::uint8_t* const udp = burst.ip[position] + header.payload_offset;
  const auto drop = [&](DropReason reason) {
    worker.drop(burst.packets[position], DropDirection::local, reason);
  };
  const std::size_t length = header.payload_bytes() < wire::udp::kHeaderBytes
                                 ? 0
                                 : wire::udp::length_of(wire::Bytes(udp, header.payload_bytes()));
  if (length == 0) return drop(DropReason::truncated_packet);
  const std::uint16_t port = wire::load_u16(udp + 2);
  const wire::Bytes content(udp + wire::udp::kHeaderBytes, length - wire::udp::kHeaderBytes);
  if (port == wire::udp::kIkePort) {
    return punt_ike(worker, burst, position, PuntReason::ike, content);
  }
  if (port != wire::udp::kNatTraversalPort) {
    return punt_ip(worker, burst, position, {.reason = PuntReason::port_unreachable});
  }
  // On 4500 in clear, inbound has looked already and left IKE; all else came through a tunnel.
  switch (wire::udp::classify_nat_traversal(content)) {
    case wire::udp::Encapsulated::ike:
      return punt_ike(worker, burst, position, PuntReason::ike_nat_traversal,
                      content.subspan(wire::udp::kMarkerBytes));
    case wire::udp::Encapsulated::keepalive:
      return drop(DropReason::nat_keepalive);
    case wire::udp::Encapsulated::esp:
    case wire::udp::Encapsulated::truncated:
      return drop(DropReason::local_protocol_unsupported);
  }
}

void serve_one(WorkerState& worker, Burst& burst, std::uint32_t position) {
  const auto drop = [&](DropReason reason) {
    worker.drop(burst.packets[position], DropDirection::local, reason);
  };
  const wire::IpHeader& header = burst.header[position];
  // "If Segments Left is non-zero, the node must discard the packet" (RFC 8200 §4.4): we know no
  // type of Routing header.
  if (header.is_routed_on) return drop(DropReason::ipv6_extension_unsupported);
  if (header.is_fragment) return gather(worker, burst, position);
  switch (header.protocol) {
    case wire::protocol::kIcmp:
      return serve_icmp(worker, burst, position, wire::icmp::kEchoRequest, wire::icmp::kEchoReply);
    case wire::protocol::kIcmpv6:
      return serve_icmp(worker, burst, position, wire::icmpv6::kEchoRequest,
                        wire::icmpv6::kEchoReply);
    case wire::protocol::kUdp:
      return serve_udp(worker, burst, position);
    case wire::protocol::kTcp:
      return drop(DropReason::local_port_closed);
    default:  // a number, not an enum
      return drop(DropReason::local_protocol_unsupported);
  }
}

}  // namespace

void serve_local(WorkerState& worker, Burst& burst) {
  for (const std::uint32_t position : burst.ours) serve_one(worker, burst, position);
  burst.ours.clear();
}

}  // namespace culvert::dataplane
