// Packets that met a trap: the key daemon is asked for an SA once (again where the channel had no
// room for the question), a bounded number of packets waits for it, and goes on when the policy is
// there, or is dropped.
#pragma once

#include "channel/server.hpp"
#include "dataplane/control/acquire_tracker.hpp"
#include "dataplane/control/child_directory.hpp"
#include "dataplane/control/hold_queue.hpp"
#include "dataplane/control/packets.hpp"
#include "dataplane/ports/packet_holders.hpp"

namespace culvert::dataplane::control {

class Acquires {
 public:
  static constexpr std::size_t kHeldPerChild = 64;
  static constexpr std::size_t kHeldInAll = ports::kHeldForSas;

  Acquires(const ChildDirectory& children, Packets& packets, channel::Server& channel)
      : children_(children), packets_(packets), channel_(channel) {}

  /// `packet` starts at its IP header.
  void arrived(Packet packet, const PuntedPacket& origin, Instant now);
  /// A policy of the child was installed: what waits meets it.
  void answered(ChildId child_id);
  /// Gives up what waited too long; asks what was not heard. Call about ten times a second.
  void tick(Instant now);
  /// A key daemon connected: what still waits is asked for again.
  void key_daemon_connected(Instant now);
  void stop();
  /// Whether packets wait for the child's SA, or did a moment ago, in vain.
  [[nodiscard]] bool is_wanted(ChildId child, Instant now) const {
    return tracker_.is_wanted(child, now);
  }

 private:
  struct Held {
    Packet packet;
    PuntedPacket origin;
  };
  void ask(ChildId child_id, wire::Bytes packet);
  void ask_again(Instant now);

  const ChildDirectory& children_;
  Packets& packets_;
  channel::Server& channel_;
  AcquireTracker tracker_;
  HoldQueue<ChildId, Held> held_{kHeldPerChild, kHeldInAll};
};

}  // namespace culvert::dataplane::control
