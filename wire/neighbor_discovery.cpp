#include "wire/neighbor_discovery.hpp"

#include <algorithm>

#include "wire/checksum.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::wire {
namespace {

constexpr std::uint8_t kHopLimit = 255;
constexpr std::size_t kIpv6HeaderBytes = 40;
constexpr std::size_t kMessageBytes = 24;
constexpr std::uint8_t kOptionSourceLinkLayer = 1;
constexpr std::uint8_t kOptionTargetLinkLayer = 2;
constexpr std::uint32_t kFlagRouter = 0x80000000U;
constexpr std::uint32_t kFlagSolicited = 0x40000000U;
constexpr std::uint32_t kFlagOverride = 0x20000000U;

struct Ipv6Payload {
  IpAddress source, destination;
  Bytes bytes;
};

/// The IPv6 header: ICMPv6 directly behind it, hop limit 255 so that the sender is on our link
/// (RFC 4861 §11.2), and a correct checksum.
Parsed<Ipv6Payload> read_ipv6(Reader& reader) {
  const auto version = reader.u32("IPv6 version, class and flow label");
  if (!version) return std::unexpected(version.error());
  if (*version >> 28U != 6) return std::unexpected(reader.invalid("IPv6 version", "not 6"));
  const auto length = reader.u16("IPv6 payload length");
  if (!length) return std::unexpected(length.error());
  const auto next_header = reader.u8("IPv6 next header");
  if (!next_header) return std::unexpected(next_header.error());
  if (*next_header != protocol::kIcmpv6) {
    return std::unexpected(reader.invalid("IPv6 next header", "not ICMPv6"));
  }
  const auto hop_limit = reader.u8("IPv6 hop limit");
  if (!hop_limit) return std::unexpected(hop_limit.error());
  if (*hop_limit != kHopLimit) {
    return std::unexpected(reader.invalid("IPv6 hop limit", "not 255"));
  }
  const auto source = reader.bytes(16, "IPv6 source");
  if (!source) return std::unexpected(source.error());
  const auto destination = reader.bytes(16, "IPv6 destination");
  if (!destination) return std::unexpected(destination.error());
  const auto payload = reader.bytes(*length, "IPv6 payload");
  if (!payload) return std::unexpected(payload.error());

  Ipv6Payload result{IpAddress::v6(*source), IpAddress::v6(*destination), *payload};
  ChecksumSum sum;
  sum.add_pseudo_header(result.source, result.destination, protocol::kIcmpv6, *length);
  sum.add(*payload);
  if (sum.finish() != 0) return std::unexpected(reader.invalid("ICMPv6 checksum", "wrong"));
  return result;
}

/// Walks all options (each of a length above zero, RFC 4861 §4.6) for the link-layer address.
Parsed<std::optional<MacAddress>> read_options(Reader& reader, std::uint8_t wanted) {
  std::optional<MacAddress> found;
  while (!reader.empty()) {
    const auto type = reader.u8("ND option type");
    if (!type) return std::unexpected(type.error());
    const auto length = reader.u8("ND option length");
    if (!length) return std::unexpected(length.error());
    if (*length == 0) return std::unexpected(reader.invalid("ND option length", "zero"));
    const auto body = reader.bytes(std::size_t{*length} * 8U - 2U, "ND option");
    if (!body) return std::unexpected(body.error());
    if (*type == wanted && *length == 1) {
      found.emplace();
      std::copy_n(body->begin(), found->size(), found->begin());
    }
  }
  return found;
}

/// RFC 4861 §7.1.1 and §7.1.2: what may not be combined; and as in ARP (RFC 1812 §3.3.2) no
/// neighbour is all on the link.
Parsed<NeighborMessage> check_combinations(const NeighborMessage& message, const Reader& reader) {
  if (is_multicast(message.target)) {
    return std::unexpected(reader.invalid("ND target", "multicast"));
  }
  if (message.link_layer && is_group(*message.link_layer)) {
    return std::unexpected(
        reader.invalid("ND link-layer address", "a broadcast or multicast address"));
  }
  const bool solicitation = message.type == NeighborMessage::Type::solicitation;
  if (solicitation && message.source.is_unspecified()) {
    if (message.destination != solicited_node_multicast(message.target)) {
      return std::unexpected(
          reader.invalid("ND destination", "unspecified source and not solicited-node multicast"));
    }
    if (message.link_layer) {
      return std::unexpected(
          reader.invalid("ND source link-layer option", "with an unspecified source"));
    }
  }
  if (!solicitation && message.solicited && is_multicast(message.destination)) {
    return std::unexpected(reader.invalid("ND solicited flag", "with a multicast destination"));
  }
  return message;
}

}  // namespace

