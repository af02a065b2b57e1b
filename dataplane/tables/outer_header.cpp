#include "dataplane/tables/outer_header.hpp"

#include "wire/cursor.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint8_t kOuterHops = 64;  // RFC 4301 §5.1.2.1: constructed, not copied
constexpr std::uint8_t kUdp = 17, kEsp = 50;

void write_ipv4(wire::Writer& out, std::uint8_t protocol, const wire::Endpoint& local,
                const wire::Endpoint& remote) {
  out.u8(0x45);
  out.u8(0);   // DSCP and ECN: from the inner packet
  out.u16(0);  // total length
  out.u16(0);  // identification: 0 with DF, RFC 6864 §4.1
  out.u16(0);  // flags: DF from the inner packet
  out.u8(kOuterHops);
  out.u8(protocol);
  out.u16(0);  // checksum
  out.bytes(local.address.view());
  out.bytes(remote.address.view());
}

void write_ipv6(wire::Writer& out, std::uint8_t protocol, const wire::Endpoint& local,
                const wire::Endpoint& remote) {
  out.u32(6U << 28);
  out.u16(0);  // payload length
  out.u8(protocol);
  out.u8(kOuterHops);
  out.bytes(local.address.view());
  out.bytes(remote.address.view());
}

std::uint32_t sum_of_words(wire::Bytes bytes) {
  std::uint32_t sum = 0;
  for (std::size_t at = 0; at + 1 < bytes.size(); at += 2) {
    sum += static_cast<std::uint32_t>(bytes[at]) << 8 | bytes[at + 1];
  }
  return sum;
}

}  // namespace

OuterHeader build_outer_header(channel::SaMode mode, bool udp_encapsulation,
                               const wire::Endpoint& local, const wire::Endpoint& remote) {
  OuterHeader header;
  wire::Writer out(header.bytes);
  const std::uint8_t protocol = udp_encapsulation ? kUdp : kEsp;
  if (mode == channel::SaMode::tunnel) {
    if (local.address.is_v4()) {
      write_ipv4(out, protocol, local, remote);
    } else {
      write_ipv6(out, protocol, local, remote);
    }
    header.checksum = sum_of_words(out.written());
  }
  if (udp_encapsulation) {
    out.u16(local.port);
    out.u16(remote.port);
    out.u16(0);  // length
    out.u16(0);  // checksum: zero for IPv4 (RFC 3948 §2.1), computed for IPv6
  }
  header.length = static_cast<std::uint8_t>(out.size());
  if (remote.address.is_v4()) header.remote_v4 = remote.address.v4_host();
  return header;
}

}  // namespace culvert::dataplane
