#include "dataplane/worker/encapsulate.hpp"

#include <cstring>

#include "wire/checksum.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

/// The inner packet's DSCP and ECN: both go into the outer header (RFC 4301 §5.1.2.1, RFC 6040 §4.1
/// normal mode).
std::uint8_t traffic_class_of(const std::uint8_t* ip) {
  return wire::is_v4(ip) ? ip[1] : static_cast<std::uint8_t>(wire::load_u16(ip) >> 4U);
}

/// DF is copied; IPv6 inside cannot be fragmented on the way, so the outer packet may not either
/// (RFC 4301 §8.1).
bool wants_dont_fragment(const std::uint8_t* ip) {
  return !wire::is_v4(ip) ||
         (wire::load_u16(ip + wire::ipv4::kFragment) & wire::ipv4::kDontFragment) != 0;
}

std::uint16_t fold(std::uint64_t sum) {
  sum = (sum & 0xffffffffU) + (sum >> 32U);
  sum = (sum & 0xffffU) + (sum >> 16U);
  sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<std::uint16_t>(sum);
}

/// Fills in what depends on the packet, and the checksum from the constant part's sum.
void finish_ipv4(std::uint8_t* outer_ip, const OuterHeader& outer, std::uint16_t packet_bytes,
                 const std::uint8_t* inner, std::uint64_t sequence) {
  const std::uint8_t traffic_class = traffic_class_of(inner);
  // RFC 6864 §4.1 leaves it open where nobody may fragment the packet; as the short way has it.
  const std::uint16_t identification =
      wire::is_v4(inner) ? wire::Be16{identification_of(outer, sequence)}.raw() : std::uint16_t{0};
  const std::uint16_t flags =
      wants_dont_fragment(inner) ? wire::Be16{wire::ipv4::kDontFragment}.raw() : 0;
  const std::uint16_t length = wire::Be16{packet_bytes}.raw();
  const auto first_word = static_cast<std::uint16_t>(traffic_class << 8U);  // memory order
  const std::uint16_t checksum = static_cast<std::uint16_t>(
      ~fold(std::uint64_t{outer.ipv4_sum} + first_word + length + identification + flags));
  outer_ip[1] = traffic_class;
  wire::store_raw(outer_ip + wire::ipv4::kTotalLength, length);
  wire::store_raw(outer_ip + wire::ipv4::kIdentification, identification);
  wire::store_raw(outer_ip + wire::ipv4::kFragment, flags);
  wire::store_raw(outer_ip + wire::ipv4::kChecksum, checksum);
}

void finish_ipv6(std::uint8_t* outer_ip, std::uint16_t packet_bytes, const std::uint8_t* inner) {
  const std::uint8_t traffic_class = traffic_class_of(inner);
  wire::store_u16(outer_ip, static_cast<std::uint16_t>(0x6000U | traffic_class << 4U));
  wire::store_u16(outer_ip + wire::ipv6::kPayloadLength,
                  static_cast<std::uint16_t>(packet_bytes - wire::ipv6::kHeaderBytes));
}

/// The outer header in front of a tunnel packet.
std::uint8_t* put_outer(const OuterHeader& outer, const EspShape& shape, std::uint8_t* inner,
                        std::uint64_t sequence) {
  std::uint8_t* const ip = inner - shape.in_front;
  const std::uint8_t* const ready = outer.bytes.data();
  if (outer.ip_bytes == wire::ipv4::kHeaderBytes) [[likely]] {
    std::memcpy(ip, ready, wire::ipv4::kHeaderBytes);
    finish_ipv4(ip, outer, shape.packet_bytes, inner, sequence);
  } else {
    std::memcpy(ip, ready, wire::ipv6::kHeaderBytes);
    finish_ipv6(ip, shape.packet_bytes, inner);
  }
  return ip;
}

/// Transport mode (RFC 4303 §3.1.1): the packet's own IP headers move to the front and name ESP, or
/// UDP, as what follows.
std::uint8_t* move_own_header(const OuterHeader& outer, const EspShape& shape, std::uint8_t* ip,
                              const wire::IpHeader& header) {
  std::uint8_t* const moved = ip - shape.in_front;
  std::memmove(moved, ip, header.payload_offset);
  moved[header.protocol_offset] =
      outer.udp_bytes != 0 ? wire::protocol::kUdp : wire::protocol::kEsp;
  if (wire::is_v4(moved)) {
    wire::store_u16(moved + wire::ipv4::kTotalLength, shape.packet_bytes);
    wire::write_ipv4_checksum(moved, header.payload_offset);
  } else {
    wire::store_u16(moved + wire::ipv6::kPayloadLength,
                    static_cast<std::uint16_t>(shape.packet_bytes - wire::ipv6::kHeaderBytes));
  }
  return moved;
}

