// Sends ICMP errors about packets that could not go on: rate limited (RFC 1812 §4.3.2.8, RFC 4443
// §2.4 f), from the right address, and never in clear about what came out of a tunnel.
#pragma once

#include <array>
#include <cstdint>

#include "dataplane/control/icmp_error.hpp"
#include "dataplane/control/packets.hpp"
#include "dataplane/control/token_bucket.hpp"
#include "dataplane/control/topology.hpp"
#include "dataplane/tables/spd.hpp"

namespace culvert::dataplane::control {

class IcmpSender {
 public:
  static constexpr Rate kPerDestination{20, 20};
  static constexpr Rate kInAll{1000, 200};
  /// About what came out of the tunnel of an SA: some such leave others theirs.
  static constexpr Rate kPerTunnel{200, 50};
  static constexpr std::size_t kDestinations = 4096, kTunnels = 4096;

  IcmpSender(const Topology& topology, const Spd& spd, Packets& packets, Instant now)
      : topology_(topology),
        spd_(spd),
        packets_(packets),
        errors_(now),
        too_big_{Limits(now), Limits(now)} {}

  /// `offending` starts at its IP header; `origin` says how it came. `mtu`: packet_too_big only.
  void report(IcmpErrorKind kind, std::uint32_t mtu, const Packet& offending,
              const PuntedPacket& origin, Instant now);

 private:
  struct Limits {
    explicit Limits(Instant now)
        : in_all(kInAll, now),
          per_destination(kPerDestination, kDestinations, now),
          per_tunnel(kPerTunnel, kTunnels, now) {}
    TokenBucket in_all;
    SourcePolicer per_destination;
    Policer<SlotIndex> per_tunnel;
  };
  /// Without "too big" nothing of size crosses a tunnel, while of others a few do: those take
  /// nothing of its rate, nor one family of the other's.
  [[nodiscard]] Limits& limits_of(IcmpErrorKind kind, wire::Family family);
  /// Which SA would take what answers the packet: a share is its tunnel's.
  [[nodiscard]] SlotIndex tunnel_of(wire::Bytes offending) const;
  [[nodiscard]] std::optional<wire::IpAddress> source_for(const PuntedPacket& origin,
                                                          const wire::IpAddress& sender,
                                                          const wire::IpAddress& destination) const;

  const Topology& topology_;
  const Spd& spd_;
  Packets& packets_;
  Limits errors_;
  std::array<Limits, 2> too_big_;     ///< by family
  std::uint16_t identification_ = 0;  ///< of the last IPv4 error
};

/// Source and destination of an IP packet; nullopt when its header is cut short.
struct IpPair {
  wire::IpAddress source, destination;
};
[[nodiscard]] std::optional<IpPair> addresses_of(wire::Bytes ip_packet);

/// Whether policy will not have a packet for us, whose first fragment is all there is of it: it is
/// asked when a packet is whole (RFC 4301 §5.2), and not about ESP in clear or IKE. Who is refused
/// is told nothing; and no forged fragment in clear makes us speak of it under an SA's protection.
[[nodiscard]] bool would_be_refused(const SpdSnapshot& policies, wire::Bytes first_fragment,
                                    bool from_tunnel);

/// Whether an ICMP error of ours, a whole IP packet, would leave by an SA: by what the policies say
/// of it or, when none names it, of what answers the packet that it quotes (RFC 4301 §6.2).
[[nodiscard]] bool would_be_protected(const SpdSnapshot& policies, wire::Bytes error);

}  // namespace culvert::dataplane::control
