// IKE datagrams between the network and the key daemon, policed by source on the way in. They pass
// outside the SPD: they are what makes SAs (RFC 4301 §4.4.1, RFC 7296 §1).
#pragma once

#include "channel/server.hpp"
#include "dataplane/control/neighbors.hpp"
#include "dataplane/control/newcomers.hpp"
#include "dataplane/control/packets.hpp"
#include "dataplane/control/token_bucket.hpp"
#include "dataplane/control/topology.hpp"

namespace culvert::dataplane::control {

class IkePath {
 public:
  /// A handshake is four to eight messages; a rekey storm of a hub's peer some dozens.
  static constexpr Rate kPerSource{200, 400};
  static constexpr std::size_t kSources = 8192;

  IkePath(const Topology& topology, Neighbors& neighbors, Packets& packets,
          channel::Server& channel, Instant now);

  /// A configured peer's share is its own, however many forged sources there are.
  void know_peer(const wire::IpAddress& peer, Instant now) {
    policer_.keep(peer, now);
    newcomers_.know_peer(peer, now);
  }

  /// From the network, of an IKE SA that may exist; `packet` starts at its IP header.
  void arrived(Packet packet, Instant now);
  /// The same from somebody who begins one.
  void newcomer_arrived(Packet packet, Instant now);
  /// From the key daemon: all that waits in the channel, up to a bound.
  void send_waiting(Instant now);

 private:
  void pass_on(Packet packet);
  void police(Packet packet);
  void send(const channel::Datagram& datagram, Instant now);
  void send_fragments(const channel::Datagram& datagram, const NextHop& next, Instant now);

  const Topology& topology_;
  Neighbors& neighbors_;
  Packets& packets_;
  channel::Server& channel_;
  SourcePolicer policer_;
  Newcomers newcomers_;
  std::uint16_t identification_ = 0;  ///< of the next IPv4 packet
  std::uint64_t refused_ = 0;
};

}  // namespace culvert::dataplane::control
