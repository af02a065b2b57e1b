#include "dataplane/control/dummy_packets.hpp"

#include "wire/ip.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane::control {

std::size_t dummy_header_bytes(wire::Family family) {
  return family == wire::Family::v4 ? wire::ipv4::kHeaderBytes : wire::ipv6::kHeaderBytes;
}

void write_dummy(wire::MutableBytes packet, const wire::IpAddress& source,
                 const wire::IpAddress& destination) {
  std::ranges::fill(packet, std::uint8_t{0});
  wire::Writer writer(packet);
  if (!source.is_v4()) {
    writer.u32(0x60000000U);
    writer.u16(static_cast<std::uint16_t>(packet.size() - wire::ipv6::kHeaderBytes));
    writer.u8(wire::protocol::kNoNextHeader);
    writer.u8(wire::kOurHopLimit);
    writer.bytes(source.view());
    writer.bytes(destination.view());
    return;
  }
  writer.u8(0x45);
  writer.u8(0);
  writer.u16(static_cast<std::uint16_t>(packet.size()));
  writer.u16(0);
  writer.u16(wire::ipv4::kDontFragment);
  writer.u8(wire::kOurHopLimit);
  writer.u8(wire::protocol::kNoNextHeader);
  writer.u16(0);
  writer.bytes(source.view());
  writer.bytes(destination.view());
  wire::write_ipv4_checksum(packet.data(), wire::ipv4::kHeaderBytes);
}

}  // namespace culvert::dataplane::control
