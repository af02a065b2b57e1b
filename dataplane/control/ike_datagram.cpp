#include "dataplane/control/ike_datagram.hpp"

#include <algorithm>
#include <array>

#include "wire/checksum.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane::control {
namespace {

using wire::Bytes;
using wire::IpAddress;
using wire::Reader;

constexpr std::size_t kUdpHeaderBytes = 8;
constexpr std::size_t kMarkerBytes = 4;
constexpr std::uint8_t kKeepalive = 0xff;  // RFC 3948 §2.3

struct UdpPacket {
  IpAddress source, destination;
  Bytes udp;
};

wire::Parsed<UdpPacket> read_ipv4(Reader reader) {
  const Bytes whole = reader.rest();
  const auto fixed = reader.bytes(wire::ipv4::kHeaderBytes, "IPv4 header");
  if (!fixed) return std::unexpected(fixed.error());
  const Bytes header = *fixed;
  const std::size_t header_bytes = (header[0] & 0x0fU) * 4U;
  const std::size_t total = static_cast<std::size_t>(header[2] << 8 | header[3]);
  if (header_bytes < wire::ipv4::kHeaderBytes || total < header_bytes || total > whole.size()) {
    return std::unexpected(reader.invalid("IPv4 lengths", "do not hold together"));
  }
  if ((header[6] & 0x3fU) != 0 || header[7] != 0) {
    return std::unexpected(reader.invalid("IPv4 fragment", "IKE messages are not reassembled"));
  }
  if (header[9] != wire::protocol::kUdp) {
    return std::unexpected(reader.invalid("IPv4 protocol", "not UDP"));
  }
  return UdpPacket{IpAddress::v4(header.subspan(12, 4)), IpAddress::v4(header.subspan(16, 4)),
                   whole.subspan(header_bytes, total - header_bytes)};
}

/// Behind extension headers, as the worker has found it (RFC 8200 §4.1): "IPv6 nodes must accept
/// and attempt to process extension headers in any order".
wire::Parsed<UdpPacket> read_ipv6(Reader reader) {
  const Bytes whole = reader.rest();
  const auto fixed = reader.bytes(wire::ipv6::kHeaderBytes, "IPv6 header");
  if (!fixed) return std::unexpected(fixed.error());
  const auto header = wire::parse_ipv6(whole);
  if (!header && header.error() == wire::IpError::truncated) {
    return std::unexpected(reader.invalid("IPv6 payload", "is not all there"));
  }
  if (!header) return std::unexpected(reader.invalid("IPv6 headers", "do not hold together"));
  if (header->is_fragment) {
    return std::unexpected(reader.invalid("IPv6 fragment", "IKE messages are not reassembled"));
  }
  if (header->protocol != wire::protocol::kUdp) {
    return std::unexpected(reader.invalid("IPv6 next header", "not UDP"));
  }
  return UdpPacket{IpAddress::v6(fixed->subspan(8, 16)), IpAddress::v6(fixed->subspan(24, 16)),
                   whole.subspan(header->payload_offset, header->payload_bytes())};
}

wire::Parsed<UdpPacket> read_ip(Bytes packet) {
  Reader reader(packet);
  if (packet.empty()) return std::unexpected(reader.invalid("IP version", "empty packet"));
  switch (packet[0] >> 4U) {
    case 4:
      return read_ipv4(reader);
    case 6:
      return read_ipv6(reader);
    default:
      return std::unexpected(reader.invalid("IP version", "neither 4 nor 6"));
  }
}

/// RFC 768; a zero checksum means none over IPv4, and is forbidden over IPv6 (RFC 8200 §8.1).
bool checksum_holds(const UdpPacket& packet, Bytes udp, std::uint16_t checksum) {
  if (checksum == 0) return packet.source.is_v4();
  wire::ChecksumSum sum;
  sum.add_pseudo_header(packet.source, packet.destination, wire::protocol::kUdp,
                        static_cast<std::uint32_t>(udp.size()));
  sum.add(udp);
  return sum.finish() == 0;
}

void write_ip_header(wire::Writer& writer, const channel::Datagram& datagram, std::size_t payload,
                     std::uint16_t identification) {
  const IpAddress& source = datagram.local.address;
  const IpAddress& destination = datagram.remote.address;
  if (!source.is_v4()) {
    writer.u32(0x60000000U);
    writer.u16(static_cast<std::uint16_t>(payload));
    writer.u8(wire::protocol::kUdp);
    writer.u8(wire::kOurHopLimit);
    writer.bytes(source.view());
    writer.bytes(destination.view());
    return;
  }
  std::array<std::uint8_t, wire::ipv4::kHeaderBytes> buffer{};
  wire::Writer header(buffer);
  header.u8(0x45);
  header.u8(0);
  header.u16(static_cast<std::uint16_t>(wire::ipv4::kHeaderBytes + payload));
  header.u16(identification);
  header.u16(0);  // routers may fragment: RFC 7296 §2 relies on it for long messages
  header.u8(wire::kOurHopLimit);
  header.u8(wire::protocol::kUdp);
  header.u16(0);
  header.bytes(source.view());
  header.bytes(destination.view());
  wire::ChecksumSum sum;
  sum.add(header.written());
  header.patch_u16(10, sum.finish());
  writer.bytes(header.written());
}

bool has_marker(const channel::Datagram& datagram) {
  return datagram.local.port == kIkeNatPort && !datagram.keepalive;
}

std::size_t payload_bytes(const channel::Datagram& datagram) {
  if (datagram.keepalive) return 1;
  return (has_marker(datagram) ? kMarkerBytes : 0U) + datagram.length;
}

}  // namespace

