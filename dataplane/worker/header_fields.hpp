// The fields that an SA's options move between inner and outer header: DSCP, ECN, DF, flow label
// (RFC 4301 §5.1.2, RFC 6040). SAs with the default options never come here. Pure.
#pragma once

#include <cstdint>

#include "config/header_options.hpp"
#include "dataplane/worker/ecn.hpp"

namespace culvert::dataplane {

/// DSCP and ECN of the packet at `ip`, either family.
[[nodiscard]] std::uint8_t traffic_class_at(const std::uint8_t* ip);
/// The same written, with the IPv4 checksum kept right (RFC 1624).
void set_traffic_class(std::uint8_t* ip, std::uint8_t traffic_class);

/// Sealing, tunnel mode: the outer header, complete by the default rules, becomes what `options`
/// say. `identification`: of an IPv4 packet that may be fragmented.
void apply_to_outer(std::uint8_t* outer, const std::uint8_t* inner,
                    const config::HeaderOptions& options, std::uint16_t identification);

/// Opening, tunnel mode: ECN by RFC 6040 §4.2, always; the outer DSCP when `copy_dscp`.
/// Returns what the combination of the two ECN fields means.
EcnVerdict apply_to_inner(std::uint8_t* inner, const std::uint8_t* outer, bool copy_dscp);

}  // namespace culvert::dataplane
