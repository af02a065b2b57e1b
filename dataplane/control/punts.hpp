// Packets that workers hand to the main thread: each goes to the one who knows what to do with it.
#pragma once

#include "channel/layout.hpp"
#include "channel/server.hpp"
#include "dataplane/control/acquires.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/control/icmp_sender.hpp"
#include "dataplane/control/ike_path.hpp"
#include "dataplane/control/neighbors.hpp"
#include "dataplane/control/packets.hpp"

namespace culvert::dataplane::control {

class Punts {
 public:
  static constexpr Rate kUnknownSpiEvents{10, 10};
  /// Of all SAs: some thousands behind one NAT that begins anew have all said it within seconds.
  static constexpr Rate kPeerMovedEvents{1000, 1000};
  /// Places in the key daemon's ring that no `peer_moved` takes: expiries and acquires have no
  /// other way.
  static constexpr std::size_t kRoomForOthers = channel::kEventSlots / 2;

  Punts(Packets& packets, Neighbors& neighbors, IcmpSender& icmp, IkePath& ike, Acquires& acquires,
        Associations& associations, channel::Server& channel, Instant now)
      : packets_(packets),
        neighbors_(neighbors),
        icmp_(icmp),
        ike_(ike),
        acquires_(acquires),
        associations_(associations),
        channel_(channel),
        unknown_spi_(kUnknownSpiEvents, now),
        peer_moved_(kPeerMovedEvents, now) {}

  /// Takes over one packet from a punt ring.
  void arrived(rte_mbuf* packet, Instant now);
  /// An authenticated packet came from elsewhere. What goes no further is said again: a worker's
  /// next hint of the SA is a second away.
  void peer_moved(const PeerMovedHint& hint, Instant now);

 private:
  void resolve(Packet packet, const PuntedPacket& origin, Instant now);
  void unknown_spi(Packet packet, Instant now);
  void path_too_big(Packet packet, Instant now);
  void path_unreachable(Packet packet);
  /// Reports an ICMP error, then drops.
  void refuse(Packet packet, const PuntedPacket& origin, IcmpErrorKind error, DropReason reason,
              Instant now);

  Packets& packets_;
  Neighbors& neighbors_;
  IcmpSender& icmp_;
  IkePath& ike_;
  Acquires& acquires_;
  Associations& associations_;
  channel::Server& channel_;
  TokenBucket unknown_spi_;
  TokenBucket peer_moved_;
};

}  // namespace culvert::dataplane::control
