// How ESP from the peer comes: by itself or in UDP, as its SA has it or astray, from where the peer
// was or from elsewhere, with what the network wrote into its header.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/model/ip_model.hpp"
#include "tests/model/nat_traversal_model.hpp"
#include "tests/unit/dataplane/agreement/addresses.hpp"
#include "tests/unit/dataplane/agreement/random_trains.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

class RandomOuter : protected RandomTrains {
 protected:
  using RandomTrains::RandomTrains;

  /// The IP packet around ESP from the peer.
  Packet outer(const Packet& esp) const { return around(esp, way_of(esp)); }

  /// From another address, or by another port.
  Packet from_elsewhere(const Packet& esp) {
    Way way = way_of(esp);
    if (!way.udp || one_in(2)) way.source = any(way.v6 ? kSayable6 : kSayable4);
    if (way.udp && one_in(2)) way.source_port = static_cast<std::uint16_t>(4501 + below(3));
    return around(esp, way);
  }
  /// To where its SA is not.
  Packet astray(const Packet& esp) {
    Way way = way_of(esp);
    switch (below(4)) {
      case 0:
        way.udp = !way.udp;
        break;
      case 1:
        if (one_in(8)) {
          way.v6 = !way.v6;
          way.source = kThere.at(way.v6);
        }
        way.destination = any(way.v6 ? kOwn6 : kOwn4);
        // To its SA's own it would be a peer that has moved, which stands alone.
        if (way.destination != kHere.at(way.v6) && one_in(3)) {
          way.source = any(way.v6 ? kSayable6 : kSayable4);
        }
        break;
      case 2:
        way.udp = true;
        way.destination_port = static_cast<std::uint16_t>(4499 + below(3));
        break;
      default:
        way.source = any(way.v6 ? kV6 : kV4);
        way.destination = any(way.v6 ? kV6 : kV4);
    }
    return around(esp, way);
  }

 private:
  struct Way {
    std::string source, destination;
    bool v6 = false, udp = false;
    std::uint16_t source_port = 4500, destination_port = 4500;
  };
  Way way_of(const Packet& esp) const {
    const auto found = shapes_.find(model::get32(esp, 0));
    const Shape shape = found == shapes_.end() ? Shape{} : found->second;
    return {kThere.at(shape.outer_v6), kHere.at(shape.outer_v6), shape.outer_v6, shape.udp};
  }
  /// What the network may choose follows from the packet, for of two that are the same it is open
  /// which one is taken.
  static Packet around(const Packet& esp, const Way& way) {
    const std::uint8_t chosen = esp.back(), more = esp[esp.size() - 2];
    PacketOptions options{.source = way.source,
                          .destination = way.destination,
                          .protocol = 50,
                          .traffic_class = chosen % 4 == 0 ? more : std::uint8_t{0},
                          .payload = esp};
    if (way.udp) {
      options.protocol = 17;
      options.payload = udp(way.source_port, way.destination_port, esp);
      if (chosen % 2 == 0) options.payload[7] = 1;  // it has one, RFC 3948 §2.1 notwithstanding
    }
    Packet ip = ip_packet(options);
    return way.udp ? model::with_upper_checksum(std::move(ip)) : ip;
  }
};

}  // namespace culvert::test