Parsed<NeighborMessage> parse_neighbor_message(Bytes packet) {
  Reader outer(packet);
  const auto ipv6 = read_ipv6(outer);
  if (!ipv6) return std::unexpected(ipv6.error());
  Reader reader(ipv6->bytes, kIpv6HeaderBytes);

  const auto type = reader.u8("ICMPv6 type");
  if (!type) return std::unexpected(type.error());
  const bool solicitation = *type == static_cast<std::uint8_t>(NeighborMessage::Type::solicitation);
  if (!solicitation && *type != static_cast<std::uint8_t>(NeighborMessage::Type::advertisement)) {
    return std::unexpected(
        reader.invalid("ICMPv6 type", "neither neighbour solicitation nor advertisement"));
  }
  const auto code = reader.u8("ICMPv6 code");
  if (!code) return std::unexpected(code.error());
  if (*code != 0) return std::unexpected(reader.invalid("ICMPv6 code", "not 0"));
  if (const auto checksum = reader.u16("ICMPv6 checksum"); !checksum) {
    return std::unexpected(checksum.error());
  }
  const auto flags = reader.u32("ND flags");
  if (!flags) return std::unexpected(flags.error());
  const auto target = reader.bytes(16, "ND target");
  if (!target) return std::unexpected(target.error());
  const auto link_layer =
      read_options(reader, solicitation ? kOptionSourceLinkLayer : kOptionTargetLinkLayer);
  if (!link_layer) return std::unexpected(link_layer.error());

  NeighborMessage message;
  message.type = static_cast<NeighborMessage::Type>(*type);
  message.source = ipv6->source;
  message.destination = ipv6->destination;
  message.target = IpAddress::v6(*target);
  message.link_layer = *link_layer;
  if (!solicitation) {
    message.router = (*flags & kFlagRouter) != 0;
    message.solicited = (*flags & kFlagSolicited) != 0;
    message.override = (*flags & kFlagOverride) != 0;
  }
  return check_combinations(message, reader);
}

void build_neighbor_message(Writer& writer, const NeighborMessage& message) {
  const bool solicitation = message.type == NeighborMessage::Type::solicitation;
  const std::size_t length = kMessageBytes + (message.link_layer ? 8U : 0U);
  std::uint32_t flags = 0;
  if (!solicitation) {
    flags = (message.router ? kFlagRouter : 0U) | (message.solicited ? kFlagSolicited : 0U) |
            (message.override ? kFlagOverride : 0U);
  }
  std::array<std::uint8_t, kMessageBytes + 8> buffer{};
  Writer body(buffer);
  body.u8(static_cast<std::uint8_t>(message.type));
  body.u8(0);
  body.u16(0);
  body.u32(flags);
  body.bytes(message.target.view());
  if (message.link_layer) {
    body.u8(solicitation ? kOptionSourceLinkLayer : kOptionTargetLinkLayer);
    body.u8(1);
    body.bytes(*message.link_layer);
  }
  ChecksumSum sum;
  sum.add_pseudo_header(message.source, message.destination, protocol::kIcmpv6,
                        static_cast<std::uint32_t>(length));
  sum.add(body.written());
  body.patch_u16(2, sum.finish());

  writer.u32(0x60000000U);
  writer.u16(static_cast<std::uint16_t>(length));
  writer.u8(protocol::kIcmpv6);
  writer.u8(kHopLimit);
  writer.bytes(message.source.view());
  writer.bytes(message.destination.view());
  writer.bytes(body.written());
}

IpAddress solicited_node_multicast(const IpAddress& address) {
  IpAddress group{Family::v6, {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff}};
  std::copy_n(address.bytes.begin() + 13, 3, group.bytes.begin() + 13);
  return group;
}

MacAddress multicast_mac(const IpAddress& group) {
  return {0x33, 0x33, group.bytes[12], group.bytes[13], group.bytes[14], group.bytes[15]};
}

IpAddress all_nodes_multicast() {
  return IpAddress{Family::v6, {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01}};
}

}  // namespace culvert::wire
