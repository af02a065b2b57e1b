// Pieces of packets in transit, and policies about them.
#pragma once

#include <string>

#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/ip.hpp"

namespace culvert::test {

/// A piece of a packet from a client: IPv4, or with a fragment header IPv6.
struct Piece {
  std::uint32_t identification = 7;
  std::size_t offset = 0;
  std::size_t bytes = 64;  ///< of data
  bool more = true;
  std::uint16_t port = 53;  ///< that the first one names
  std::uint8_t ttl = 64;
  bool v6 = false;
  Packet in_front = {};  ///< IPv6: of what is in fragments, a header of type 60
  std::string source = {}, destination = {};
};

inline Packet packet_of(const Piece& piece) {
  Packet data(piece.bytes, 0x33);
  if (piece.offset == 0) {
    data = udp(4000, piece.port, Packet(piece.bytes - 8 - piece.in_front.size(), 0x33));
    data.insert(data.begin(), piece.in_front.begin(), piece.in_front.end());
  }
  PacketOptions options{.ttl = piece.ttl, .payload = data};
  if (piece.v6) {
    options.source = "2001:db8:1::9";
    options.destination = "2001:db8:2::7";
    Packet header(8);
    header[0] = piece.in_front.empty() ? options.protocol : 60;
    wire::store_u16(&header[2], static_cast<std::uint16_t>(piece.offset | (piece.more ? 1U : 0U)));
    wire::store_u32(&header[4], piece.identification);
    options.protocol = 44;
    options.payload.insert(options.payload.begin(), header.begin(), header.end());
  }
  options.fragment = static_cast<std::uint16_t>(piece.offset / 8 | (piece.more ? 0x2000U : 0U));
  if (!piece.source.empty()) options.source = piece.source;
  if (!piece.destination.empty()) options.destination = piece.destination;
  Packet whole = frame(ip_packet(options));
  if (!piece.v6) {
    wire::store_u16(&whole[14 + 4], static_cast<std::uint16_t>(piece.identification));
    fix_checksum(whole);
  }
  return whole;
}

inline dataplane::PolicyEntry entry(dataplane::PolicyAction action, const std::string& local,
                                    const std::string& remote) {
  dataplane::PolicyEntry made;
  made.action = action;
  made.local = {wire::TrafficSelector::parse(local).value()};
  made.remote = {wire::TrafficSelector::parse(remote).value()};
  return made;
}

}  // namespace culvert::test
