// Whether a decrypted packet is one that its SA was made for (RFC 4301 §5.2 step 4, §6.2, §7.2).
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/sa.hpp"
#include "dataplane/worker/decapsulate.hpp"

namespace culvert::dataplane {

/// For selectors of any shape, and for what simple ones do not take. `tsc`: the time; what is
/// refused is kept in the SA's details.
[[nodiscard]] std::optional<DropReason> refused_by_any_selectors(const InboundSa& sa,
                                                                 const Decapsulated& packet,
                                                                 std::uint64_t tsc);

/// "the receiving system MUST match the packet's headers against the SA's selectors" (RFC 4301
/// §5.2). nullopt: it is for this SA.
[[nodiscard]] inline std::optional<DropReason> refused_by_selectors(const InboundSa& sa,
                                                                    const Decapsulated& packet,
                                                                    std::uint64_t tsc) {
  const std::uint8_t* const ip = packet.ip;
  const bool may_be_checked =
      sa.checks_icmp_errors && packet.header.protocol == wire::protocol::kIcmp;
  if (sa.selectors_are_simple && !may_be_checked && (ip[0] >> 4U) == 4 &&
      sa.selectors.match(wire::load_u32(ip + wire::ipv4::kSource),
                         wire::load_u32(ip + wire::ipv4::kDestination))) [[likely]] {
    return std::nullopt;
  }
  return refused_by_any_selectors(sa, packet, tsc);
}

}  // namespace culvert::dataplane
