// What is in the peers' tunnels: ICMP echo requests over IPv4 (RFC 792) that say whose they are and
// which of that peer's, which the answering host's kernel sends back.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "wire/icmp.hpp"
#include "wire/ip.hpp"

namespace culvert::load {

struct Echo {
  wire::IpAddress peer_address, host;  ///< the request's source and destination, IPv4
  std::uint32_t peer = 0;
  std::uint64_t number = 0;  ///< of that peer's requests

  friend bool operator==(const Echo&, const Echo&) = default;
};

inline constexpr std::size_t kEchoBytes =
    wire::ipv4::kHeaderBytes + wire::icmp::kHeaderBytes + sizeof(Echo::peer) + sizeof(Echo::number);
using EchoPacket = std::array<std::uint8_t, kEchoBytes>;

[[nodiscard]] EchoPacket make_request(const Echo& echo);
/// nullopt: not the reply to such a request, or one of its checksums is wrong.
[[nodiscard]] std::optional<Echo> read_reply(wire::Bytes packet);

}  // namespace culvert::load
