#include "dataplane/tables/outer_header.hpp"

#include <algorithm>

#include "wire/udp.hpp"
#include "wire/unaligned.hpp"

namespace culvert::dataplane {
namespace {

/// The sum of the words that no packet changes, in memory order as ipv4_header_sum adds them.
std::uint32_t constant_sum(const std::uint8_t* header) {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at < wire::ipv4::kHeaderBytes; at += 2) {
    sum += wire::load_raw<std::uint16_t>(header + at);
  }
  sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<std::uint32_t>((sum & 0xffffU) + (sum >> 16U));
}

void build_ipv4(OuterHeader& outer, std::uint8_t protocol, const wire::Endpoint& local,
                const wire::Endpoint& remote, std::uint8_t hop_limit) {
  std::uint8_t* const header = outer.bytes.data();
  header[0] = 0x45;
  header[wire::ipv4::kTtl] = hop_limit;
  header[wire::ipv4::kProtocol] = protocol;
  std::copy_n(local.address.bytes.begin(), 4, header + wire::ipv4::kSource);
  std::copy_n(remote.address.bytes.begin(), 4, header + wire::ipv4::kDestination);
  outer.ip_bytes = wire::ipv4::kHeaderBytes;
  outer.ipv4_sum = constant_sum(header);
}

void build_ipv6(OuterHeader& outer, std::uint8_t protocol, const wire::Endpoint& local,
                const wire::Endpoint& remote, std::uint8_t hop_limit) {
  std::uint8_t* const header = outer.bytes.data();
  header[0] = 0x60;
  header[wire::ipv6::kNextHeader] = protocol;
  header[wire::ipv6::kHopLimit] = hop_limit;
  std::copy_n(local.address.bytes.begin(), 16, header + wire::ipv6::kSource);
  std::copy_n(remote.address.bytes.begin(), 16, header + wire::ipv6::kDestination);
  outer.ip_bytes = wire::ipv6::kHeaderBytes;
}

}  // namespace

OuterHeader build_outer_header(const channel::InstallSa& spec, std::uint8_t hop_limit,
                               std::uint16_t identification_start) {
  OuterHeader outer;
  outer.spi = wire::Be32{static_cast<std::uint32_t>(spec.spi)}.raw();
  const std::uint8_t protocol =
      spec.udp_encapsulation ? wire::protocol::kUdp : wire::protocol::kEsp;
  if (spec.mode == channel::SaMode::tunnel) {
    if (spec.remote.address.is_v4()) {
      build_ipv4(outer, protocol, spec.local, spec.remote, hop_limit);
      // Behind the sum, which is of what is the same in each packet.
      wire::store_u16(outer.bytes.data() + wire::ipv4::kIdentification, identification_start);
    } else {
      build_ipv6(outer, protocol, spec.local, spec.remote, hop_limit);
    }
  }
  if (spec.udp_encapsulation) {
    std::uint8_t* const udp = outer.bytes.data() + outer.ip_bytes;
    wire::store_u16(udp, spec.local.port);
    wire::store_u16(udp + 2, spec.remote.port);
    outer.udp_bytes = wire::udp::kHeaderBytes;
  }
  return outer;
}

}  // namespace culvert::dataplane
