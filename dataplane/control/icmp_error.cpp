#include "dataplane/control/icmp_error.hpp"

#include <algorithm>
#include <array>

#include "wire/checksum.hpp"
#include "wire/ip.hpp"
#include "wire/neighbor_discovery.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane::control {
namespace {

namespace protocol = wire::protocol;
using wire::IpAddress;

constexpr std::size_t kIcmpHeaderBytes = 8;
// Precedence 6, internetwork control: what RFC 1812 §4.3.2.5 asks for ICMP errors.
constexpr std::uint8_t kIpv4TypeOfService = 0xc0;

/// What of the offending packet decides.
struct Offender {
  IpAddress source, destination;
};

struct TypeAndCode {
  std::uint8_t type, code;
};

TypeAndCode icmpv4_code(IcmpErrorKind kind) {
  switch (kind) {
    case IcmpErrorKind::time_exceeded:
      return {11, 0};
    case IcmpErrorKind::packet_too_big:
      return {3, 4};
    case IcmpErrorKind::host_unreachable:
      return {3, 1};
    case IcmpErrorKind::no_route:
      return {3, 0};
    case IcmpErrorKind::port_unreachable:
      return {3, 3};
    case IcmpErrorKind::reassembly_timeout:
      return {11, 1};
  }
  return {3, 0};
}

TypeAndCode icmpv6_code(IcmpErrorKind kind) {
  switch (kind) {
    case IcmpErrorKind::time_exceeded:
      return {3, 0};
    case IcmpErrorKind::packet_too_big:
      return {2, 0};
    case IcmpErrorKind::host_unreachable:
      return {1, 3};
    case IcmpErrorKind::no_route:
      return {1, 0};
    case IcmpErrorKind::port_unreachable:
      return {1, 4};
    case IcmpErrorKind::reassembly_timeout:
      return {3, 1};
  }
  return {1, 0};
}

/// An address that can be answered, or that one packet can have been for: no multicast, broadcast,
/// loopback, "this network" (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7).
bool is_one_host(const IpAddress& address) {
  if (address.is_unspecified() || wire::is_multicast(address)) return false;
  if (address.is_v4()) {
    return address.bytes[0] != 0 && address.bytes[0] != 127 && address.bytes[0] < 224;
  }
  IpAddress loopback{wire::Family::v6, {}};
  loopback.bytes[15] = 1;
  return address != loopback;
}

bool is_icmpv4_error(std::uint8_t type) {
  // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
  return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

std::expected<Offender, IcmpRefusal> judge_ipv4(wire::Reader reader) {
  const wire::Bytes whole = reader.rest();
  const auto fixed = reader.bytes(wire::ipv4::kHeaderBytes, "IPv4 header");
  if (!fixed) return std::unexpected(IcmpRefusal::malformed);
  const wire::Bytes header = *fixed;
  const std::size_t header_bytes = (header[0] & 0x0fU) * 4U;
  if (header_bytes < wire::ipv4::kHeaderBytes || header_bytes > whole.size()) {
    return std::unexpected(IcmpRefusal::malformed);
  }
  const Offender offender{IpAddress::v4(header.subspan(12, 4)),
                          IpAddress::v4(header.subspan(16, 4))};
  if (!is_one_host(offender.source) || !is_one_host(offender.destination)) {
    return std::unexpected(IcmpRefusal::not_one_host);
  }
  const bool later_fragment = (header[6] & 0x1fU) != 0 || header[7] != 0;
  if (later_fragment) return std::unexpected(IcmpRefusal::later_fragment);
  if (header[9] == protocol::kIcmp) {
    if (whole.size() == header_bytes || is_icmpv4_error(whole[header_bytes])) {
      return std::unexpected(IcmpRefusal::about_an_error);
    }
  }
  return offender;
}

/// Walks extension headers (RFC 8200 §4.1) to the upper layer, for the checks of RFC 4443 §2.4 e. A
/// later fragment does not show it, and is none of the exceptions there: a router that does not
/// tell of it keeps its sender from learning the path MTU (§3.2, "MUST be sent"). ICMPv6
/// errors fit into 1280 bytes (§2.4 c), so that no honest one is cut.
std::expected<void, IcmpRefusal> judge_ipv6_chain(wire::Reader reader, std::uint8_t next_header) {
  constexpr int kMaxHeaders = 8;
  for (int i = 0; i < kMaxHeaders; ++i) {
    const bool options = next_header == 0 || next_header == 43 || next_header == 60;
    const bool fragment = next_header == 44;
    if (!options && !fragment) break;
    const auto start = reader.bytes(2, "IPv6 extension header");
    if (!start) return std::unexpected(IcmpRefusal::malformed);
    next_header = (*start)[0];
    const std::size_t rest = fragment ? 6U : (*start)[1] * 8U + 6U;
    const auto body = reader.bytes(rest, "IPv6 extension header");
    if (!body) return std::unexpected(IcmpRefusal::malformed);
    if (fragment && ((*body)[0] != 0 || ((*body)[1] & 0xf8U) != 0)) return {};
  }
  if (next_header != protocol::kIcmpv6) return {};
  const auto type = reader.u8("ICMPv6 type");
  constexpr std::uint8_t kFirstInformational = 128;
  constexpr std::uint8_t kRedirect = 137;
  if (!type || *type < kFirstInformational || *type == kRedirect) {
    return std::unexpected(IcmpRefusal::about_an_error);
  }
  return {};
}

std::expected<Offender, IcmpRefusal> judge_ipv6(wire::Reader reader) {
  const auto header = reader.bytes(wire::ipv6::kHeaderBytes, "IPv6 header");
  if (!header) return std::unexpected(IcmpRefusal::malformed);
  const Offender offender{IpAddress::v6(header->subspan(8, 16)),
                          IpAddress::v6(header->subspan(24, 16))};
  if (!is_one_host(offender.source) || !is_one_host(offender.destination)) {
    return std::unexpected(IcmpRefusal::not_one_host);
  }
  if (auto chain = judge_ipv6_chain(reader, (*header)[6]); !chain) {
    return std::unexpected(chain.error());
  }
  return offender;
}

std::expected<Offender, IcmpRefusal> judge(wire::Bytes offending) {
  if (offending.empty()) return std::unexpected(IcmpRefusal::malformed);
  const unsigned version = offending[0] >> 4U;
  if (version == 4) return judge_ipv4(wire::Reader(offending));
  if (version == 6) return judge_ipv6(wire::Reader(offending));
  return std::unexpected(IcmpRefusal::malformed);
}

void build_icmpv4(wire::Writer& writer, IcmpErrorKind kind, std::uint32_t mtu,
                  const IpAddress& source, std::uint16_t identification, const Offender& offender,
                  wire::Bytes quoted) {
  const auto [type, code] = icmpv4_code(kind);
  std::array<std::uint8_t, wire::ipv4::kHeaderBytes> header_buffer{};
  wire::Writer header(header_buffer);
  header.u8(0x45);
  header.u8(kIpv4TypeOfService);
  header.u16(
      static_cast<std::uint16_t>(wire::ipv4::kHeaderBytes + kIcmpHeaderBytes + quoted.size()));
  header.u16(identification);
  header.u16(0);  // an SA or a router may cut it
  header.u8(wire::kOurHopLimit);
  header.u8(protocol::kIcmp);
  header.u16(0);
  header.bytes(source.view());
  header.bytes(offender.source.view());
  wire::ChecksumSum header_sum;
  header_sum.add(header.written());
  header.patch_u16(10, header_sum.finish());

  std::array<std::uint8_t, kIcmpHeaderBytes> icmp_buffer{};
  wire::Writer icmp(icmp_buffer);
  icmp.u8(type);
  icmp.u8(code);
  icmp.u16(0);
  icmp.u16(0);
  icmp.u16(kind == IcmpErrorKind::packet_too_big ? static_cast<std::uint16_t>(mtu) : 0);
  wire::ChecksumSum icmp_sum;
  icmp_sum.add(icmp.written());
  icmp_sum.add(quoted);
  icmp.patch_u16(2, icmp_sum.finish());

  writer.bytes(header.written());
  writer.bytes(icmp.written());
  writer.bytes(quoted);
}

void build_icmpv6(wire::Writer& writer, IcmpErrorKind kind, std::uint32_t mtu,
                  const IpAddress& source, const Offender& offender, wire::Bytes quoted) {
  const auto [type, code] = icmpv6_code(kind);
  const auto length = static_cast<std::uint16_t>(kIcmpHeaderBytes + quoted.size());
  std::array<std::uint8_t, kIcmpHeaderBytes> icmp_buffer{};
  wire::Writer icmp(icmp_buffer);
  icmp.u8(type);
  icmp.u8(code);
  icmp.u16(0);
  icmp.u32(kind == IcmpErrorKind::packet_too_big ? mtu : 0);
  wire::ChecksumSum sum;
  sum.add_pseudo_header(source, offender.source, protocol::kIcmpv6, length);
  sum.add(icmp.written());
  sum.add(quoted);
  icmp.patch_u16(2, sum.finish());

  writer.u32(0x60000000U);
  writer.u16(length);
  writer.u8(protocol::kIcmpv6);
  writer.u8(wire::kOurHopLimit);
  writer.bytes(source.view());
  writer.bytes(offender.source.view());
  writer.bytes(icmp.written());
  writer.bytes(quoted);
}

}  // namespace

std::expected<void, IcmpRefusal> build_icmp_error(wire::Writer& writer, IcmpErrorKind kind,
                                                  std::uint32_t mtu, const IpAddress& source,
                                                  std::uint16_t identification,
                                                  wire::Bytes offending) {
  const auto offender = judge(offending);
  if (!offender) return std::unexpected(offender.error());
  if (source.family != offender->source.family) return std::unexpected(IcmpRefusal::malformed);
  if (source.is_v4()) {
    constexpr std::size_t kQuoted =
        kMaxIcmpv4ErrorBytes - wire::ipv4::kHeaderBytes - kIcmpHeaderBytes;
    build_icmpv4(writer, kind, mtu, source, identification, *offender,
                 offending.first(std::min(offending.size(), kQuoted)));
  } else {
    constexpr std::size_t kQuoted =
        kMaxIcmpv6ErrorBytes - wire::ipv6::kHeaderBytes - kIcmpHeaderBytes;
    build_icmpv6(writer, kind, mtu, source, *offender,
                 offending.first(std::min(offending.size(), kQuoted)));
  }
  return {};
}

}  // namespace culvert::dataplane::control
