#include "dataplane/worker/transport_checksum.hpp"

#include "wire/checksum.hpp"
#include "wire/tcp.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::size_t kUdpChecksum = 6;

wire::IpAddress address_at(const std::uint8_t* ip, bool is_v4, std::size_t at) {
  return is_v4 ? wire::IpAddress::v4(wire::Bytes(ip + at, 4))
               : wire::IpAddress::v6(wire::Bytes(ip + at, 16));
}

}  // namespace

void renew_transport_checksum(wire::MutableBytes packet, const wire::IpHeader& header) {
  if (header.is_fragment) return;
  const bool is_udp = header.protocol == wire::protocol::kUdp;
  if (!is_udp && header.protocol != wire::protocol::kTcp) return;
  const std::size_t needed = is_udp ? wire::udp::kHeaderBytes : wire::tcp::kHeaderBytes;
  if (header.payload_bytes() < needed || header.total_bytes > packet.size()) return;
  std::uint8_t* const ip = packet.data();
  const bool is_v4 = (ip[0] >> 4U) == 4;
  std::uint8_t* const upper = ip + header.payload_offset;
  std::uint8_t* const checksum = upper + (is_udp ? kUdpChecksum : wire::tcp::kChecksum);
  if (is_udp && wire::load_u16(checksum) == 0) return;  // the sender went without one
  wire::store_u16(checksum, 0);
  const wire::Bytes segment(upper, header.payload_bytes());
  wire::ChecksumSum sum;
  sum.add_pseudo_header(
      address_at(ip, is_v4, is_v4 ? wire::ipv4::kSource : wire::ipv6::kSource),
      address_at(ip, is_v4, is_v4 ? wire::ipv4::kDestination : wire::ipv6::kDestination),
      header.protocol, static_cast<std::uint32_t>(segment.size()));
  sum.add(segment);
  const std::uint16_t fresh = sum.finish();
  wire::store_u16(checksum, fresh == 0 && is_udp ? 0xffff : fresh);
}

}  // namespace culvert::dataplane
