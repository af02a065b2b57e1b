// From a decrypted ESP payload to the packet that was in it (RFC 4303 §3.4.4.2, RFC 4301 §5.1.2).
// Pure: bytes and SA state, no DPDK.
#pragma once

#include <cstdint>
#include <expected>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/flow_key.hpp"
#include "dataplane/tables/sa.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane {

/// The packet inside: where it begins and its header.
struct Decapsulated {
  std::uint8_t* ip = nullptr;
  wire::IpHeader header;
};

/// Tunnel mode. `text`: payload and trailer, verified. `outer`: the outer IP header. Copies ECN by
/// RFC 6040 §4.2, the DSCP if the SA says so; the rest of the inner header stays.
[[nodiscard]] std::expected<Decapsulated, DropReason> decapsulate_tunnel(InboundDetails& details,
                                                                         wire::MutableBytes text,
                                                                         const std::uint8_t* outer);

/// Transport mode: the IP header moves up to the payload and says what follows. `ip` and `header`:
/// the packet as received.
[[nodiscard]] std::expected<Decapsulated, DropReason> decapsulate_transport(
    wire::MutableBytes text, std::uint8_t* ip, const wire::IpHeader& header);

/// Addresses of the packet at `ip`.
[[nodiscard]] wire::IpAddress source_of(const std::uint8_t* ip);
[[nodiscard]] wire::IpAddress destination_of(const std::uint8_t* ip);
/// What policies look at of a packet whose ports were read.
[[nodiscard]] FlowKey flow_key(const std::uint8_t* ip, const wire::IpHeader& header,
                               const wire::Ports& ports);

}  // namespace culvert::dataplane
