#include "dataplane/worker/transport_checksum.hpp"

#include "wire/checksum.hpp"
#include "wire/tcp.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::size_t kUdpChecksum = 6;

/// What the checksum covers: of UDP, "the length in octets of this user datagram" (RFC 768), which
/// says "the true length of the Payload Data" where padding hides it (RFC 4303 §2.7). Empty: there
/// is no such segment.
wire::MutableBytes segment_in(wire::MutableBytes payload, bool is_udp) {
  const std::size_t least = is_udp ? wire::udp::kHeaderBytes : wire::tcp::kHeaderBytes;
  if (payload.size() < least) return {};
  return is_udp ? payload.first(wire::udp::length_of(payload)) : payload;
}

wire::IpAddress address_at(const std::uint8_t* ip, bool is_v4, std::size_t at) {
  return is_v4 ? wire::IpAddress::v4(wire::Bytes(ip + at, 4))
               : wire::IpAddress::v6(wire::Bytes(ip + at, 16));
}

}  // namespace

void renew_transport_checksum(wire::MutableBytes packet, const wire::IpHeader& header) {
  if (header.is_fragment) return;
  const bool is_udp = header.protocol == wire::protocol::kUdp;
  if (!is_udp && header.protocol != wire::protocol::kTcp) return;
  if (header.total_bytes > packet.size()) return;
  const wire::MutableBytes segment =
      segment_in(packet.subspan(header.payload_offset, header.payload_bytes()), is_udp);
  if (segment.empty()) return;
  const std::uint8_t* const ip = packet.data();
  const bool is_v4 = (ip[0] >> 4U) == 4;
  std::uint8_t* const checksum = segment.data() + (is_udp ? kUdpChecksum : wire::tcp::kChecksum);
  if (is_udp && wire::load_u16(checksum) == 0) return;  // the sender went without one
  wire::store_u16(checksum, 0);
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
