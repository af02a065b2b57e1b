// What a gateway knows of its security associations (RFC 4301 §4.4.2.1).
#pragma once

#include <cstdint>
#include <vector>

#include "config/header_options.hpp"
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
    return hard_packets - packets < kMostPieces || hard_bytes - bytes < kMostBytes;
  }
};
struct InboundModel : LifeModel {
  EspSa keys;
  bool transport = false;
  std::uint32_t window = 64;
  ReplayModel replay{64};
  unsigned failed_in_a_row = 0;  ///< to authenticate
  std::vector<wire::TrafficSelector> local, remote;
  bool checks_errors = false;  ///< RFC 4301 §6.2: ICMP's, by what they quote
  std::uint64_t id = 0;
  wire::IpAddress here, peer;  ///< the tunnel's ends
  std::uint16_t peer_port = 0;
  bool udp = false;             ///< RFC 3948
  bool copies_dscp_in = false;  ///< RFC 2983 §3: the uniform model's egress
};
struct OutboundModel : LifeModel {
  EspSa keys;
  bool transport = false;
  wire::IpAddress here, peer;     ///< the tunnel's ends
  bool udp = false;               ///< RFC 3948, between the ports 4500
  bool is_for_ports = false;      ///< later fragments, which have none, are not (RFC 4301 §7)
  std::size_t path_mtu = ~0UL;    ///< ICMP's word on the way there (RFC 4301 §8.2)
  config::HeaderOptions headers;  ///< its path MTU is the operator's, and bounds ICMP's
};

}  // namespace culvert::model
