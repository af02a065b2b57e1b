// What would answer the packet that an ICMP error is about: by it, and not by the error's own
// header, an SA is found for an error that no selector names (RFC 4301 §6.2).
#pragma once

#include <optional>

#include "dataplane/tables/flow_key.hpp"
#include "wire/icmp_quote.hpp"

namespace culvert::dataplane {

[[nodiscard]] inline wire::IpAddress destination_in(wire::Bytes packet) {
  return wire::is_v4(packet.data())
             ? wire::IpAddress::v4(packet.subspan(wire::ipv4::kDestination, 4))
             : wire::IpAddress::v6(packet.subspan(wire::ipv6::kDestination, 16));
}

[[nodiscard]] inline FlowKey answer_to(const wire::QuotedPacket& quoted) {
  FlowKey flow;
  flow.source = quoted.destination;
  flow.destination = quoted.source;
  flow.source_port = quoted.ports.destination;
  flow.destination_port = quoted.ports.source;
  flow.protocol = quoted.protocol;
  flow.ports_known = quoted.ports.known;
  return flow;
}

/// "extracts the header for the packet that triggered the error (from the ICMP message payload),
/// reverses the source and destination IP address fields, extracts the protocol field, and reverses
/// the port fields (if accessible)" (RFC 4301 §6.2). An error goes to who sent what it quotes
/// (RFC 1122 §3.2.2, RFC 4443 §2.2): one that is for somebody else is none, so that a true-looking
/// quotation opens no way to hosts that the SA is not for. nullopt for all that is no error.
[[nodiscard]] inline std::optional<FlowKey> return_flow(wire::Bytes packet,
                                                        const wire::IpHeader& header) {
  const auto quoted = wire::quoted_packet(packet, header);
  if (!quoted || quoted->source != destination_in(packet)) return std::nullopt;
  return answer_to(*quoted);
}

}  // namespace culvert::dataplane
