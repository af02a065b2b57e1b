// ARP and neighbour discovery on the wire: questions, answers, announcements, and the packets that
// wait for an address. What is known is NeighborTable's; workers learn it through Forwarding.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "dataplane/control/forwarding.hpp"
#include "dataplane/control/hold_queue.hpp"
#include "dataplane/control/neighbor_table.hpp"
#include "dataplane/control/packets.hpp"
#include "dataplane/control/topology.hpp"
#include "dataplane/ports/packet_holders.hpp"
#include "dataplane/tables/spd.hpp"
#include "wire/neighbor_discovery.hpp"

namespace culvert::dataplane::control {

class Neighbors {
 public:
  static constexpr std::size_t kHeldPerNeighbor = 16;
  /// But for one of each neighbour that is asked for ("SHOULD save (rather than discard) at least
  /// one", RFC 1122 §2.3.2.2): many for some leave others theirs.
  static constexpr std::size_t kHeldInAll = ports::kHeldForNeighbors;

  Neighbors(const Topology& topology, const Spd& spd, Forwarding& forwarding, Packets& packets)
      : topology_(topology), spd_(spd), forwarding_(forwarding), packets_(packets) {}

  /// Sends an IP packet to a neighbour, at once or when it has answered. `origin`: how it came to
  /// us, for the ICMP error when nobody answers, by which policies it goes there, and whether the
  /// neighbour is a route's next hop or the packet's own destination.
  void send(const NeighborKey& neighbor, Packet packet, const PuntedPacket& origin, Instant now);
  /// An ARP message or a neighbour solicitation or advertisement came in on `port`; `packet` starts
  /// at the ARP header or the IPv6 header.
  void arp_arrived(PortId port, Packet packet, Instant now);
  void discovery_arrived(PortId port, Packet packet, Instant now);
  /// Tells every link our addresses (gratuitous ARP, RFC 5227 §3; RFC 4861 §7.2.6), but those that
  /// it has been told: `before` has them there.
  void announce(const Topology& before = {});
  /// Retries and ages; call about ten times a second.
  void tick(Instant now);
  /// At the start and after a reload: forgets neighbours that are on no link of ours any more, and
  /// takes over those that the operator wrote down.
  void topology_changed(Instant now);
  /// Drops all that waits.
  void stop();

  /// Called for each packet whose neighbour did not answer, before it is dropped.
  using Unreachable = std::function<void(const NeighborKey&, const Packet&, const PuntedPacket&)>;
  void on_unreachable(Unreachable callback) { unreachable_ = std::move(callback); }
  [[nodiscard]] const NeighborTable& table() const { return table_; }

 private:
  struct Held {
    Packet packet;
    PuntedPacket origin;
  };
  /// Nobody but the operator makes the gateways and the peers that he configured: a packet for one
  /// of them, also our own ESP or IKE for a peer on the link, asks as a route's does.
  [[nodiscard]] WantedBy wanted_by(const NeighborKey& neighbor, const PuntedPacket& origin) const;
  [[nodiscard]] std::optional<wire::MacAddress> mac_of(const NeighborKey& neighbor) const;
  [[nodiscard]] bool may_tell(PortId port, const wire::IpAddress& neighbor) const;
  void go_on(Packet packet, const PuntedPacket& origin, const Link& link);
  void act(std::vector<NeighborAction>& actions);
  void act(const Solicit& action);
  void act(const Resolved& action);
  void act(const Lost& action);
  void act(const Failed& action);
  void act(const GaveWay& action);
  void answer_arp(PortId port, const wire::ArpMessage& request);
  void answer_solicitation(PortId port, const wire::NeighborMessage& request);
  void send_arp(PortId port, const wire::ArpMessage& message, const wire::MacAddress& to);
  void send_discovery(PortId port, const wire::NeighborMessage& message,
                      const wire::MacAddress& to);

  const Topology& topology_;
  const Spd& spd_;
  Forwarding& forwarding_;
  Packets& packets_;
  NeighborTable table_;
  HoldQueue<NeighborKey, Held> held_{kHeldPerNeighbor, kHeldInAll};
  std::vector<NeighborAction> actions_;  ///< reused between calls
  Unreachable unreachable_;
};

}  // namespace culvert::dataplane::control
