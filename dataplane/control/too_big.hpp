// ICMP "fragmentation needed" and ICMPv6 "packet too big" about an ESP packet of ours (RFC 792,
// RFC 1191, RFC 4443 §3.2). Pure: what the message says, believed or not.
#pragma once

#include <cstdint>
#include <optional>

#include "wire/cursor.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane::control {

struct TooBigMessage {
  wire::IpAddress local, remote;  ///< of the ESP packet that is quoted: its source and destination
  std::uint32_t spi = 0;
  std::uint32_t sequence = 0;      ///< low half
  std::uint16_t packet_bytes = 0;  ///< of the quoted packet, as its header says
  std::uint16_t mtu = 0;           ///< what the router says; old ones' zero is estimated
};

/// `packet`: a whole IP packet. nullopt: it is no such message, its checksum is wrong, or it quotes
/// too little for the SPI and sequence number, without which nobody is to be believed (RFC 4301
/// §8.2.1).
[[nodiscard]] std::optional<TooBigMessage> read_too_big(wire::Bytes packet);

}  // namespace culvert::dataplane::control
