// What policies look at of a packet (RFC 4301 §4.4.1.1).
#pragma once

#include <cstdint>

#include "wire/ip_address.hpp"

namespace culvert::dataplane {

/// Where a packet is from decides which rules it meets.
enum class PacketOrigin : std::uint8_t {
  clear,       ///< received unprotected: must not be what a reversed protect entry protects
  tunnel,      ///< decrypted by us: its SA's selectors were checked already
  originated,  ///< made by us
};

/// A packet's selectors. Ports in host order; ICMP: type << 8 | code in both.
struct FlowKey {
  wire::IpAddress source, destination;
  std::uint16_t source_port = 0, destination_port = 0;
  std::uint8_t protocol = 0;
  bool ports_known =
      true;  ///< false for non-first fragments: only any-port and OPAQUE match them clearly
  friend bool operator==(const FlowKey&, const FlowKey&) = default;
};

}  // namespace culvert::dataplane
