// ICMP "fragmentation needed" and ICMPv6 "packet too big" about an ESP packet of ours (RFC 792,
// RFC 1191, RFC 4443 §3.2). Pure: what the message says, believed or not.
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/control/quoted_esp.hpp"

namespace culvert::dataplane::control {

struct TooBigMessage : QuotedEsp {
  std::uint16_t mtu = 0;  ///< what the router says; old ones' zero is estimated
};

/// As `read_icmp_about_esp`. nullopt also: it says something else.
[[nodiscard]] std::optional<TooBigMessage> read_too_big(wire::Bytes packet);

}  // namespace culvert::dataplane::control
