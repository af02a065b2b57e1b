#include "dataplane/control/flow_of.hpp"

#include "dataplane/control/icmp_sender.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane::control {
namespace {

struct UpperLayer {
  std::uint8_t protocol = 0;
  wire::Bytes bytes;
};

/// Precondition: addresses_of() found a whole header.
UpperLayer upper_layer(wire::Bytes packet) {
  constexpr std::size_t kIpv6HeaderBytes = 40;
  if (packet[0] >> 4U == 6) return {packet[6], packet.subspan(kIpv6HeaderBytes)};
  const std::size_t header = (packet[0] & 0x0fU) * 4U;
  const bool later_fragment = (packet[6] & 0x1fU) != 0 || packet[7] != 0;
  if (later_fragment || header > packet.size()) return {packet[9], {}};
  return {packet[9], packet.subspan(header)};
}

std::uint16_t u16_at(wire::Bytes bytes, std::size_t at) {
  return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

}  // namespace

std::optional<FlowKey> flow_of(wire::Bytes packet) {
  const auto pair = addresses_of(packet);
  if (!pair) return std::nullopt;
  const UpperLayer upper = upper_layer(packet);
  FlowKey flow;
  flow.source = pair->source;
  flow.destination = pair->destination;
  flow.protocol = upper.protocol;
  flow.ports_known = false;
  switch (upper.protocol) {
    case wire::protocol::kTcp:
    case wire::protocol::kUdp:
    case wire::protocol::kSctp:
      if (upper.bytes.size() < 4) break;
      flow.source_port = u16_at(upper.bytes, 0);
      flow.destination_port = u16_at(upper.bytes, 2);
      flow.ports_known = true;
      break;
    case wire::protocol::kIcmp:
    case wire::protocol::kIcmpv6:
      if (upper.bytes.size() < 2) break;
      flow.source_port = flow.destination_port = u16_at(upper.bytes, 0);
      flow.ports_known = true;
      break;
    default:
      flow.ports_known = true;
      break;
  }
  return flow;
}

std::optional<EspHeaderSeen> esp_header_of(wire::Bytes packet) {
  const auto pair = addresses_of(packet);
  if (!pair) return std::nullopt;
  const UpperLayer upper = upper_layer(packet);
  EspHeaderSeen seen;
  seen.from.address = pair->source;
  seen.to.address = pair->destination;
  wire::Reader reader(upper.bytes);
  if (upper.protocol == wire::protocol::kUdp) {
    const auto source_port = reader.u16("UDP source port");
    const auto destination_port = reader.u16("UDP destination port");
    if (!source_port || !destination_port) return std::nullopt;
    if (!reader.skip(4, "UDP length and checksum")) return std::nullopt;
    seen.from.port = *source_port;
    seen.to.port = *destination_port;
  } else if (upper.protocol != wire::protocol::kEsp) {
    return std::nullopt;
  }
  const auto spi = reader.u32("ESP SPI");
  if (!spi) return std::nullopt;
  seen.spi = *spi;
  return seen;
}

}  // namespace culvert::dataplane::control
