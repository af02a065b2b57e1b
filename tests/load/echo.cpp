#include "tests/load/echo.hpp"

#include "wire/checksum.hpp"

namespace culvert::load {
namespace {

constexpr std::size_t kIcmpChecksum = wire::ipv4::kHeaderBytes + 2;

}  // namespace

EchoPacket make_request(const Echo& echo) {
  EchoPacket packet{};
  wire::Writer writer(packet);
  writer.u16(0x4500);  // version, header of five words, no DSCP
  writer.u16(kEchoBytes);
  writer.u16(0);
  writer.u16(wire::ipv4::kDontFragment);
  writer.u8(wire::kOurHopLimit);
  writer.u8(wire::protocol::kIcmp);
  writer.u16(0);
  writer.bytes(echo.peer_address.view());
  writer.bytes(echo.host.view());
  writer.u16(wire::icmp::kEchoRequest << 8U);
  writer.u16(0);
  writer.u16(static_cast<std::uint16_t>(echo.peer));
  writer.u16(static_cast<std::uint16_t>(echo.number));
  writer.u32(echo.peer);
  writer.u64(echo.number);
  wire::write_ipv4_checksum(packet.data(), wire::ipv4::kHeaderBytes);
  wire::ChecksumSum sum;
  sum.add(wire::Bytes(packet).subspan(wire::ipv4::kHeaderBytes));
  writer.patch_u16(kIcmpChecksum, sum.finish());
  return packet;
}

std::optional<Echo> read_reply(wire::Bytes packet) {
  const auto header = wire::parse_ipv4(packet);
  if (!header || header->total_bytes != kEchoBytes || header->is_fragment ||
      header->payload_offset != wire::ipv4::kHeaderBytes ||
      header->protocol != wire::protocol::kIcmp) {
    return std::nullopt;
  }
  const wire::Bytes icmp = packet.first(kEchoBytes).subspan(wire::ipv4::kHeaderBytes);
  wire::ChecksumSum sum;
  sum.add(icmp);
  if (icmp[0] != wire::icmp::kEchoReply || icmp[1] != 0 || sum.finish() != 0) return std::nullopt;
  wire::Reader reader(icmp.subspan(wire::icmp::kHeaderBytes));
  Echo echo;
  echo.host = wire::IpAddress::v4(packet.subspan(wire::ipv4::kSource, 4));
  echo.peer_address = wire::IpAddress::v4(packet.subspan(wire::ipv4::kDestination, 4));
  echo.peer = reader.u32("peer").value_or(0);
  echo.number = reader.u64("number").value_or(0);
  return echo;
}

}  // namespace culvert::load
