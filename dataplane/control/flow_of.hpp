// A packet's selectors as the main thread needs them for events (RFC 4301 §4.4.1.1). Pure.
#pragma once

#include <optional>

#include "dataplane/tables/spd.hpp"
#include "wire/cursor.hpp"

namespace culvert::dataplane::control {

/// From the IP header on; ports only where the header right behind it has them. nullopt when the
/// IP header is cut short.
std::optional<FlowKey> flow_of(wire::Bytes ip_packet);

/// An ESP packet that nobody expected: where it came from and its SPI.
struct EspHeaderSeen {
  std::uint32_t spi = 0;  ///< host order
  wire::Endpoint from, to;
};
/// Plain ESP or ESP in UDP (RFC 3948), from the outer IP header on; nullopt when it is neither or
/// cut short.
std::optional<EspHeaderSeen> esp_header_of(wire::Bytes ip_packet);

}  // namespace culvert::dataplane::control
