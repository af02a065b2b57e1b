// IP and UDP around IKE: a stranger's packet, as the worker gives it to the main thread. UDP's
// checksum is made right, or little behind it would be met.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "dataplane/control/ike_datagram.hpp"
#include "wire/checksum.hpp"
#include "wire/ip.hpp"
#include "wire/udp.hpp"

using namespace culvert;

namespace {

void make_checksum_right(std::vector<std::uint8_t>& packet) {
  const auto header = wire::parse_ip(packet);
  if (!header || header->payload_bytes() < wire::udp::kHeaderBytes) return;
  std::uint8_t* const udp = packet.data() + header->payload_offset;
  const std::size_t bytes = wire::udp::length_of(wire::Bytes(udp, header->payload_bytes()));
  if (bytes == 0) return;
  const bool is_v4 = wire::is_v4(packet.data());
  const auto address = [&](std::size_t v4_at, std::size_t v6_at) {
    const wire::Bytes whole(packet);
    return is_v4 ? wire::IpAddress::v4(whole.subspan(v4_at, 4))
                 : wire::IpAddress::v6(whole.subspan(v6_at, 16));
  };
  wire::store_u16(udp + 6, 0);
  wire::ChecksumSum sum;
  sum.add_pseudo_header(address(wire::ipv4::kSource, wire::ipv6::kSource),
                        address(wire::ipv4::kDestination, wire::ipv6::kDestination),
                        wire::protocol::kUdp, static_cast<std::uint32_t>(bytes));
  sum.add(wire::Bytes(udp, bytes));
  const std::uint16_t checksum = sum.finish();
  wire::store_u16(udp + 6, checksum == 0 ? 0xffff : checksum);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint8_t> packet(data, data + size);
  make_checksum_right(packet);
  const auto message = dataplane::control::parse_ike_packet(packet);
  if (!message) return 0;
  // What is read is of the packet, behind IP and UDP, and of one family.
  const bool is_v4 = wire::is_v4(packet.data());
  const std::size_t least =
      (is_v4 ? wire::ipv4::kHeaderBytes : wire::ipv6::kHeaderBytes) + wire::udp::kHeaderBytes;
  const auto bytes = wire::Bytes(message->bytes).first(message->length);
  const bool is_inside = size >= least + bytes.size() &&
                         !std::ranges::search(wire::Bytes(packet).subspan(least), bytes).empty();
  if ((!bytes.empty() && !is_inside) || message->local.address.is_v4() != is_v4 ||
      message->remote.address.is_v4() != is_v4) {
    std::abort();
  }
  return 0;
}
