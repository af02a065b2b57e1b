// An ICMP error to us about an ESP packet of ours (RFC 792, RFC 4443 §3). Pure: what it says,
// believed or not: nobody has authenticated it (RFC 4301 §6.1.1).
#pragma once

#include <cstdint>
#include <optional>

#include "wire/cursor.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane::control {

/// The packet that a message quotes.
struct QuotedEsp {
  wire::IpAddress local, remote;  ///< its source and destination
  std::uint32_t spi = 0;
  std::uint32_t sequence = 0;      ///< low half
  std::uint16_t packet_bytes = 0;  ///< as its header says
  bool is_in_udp = false;          ///< RFC 3948
};

struct IcmpAboutEsp {
  wire::IpAddress from;
  std::uint8_t type = 0, code = 0;
  std::uint32_t rest = 0;  ///< of its header
  QuotedEsp quoted;
};

/// `packet`: a whole IP packet. nullopt: it is no ICMP error, its checksum is wrong, or it quotes
/// too little for the SPI and sequence number, without which nobody is to be believed (RFC 4301
/// §8.2.1).
[[nodiscard]] std::optional<IcmpAboutEsp> read_icmp_about_esp(wire::Bytes packet);

}  // namespace culvert::dataplane::control
