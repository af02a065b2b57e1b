#include "dataplane/control/too_big.hpp"

#include <algorithm>
#include <array>

#include "wire/icmp.hpp"

namespace culvert::dataplane::control {
namespace {

/// "the next hop MTU field … is zero": a router from before RFC 1191 (§5). The next of the common
/// MTUs (§7.1) below the packet.
std::uint16_t estimated_mtu(std::uint16_t packet_bytes) {
  constexpr std::array<std::uint16_t, 9> kPlateaus{32000, 17914, 8166, 4352, 2002,
                                                   1492,  1006,  508,  68};
  for (const std::uint16_t plateau : kPlateaus) {
    if (plateau < packet_bytes) return plateau;
  }
  return kPlateaus.back();
}

}  // namespace

std::optional<TooBigMessage> read_too_big(wire::Bytes packet) {
  const auto message = read_icmp_about_esp(packet);
  if (!message) return std::nullopt;
  const bool is_v4 = message->from.is_v4();
  const bool is_such = is_v4 ? message->type == wire::icmp::kUnreachable &&
                                   message->code == wire::icmp::kFragmentationNeeded
                             : message->type == wire::icmpv6::kPacketTooBig;
  if (!is_such) return std::nullopt;
  TooBigMessage result{message->quoted};
  const std::uint32_t told = is_v4 ? message->rest & 0xffffU : message->rest;
  result.mtu = static_cast<std::uint16_t>(std::min<std::uint32_t>(told, UINT16_MAX));
  if (is_v4 && told == 0) result.mtu = estimated_mtu(result.packet_bytes);
  return result;
}

}  // namespace culvert::dataplane::control
