#include "dataplane/worker/decapsulate.hpp"

#include <cstring>

#include "dataplane/worker/header_fields.hpp"
#include "wire/esp.hpp"

namespace culvert::dataplane {
namespace {

/// False: congestion was marked on a flow that cannot be told of it; the packet is dropped so that
/// its sender slows down all the same (RFC 6040 §4.2).
bool propagate(InboundDetails& details, std::uint8_t* inner, const std::uint8_t* outer) {
  constexpr std::uint8_t kEcnMask = 3;
  if (!details.copies_dscp_in && (traffic_class_at(outer) & kEcnMask) == 0) [[likely]]
    return true;
  const EcnVerdict verdict = apply_to_inner(inner, outer, details.copies_dscp_in);
  details.count_alarm(verdict.alarm);
  return !verdict.drop;
}

std::expected<wire::esp::Trailer, DropReason> trailer_of(wire::Bytes text) {
  // RFC 4303 §2.6: "a receiver MUST be prepared to discard such packets, without indicating an
  // error"; what is in front, "other than this Next Header field, need not be well-formed": not its
  // padding either.
  if (!text.empty() && text.back() == wire::protocol::kNoNextHeader) [[unlikely]]
    return std::unexpected(DropReason::dummy_packet);
  const auto trailer = wire::esp::read_trailer(text);
  if (!trailer) return std::unexpected(DropReason::esp_padding_invalid);
  return *trailer;
}

}  // namespace

wire::IpAddress source_of(const std::uint8_t* ip) {
  if (wire::is_v4(ip)) return wire::IpAddress::v4(wire::load_u32(ip + wire::ipv4::kSource));
  return wire::IpAddress::v6(wire::Bytes(ip + wire::ipv6::kSource, 16));
}
wire::IpAddress destination_of(const std::uint8_t* ip) {
  if (wire::is_v4(ip)) return wire::IpAddress::v4(wire::load_u32(ip + wire::ipv4::kDestination));
  return wire::IpAddress::v6(wire::Bytes(ip + wire::ipv6::kDestination, 16));
}

FlowKey flow_key(const std::uint8_t* ip, const wire::IpHeader& header, const wire::Ports& ports) {
  FlowKey key;
  key.source = source_of(ip);
  key.destination = destination_of(ip);
  key.source_port = ports.source;
  key.destination_port = ports.destination;
  key.protocol = header.protocol;
  key.ports_known = ports.known;
  return key;
}

std::expected<Decapsulated, DropReason> decapsulate_tunnel(InboundDetails& details,
                                                           wire::MutableBytes text,
                                                           const std::uint8_t* outer) {
  const auto trailer = trailer_of(text);
  if (!trailer) return std::unexpected(trailer.error());
  // The inner packet may be shorter than the payload: traffic flow padding (RFC 4303 §2.7).
  const wire::Bytes payload = text.first(trailer->payload_bytes);
  const bool is_ip = trailer->next_header == wire::protocol::kIpv4 ||
                     trailer->next_header == wire::protocol::kIpv6;
  if (!is_ip) return std::unexpected(DropReason::esp_next_header_invalid);
  const auto header = trailer->next_header == wire::protocol::kIpv4 ? wire::parse_ipv4(payload)
                                                                    : wire::parse_ipv6(payload);
  if (!header) return std::unexpected(DropReason::inner_header_invalid);
  if (!propagate(details, text.data(), outer)) {
    return std::unexpected(DropReason::congestion_marked);
  }
  return Decapsulated{text.data(), *header};
}

std::expected<Decapsulated, DropReason> decapsulate_transport(wire::MutableBytes text,
                                                              std::uint8_t* ip,
                                                              const wire::IpHeader& header) {
  const auto trailer = trailer_of(text);
  if (!trailer) return std::unexpected(trailer.error());
  const std::size_t header_bytes = header.payload_offset;
  std::uint8_t* const moved = text.data() - header_bytes;
  std::memmove(moved, ip, header_bytes);
  const std::size_t total = header_bytes + trailer->payload_bytes;
  moved[header.protocol_offset] = trailer->next_header;
  if (wire::is_v4(moved)) {
    wire::store_u16(moved + wire::ipv4::kTotalLength, static_cast<std::uint16_t>(total));
    wire::write_ipv4_checksum(moved, header_bytes);
  } else {
    wire::store_u16(moved + wire::ipv6::kPayloadLength,
                    static_cast<std::uint16_t>(total - wire::ipv6::kHeaderBytes));
  }
  // Parsed again: what follows may be extension headers that were under the encryption.
  const auto inner = wire::parse_ip(wire::Bytes(moved, total));
  if (!inner) return std::unexpected(DropReason::inner_header_invalid);
  return Decapsulated{moved, *inner};
}

}  // namespace culvert::dataplane
