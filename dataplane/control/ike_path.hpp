// IKE datagrams between the network and the key daemon, policed by IKE SA on the way in, and those
// of none by source (docs/decisions/0011). They pass outside the SPD: they are what makes SAs (RFC
// 4301 §4.4.1, RFC 7296 §1).
#pragma once

#include "channel/server.hpp"
#include "dataplane/control/neighbors.hpp"
#include "dataplane/control/newcomers.hpp"
#include "dataplane/control/packets.hpp"
#include "dataplane/control/token_bucket.hpp"
#include "dataplane/control/topology.hpp"
#include "dataplane/tables/ike_spis.hpp"
#include "wire/cursor.hpp"

namespace culvert::dataplane::control {

class IkePath {
 public:
  /// A rekey storm of a hub's peer is some dozens of messages.
  static constexpr Rate kPerIkeSa{200, 400};

  IkePath(const Topology& topology, Neighbors& neighbors, Packets& packets,
          channel::Server& channel, IkeSpis& known, Instant now);

  /// A configured peer's share is its own, however many forged sources there are.
  void know_peer(const wire::IpAddress& peer, Instant now) { newcomers_.know_peer(peer, now); }
  /// Of no configuration any more.
  void know_no_peer() { newcomers_.know_no_peer(); }

  /// From the network, of an IKE SA in IkeSpis; `packet` starts at its IP header.
  void arrived(Packet packet, Instant now);
  /// The same from somebody who begins one, or says so.
  void newcomer_arrived(Packet packet, Instant now);
  /// From the key daemon: all that waits in the channel, up to a bound.
  void send_waiting(Instant now);

 private:
  void pass_on(Packet packet, const wire::Parsed<channel::Datagram>& datagram);
  void police(Packet packet);
  void send(const channel::Datagram& datagram, Instant now);
  void send_fragments(const channel::Datagram& datagram, const NextHop& next, Instant now);

  const Topology& topology_;
  Neighbors& neighbors_;
  Packets& packets_;
  channel::Server& channel_;
  IkeSpis& known_;
  Policer<std::uint64_t> policer_;  ///< by our SPI: an address may be many peers', or forged
  Newcomers newcomers_;
  std::uint16_t identification_ = 0;  ///< of the next IPv4 packet
  std::uint64_t refused_ = 0;
};

}  // namespace culvert::dataplane::control
