// What a gateway knows of its security associations (RFC 4301 §4.4.2.1).
#pragma once

#include <cstdint>
#include <vector>

#include "config/header_options.hpp"
#include "dataplane/tables/drop_reason.hpp"
#include "tests/model/esp_model.hpp"
#include "tests/model/replay_model.hpp"
#include "wire/ip_address.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::model {

/// RFC 4301 §4.4.2.1: an SA ends by time, packets or bytes, whichever comes first.
struct LifeModel {
  std::uint64_t installed = 0, hard_seconds = ~0ULL;
  std::uint64_t packets = 0, hard_packets = ~0ULL;
  /// Of the packets inside, with their headers and what hides their size (RFC 4303 §2.7).
  std::uint64_t bytes = 0, hard_bytes = ~0ULL;
  std::uint64_t numbers = ~0ULL;  ///< that it has to send by (RFC 4303 §3.3.3)
  bool stopped = false, ended_by_bytes = false;
  bool was_asked = false;  ///< for a packet, since its owner looked last

  /// Hard means not one packet more: whether this one passes. If so it is counted, else the SA has
  /// ended, for smaller packets too.
  bool take(std::uint64_t packet_bytes) {
    was_asked = true;
    if (stopped) return false;
    ended_by_bytes = bytes + packet_bytes > hard_bytes;
    stopped = ended_by_bytes || packets + 1 > hard_packets;
    if (stopped) return false;
    ++packets;
    bytes += packet_bytes;
    return true;
  }
  /// Whether one packet, or its pieces, might be what ends it.
  [[nodiscard]] bool is_near_its_end() const {
    constexpr std::uint64_t kMostPieces = 16, kMostBytes = 4600;
    return is_within(kMostPieces, kMostBytes);
  }
  [[nodiscard]] bool is_within(std::uint64_t some_packets, std::uint64_t some_bytes) const {
    return hard_packets - packets < some_packets || hard_bytes - bytes < some_bytes ||
           numbers - packets < some_packets;
  }
};
struct InboundModel : LifeModel {
  EspSa keys;
  bool transport = false;
  std::uint32_t window = 64;
  ReplayModel replay{64};
  unsigned failed_in_a_row = 0;  ///< to authenticate
  bool ended_in_burst = false;   ///< by a packet of this one
  std::vector<wire::TrafficSelector> local, remote;
  bool checks_errors = false;  ///< RFC 4301 §6.2: ICMP's, by what they quote
  std::uint64_t id = 0;
  wire::IpAddress here, peer;  ///< the tunnel's ends
  std::uint16_t peer_port = 0;
  bool udp = false;             ///< RFC 3948
  bool copies_dscp_in = false;  ///< RFC 2983 §3: the uniform model's egress
};
inline constexpr std::uint64_t kLastOf32Bits = 0xffffffff;

struct OutboundModel : LifeModel {
  EspSa keys;
  std::uint64_t before = 0;   ///< numbers that it does not send by, for they were used already
  bool is_exhausted = false;  ///< why it stopped, if it did

  /// RFC 4303 §3.3.3: "the sender … MUST NOT send a packet on an SA if doing so would cause the
  /// sequence number to cycle". As `take`.
  bool take_number(std::uint64_t packet_bytes) {
    const bool has_room = !stopped && bytes + packet_bytes <= hard_bytes;
    if (!has_room || packets < numbers) return take(packet_bytes);
    was_asked = stopped = is_exhausted = true;
    return false;
  }
  [[nodiscard]] dataplane::DropReason why_stopped() const {
    return is_exhausted ? dataplane::DropReason::sequence_exhausted
                        : dataplane::DropReason::sa_expired;
  }
  bool transport = false;
  wire::IpAddress here, peer;     ///< the tunnel's ends
  bool udp = false;               ///< RFC 3948, between the ports 4500
  bool is_for_ports = false;      ///< later fragments, which have none, are not (RFC 4301 §7)
  std::size_t path_mtu = ~0UL;    ///< ICMP's word on the way there (RFC 4301 §8.2)
  config::HeaderOptions headers;  ///< its path MTU is the operator's, and bounds ICMP's
};

}  // namespace culvert::model