/// A counter, which is all that an AEAD or AES-CTR asks of an IV (RFC 4106 §3.1, RFC 3686 §2.1). In
/// front of AES-CBC it is the block that the engine encrypts into the IV; NULL has none.
void put_iv(std::uint8_t* iv, std::size_t iv_bytes, std::uint64_t counter_raw) {
  if (iv_bytes == sizeof(counter_raw)) [[likely]]
    return wire::store_raw(iv, counter_raw);
  if (iv_bytes == 0) return;
  wire::store_raw<std::uint64_t>(iv, 0);
  wire::store_raw(iv + sizeof(counter_raw), counter_raw);
}

/// Where the packet is for in the end. RFC 8200 §8.1: "If the IPv6 packet contains a Routing
/// header, the Destination Address used in the pseudo-header is that of the final destination."
/// Under way it is in the routing header: last of its addresses (RFC 8200 §8.1), first of a segment
/// list (RFC 8754 §2). Precondition: the extension headers between `ip` and `upper` are sound.
const std::uint8_t* final_destination(const std::uint8_t* ip, const std::uint8_t* upper) {
  constexpr std::size_t kType = 2, kSegmentsLeft = 3, kAddresses = 8, kAddressBytes = 16;
  constexpr std::uint8_t kSegmentList = 4;
  const std::uint8_t* destination = ip + wire::ipv6::kDestination;
  std::uint8_t type = ip[wire::ipv6::kNextHeader];
  for (const std::uint8_t* at = ip + wire::ipv6::kHeaderBytes; at < upper;) {
    const std::size_t bytes = type == wire::ipv6::kFragment ? 8U : (at[1] + 1U) * 8U;
    if (type == wire::ipv6::kRouting && at[kSegmentsLeft] != 0 &&
        bytes >= kAddresses + kAddressBytes) {
      destination = at[kType] == kSegmentList ? at + kAddresses : at + bytes - kAddressBytes;
    }
    type = at[0];
    at += bytes;
  }
  return destination;
}

}  // namespace

std::uint16_t mtu_inside(const OutboundSa& sa, const OuterHeader& outer,
                         const wire::IpHeader& header, std::uint16_t mtu) {
  const std::size_t own_header = sa.is_tunnel ? 0U : header.payload_offset;
  const crypto::esp::Form form = crypto::esp::form_of(outer.transform);
  const std::size_t around = outer.ip_bytes + outer.udp_bytes + wire::esp::kHeaderBytes +
                             form.iv_bytes + form.icv_bytes + own_header;
  if (mtu < around + form.alignment) return 0;
  // Payload and trailer fill whole words, or blocks.
  const std::size_t text = (mtu - around) / form.alignment * form.alignment;
  return static_cast<std::uint16_t>(text - wire::esp::kTrailerBytes + own_header);
}

Encapsulated encapsulate(const OutboundSa& sa, const OuterHeader& outer, const EspShape& shape,
                         std::uint8_t* ip, const wire::IpHeader& header, std::uint64_t sequence) {
  const std::uint8_t next_header = !sa.is_tunnel     ? header.protocol
                                   : wire::is_v4(ip) ? wire::protocol::kIpv4
                                                     : wire::protocol::kIpv6;
  wire::esp::write_trailer(ip + header.total_bytes, shape.padding, next_header);
  std::uint8_t* const payload = ip + header.total_bytes - shape.payload_bytes;
  std::uint8_t* const esp = payload - shape.form.iv_bytes - wire::esp::kHeaderBytes;
  std::uint8_t* const result = sa.is_tunnel ? put_outer(outer, shape, ip, sequence)
                                            : move_own_header(outer, shape, ip, header);
  if (outer.udp_bytes != 0) [[unlikely]] {
    std::uint8_t* const udp = esp - wire::udp::kHeaderBytes;
    std::memcpy(udp, outer.bytes.data() + outer.ip_bytes, wire::udp::kHeaderBytes);
    wire::store_u16(udp + 4, static_cast<std::uint16_t>(result + shape.packet_bytes - udp));
  }
  // SPI and the low half of the sequence number.
  const std::uint64_t low = wire::Be32{static_cast<std::uint32_t>(sequence)}.raw();
  wire::store_raw(esp, low << 32U | outer.spi);
  put_iv(esp + wire::esp::kHeaderBytes, shape.form.iv_bytes, wire::Be64{sa.iv(sequence)}.raw());
  return {result, esp};
}

void finish_ipv6_udp(std::uint8_t* ip, std::uint8_t* udp, std::size_t udp_bytes) {
  wire::store_raw<std::uint16_t>(udp + 6, 0);
  wire::ChecksumSum sum;
  sum.add_pseudo_header(wire::IpAddress::v6(wire::Bytes(ip + wire::ipv6::kSource, 16)),
                        wire::IpAddress::v6(wire::Bytes(final_destination(ip, udp), 16)),
                        wire::protocol::kUdp, static_cast<std::uint32_t>(udp_bytes));
  sum.add(wire::Bytes(udp, udp_bytes));
  const std::uint16_t checksum = sum.finish();
  wire::store_u16(udp + 6, checksum == 0 ? 0xffff : checksum);
}

}  // namespace culvert::dataplane
