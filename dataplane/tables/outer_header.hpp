// The outer header of an outbound SA, built once when it is installed or its endpoints change.
#pragma once

#include "channel/messages.hpp"
#include "dataplane/tables/sa.hpp"

namespace culvert::dataplane {

/// RFC 4301 §5.1.2: what of the outer header does not depend on the packet. Ports as negotiated;
/// the UDP checksum is zero (RFC 3948 §2.1, RFC 6935 for IPv6). Without the salt, which is part of
/// the key.
[[nodiscard]] OuterHeader build_outer_header(const channel::InstallSa& spec,
                                             std::uint8_t hop_limit);

}  // namespace culvert::dataplane