wire::Parsed<channel::Datagram> parse_ike_packet(Bytes packet) {
  const auto ip = read_ip(packet);
  if (!ip) return std::unexpected(ip.error());
  Reader reader(ip->udp);
  const auto source_port = reader.u16("UDP source port");
  if (!source_port) return std::unexpected(source_port.error());
  const auto destination_port = reader.u16("UDP destination port");
  if (!destination_port) return std::unexpected(destination_port.error());
  const auto length = reader.u16("UDP length");
  if (!length) return std::unexpected(length.error());
  const auto checksum = reader.u16("UDP checksum");
  if (!checksum) return std::unexpected(checksum.error());
  if (*length < kUdpHeaderBytes || *length > ip->udp.size()) {
    return std::unexpected(reader.invalid("UDP length", "does not fit the packet"));
  }
  const Bytes udp = ip->udp.first(*length);
  if (!checksum_holds(*ip, udp, *checksum)) {
    return std::unexpected(reader.invalid("UDP checksum", "wrong"));
  }
  Bytes message = udp.subspan(kUdpHeaderBytes);
  if (*destination_port == kIkeNatPort) {
    const bool marked = message.size() >= kMarkerBytes &&
                        std::all_of(message.begin(), message.begin() + kMarkerBytes,
                                    [](std::uint8_t byte) { return byte == 0; });
    if (!marked) return std::unexpected(reader.invalid("non-ESP marker", "missing"));
    message = message.subspan(kMarkerBytes);
  }
  if (message.size() > channel::kMaxDatagramBytes) {
    return std::unexpected(reader.invalid("IKE message", "longer than the channel carries"));
  }
  channel::Datagram datagram;
  datagram.local = {ip->destination, *destination_port};
  datagram.remote = {ip->source, *source_port};
  datagram.length = static_cast<std::uint32_t>(message.size());
  std::ranges::copy(message, datagram.bytes.begin());
  return datagram;
}

std::size_t ike_packet_bytes(const channel::Datagram& datagram) {
  const std::size_t ip =
      datagram.local.address.is_v4() ? wire::ipv4::kHeaderBytes : wire::ipv6::kHeaderBytes;
  return ip + kUdpHeaderBytes + payload_bytes(datagram);
}

void build_ike_packet(wire::Writer& writer, const channel::Datagram& datagram,
                      std::uint16_t identification) {
  const std::size_t length = kUdpHeaderBytes + payload_bytes(datagram);
  write_ip_header(writer, datagram, length, identification);

  std::array<std::uint8_t, kUdpHeaderBytes + kMarkerBytes> head_buffer{};
  wire::Writer head(head_buffer);
  head.u16(datagram.local.port);
  head.u16(datagram.remote.port);
  head.u16(static_cast<std::uint16_t>(length));
  head.u16(0);
  if (has_marker(datagram)) head.zeros(kMarkerBytes);
  const Bytes body =
      datagram.keepalive ? Bytes(&kKeepalive, 1) : Bytes(datagram.bytes).first(datagram.length);
  wire::ChecksumSum sum;
  sum.add_pseudo_header(datagram.local.address, datagram.remote.address, wire::protocol::kUdp,
                        static_cast<std::uint32_t>(length));
  sum.add(head.written());
  sum.add(body);
  const std::uint16_t checksum = sum.finish();
  head.patch_u16(6, checksum == 0 ? 0xffff : checksum);  // RFC 768: zero means none
  writer.bytes(head.written());
  writer.bytes(body);
}

}  // namespace culvert::dataplane::control
