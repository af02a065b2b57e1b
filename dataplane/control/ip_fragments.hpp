// Cuts a packet of ours that is longer than the link's MTU into fragments (RFC 791 §3.2, RFC 8200
// §4.5): an IKE message with certificates may be. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "wire/cursor.hpp"

namespace culvert::dataplane::control {

/// Whole IP packets of at most `mtu` bytes; the packet itself when it fits. `packet` has a header
/// without IPv4 options or IPv6 extension headers, as we build them.
/// Precondition: mtu ≥ 576 (IPv4) or 1280 (IPv6).
std::vector<std::vector<std::uint8_t>> fragments_of(wire::Bytes packet, std::uint16_t mtu,
                                                    std::uint32_t identification);

}  // namespace culvert::dataplane::control
