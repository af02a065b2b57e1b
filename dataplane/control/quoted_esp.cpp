#include "dataplane/control/quoted_esp.hpp"

#include <algorithm>

#include "wire/checksum.hpp"
#include "wire/icmp.hpp"
#include "wire/ip.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane::control {
namespace {

constexpr std::size_t kSpiAndSequence = 8;
constexpr std::size_t kMostQuoted = UINT16_MAX;  ///< and so is an IP packet

bool checksum_is_right(wire::Bytes icmp, const wire::IpAddress& source,
                       const wire::IpAddress& destination) {
  wire::ChecksumSum sum;
  sum.add(icmp);
  if (!source.is_v4()) {
    sum.add_pseudo_header(source, destination, wire::protocol::kIcmpv6,
                          static_cast<std::uint32_t>(icmp.size()));
  }
  return sum.finish() == 0;
}

/// SPI and sequence number of the ESP packet that is quoted, plain or in UDP.
bool read_quoted_esp(wire::Reader quoted, std::uint8_t protocol, QuotedEsp& esp) {
  esp.is_in_udp = protocol == wire::protocol::kUdp;
  if (esp.is_in_udp) {
    if (!quoted.bytes(wire::udp::kHeaderBytes, "UDP header")) return false;
  } else if (protocol != wire::protocol::kEsp) {
    return false;
  }
  const auto spi = quoted.u32("SPI");
  const auto sequence = quoted.u32("sequence number");
  if (!spi || !sequence || *spi == 0) return false;  // 0: the non-ESP marker
  esp.spi = *spi;
  esp.sequence = *sequence;
  return true;
}

std::optional<QuotedEsp> read_quoted_v4(wire::Bytes quoted) {
  if (quoted.size() < wire::ipv4::kHeaderBytes + kSpiAndSequence || (quoted[0] >> 4U) != 4) {
    return std::nullopt;
  }
  const std::size_t header_bytes = (quoted[0] & 0x0fU) * 4U;
  if (header_bytes < wire::ipv4::kHeaderBytes || header_bytes > quoted.size()) return std::nullopt;
  // A later fragment has no SPI.
  const std::uint16_t fragment = wire::load_u16(quoted.data() + wire::ipv4::kFragment);
  if ((fragment & wire::ipv4::kOffsetMask) != 0) return std::nullopt;
  QuotedEsp esp;
  esp.local = wire::IpAddress::v4(quoted.subspan(wire::ipv4::kSource, 4));
  esp.remote = wire::IpAddress::v4(quoted.subspan(wire::ipv4::kDestination, 4));
  esp.packet_bytes = wire::load_u16(quoted.data() + wire::ipv4::kTotalLength);
  const wire::Reader rest(quoted.subspan(header_bytes));
  if (!read_quoted_esp(rest, quoted[wire::ipv4::kProtocol], esp)) return std::nullopt;
  return esp;
}

std::optional<QuotedEsp> read_quoted_v6(wire::Bytes quoted) {
  if (quoted.size() < wire::ipv6::kHeaderBytes + kSpiAndSequence || (quoted[0] >> 4U) != 6) {
    return std::nullopt;
  }
  QuotedEsp esp;
  esp.local = wire::IpAddress::v6(quoted.subspan(wire::ipv6::kSource, 16));
  esp.remote = wire::IpAddress::v6(quoted.subspan(wire::ipv6::kDestination, 16));
  const std::size_t bytes =
      wire::ipv6::kHeaderBytes + wire::load_u16(quoted.data() + wire::ipv6::kPayloadLength);
  esp.packet_bytes = static_cast<std::uint16_t>(std::min<std::size_t>(bytes, UINT16_MAX));
  // RFC 4301 §8.2.1: it is for the SA of the packet that is quoted, whichever form that left in. In
  // front of ESP stands the fragment header of what we sealed and then cut, and in transport mode
  // whatever the packet has of its own (RFC 4303 §3.1.1). What is quoted may be the packet's
  // beginning only, and never more than the packet.
  const auto header =
      wire::follow_extensions(quoted, std::min({quoted.size(), bytes, kMostQuoted}));
  // A later fragment has no SPI.
  if (!header || !header->has_upper_header) return std::nullopt;
  const wire::Reader rest(quoted.subspan(header->payload_offset, header->payload_bytes()));
  if (!read_quoted_esp(rest, header->protocol, esp)) return std::nullopt;
  return esp;
}

}  // namespace

std::optional<IcmpAboutEsp> read_icmp_about_esp(wire::Bytes packet) {
  const auto header = wire::parse_ip(packet);
  if (!header || header->is_fragment) return std::nullopt;
  const bool is_v4 = (packet[0] >> 4U) == 4;
  const wire::Bytes icmp = packet.subspan(header->payload_offset, header->payload_bytes());
  if (icmp.size() < wire::icmp::kHeaderBytes) return std::nullopt;
  const bool is_error =
      is_v4 ? header->protocol == wire::protocol::kIcmp && wire::icmp::is_error(icmp[0])
            : header->protocol == wire::protocol::kIcmpv6 && wire::icmpv6::is_error(icmp[0]);
  if (!is_error) return std::nullopt;
  IcmpAboutEsp message;
  message.from = is_v4 ? wire::IpAddress::v4(packet.subspan(12, 4))
                       : wire::IpAddress::v6(packet.subspan(8, 16));
  const wire::IpAddress to = is_v4 ? wire::IpAddress::v4(packet.subspan(16, 4))
                                   : wire::IpAddress::v6(packet.subspan(24, 16));
  if (!checksum_is_right(icmp, message.from, to)) return std::nullopt;
  message.type = icmp[0];
  message.code = icmp[1];
  message.rest = wire::load_u32(icmp.data() + 4);
  const wire::Bytes quoted = icmp.subspan(wire::icmp::kHeaderBytes);
  const auto esp = is_v4 ? read_quoted_v4(quoted) : read_quoted_v6(quoted);
  if (!esp) return std::nullopt;
  message.quoted = *esp;
  return message;
}

}  // namespace culvert::dataplane::control
