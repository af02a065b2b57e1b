// IKE messages between the channel and the wire: IP and UDP headers, the non-ESP marker, NAT
// keepalives (RFC 7296 §2.23, RFC 3948). Pure.
#pragma once

#include <cstdint>
#include <expected>

#include "channel/messages.hpp"
#include "wire/cursor.hpp"

namespace culvert::dataplane::control {

inline constexpr std::uint16_t kIkePort = 500;
inline constexpr std::uint16_t kIkeNatPort = 4500;
/// What stands in front of the IKE message at most: IPv6, UDP, marker.
inline constexpr std::size_t kMaxIkeHeaderBytes = 40 + 8 + 4;

/// Takes a received UDP packet (from its IP header on; Ethernet padding allowed) apart. The marker
/// is checked and cut on port 4500. Fragments, wrong lengths and wrong checksums are errors, as is
/// a message longer than the channel carries.
wire::Parsed<channel::Datagram> parse_ike_packet(wire::Bytes packet);

/// Appends the whole IP packet: with the marker when the local port is 4500, one byte 0xff when it
/// is a keepalive. `identification` (IPv4) should differ from packet to packet.
/// Precondition: both addresses of one family.
void build_ike_packet(wire::Writer& writer, const channel::Datagram& datagram,
                      std::uint16_t identification);

/// Bytes of the IP packet that build_ike_packet appends.
std::size_t ike_packet_bytes(const channel::Datagram& datagram);

}  // namespace culvert::dataplane::control
