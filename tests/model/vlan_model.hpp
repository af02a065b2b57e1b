// Which port a frame is for, and the tags that a port's frames have (IEEE 802.1Q-2022 §9).
#pragma once

#include <optional>
#include <vector>

#include "tests/model/packet.hpp"

namespace culvert::model {

struct PortModel {
  unsigned device = 0;
  std::vector<unsigned> vlan;  ///< from the outermost on; none: its frames are untagged
  bool is_used = true;
};

inline constexpr std::size_t kAddressesBytes = 12, kTagBytes = 4;

/// Tags of a frame from the outermost on, with their priorities. nullopt: more than two, or it ends
/// before what is behind them.
inline std::optional<std::vector<unsigned>> tags_in(const ByteString& frame) {
  std::vector<unsigned> tags;
  for (std::size_t at = kAddressesBytes;; at += kTagBytes) {
    if (frame.size() < at + 2) return std::nullopt;
    const unsigned type = get16(frame, at);
    if (type != 0x8100 && type != 0x88a8) return tags;
    if (tags.size() == 2 || frame.size() < at + kTagBytes) return std::nullopt;
    tags.push_back(get16(frame, at + 2));
  }
}

/// What kind of packet such a frame says that it has, and the packet.
inline unsigned type_of(const ByteString& frame) {
  return get16(frame, kAddressesBytes + kTagBytes * tags_in(frame)->size());
}
inline ByteString packet_in(const ByteString& frame) {
  const std::size_t at = kAddressesBytes + kTagBytes * tags_in(frame)->size() + 2;
  return slice(frame, at, frame.size() - at);
}

/// The port of a device that has these tags. "The null VID. Indicates that the tag header contains
/// only priority information" (Table 9-2).
inline std::optional<unsigned> port_of(const std::vector<PortModel>& ports, unsigned device,
                                       const ByteString& frame) {
  const auto tags = tags_in(frame);
  if (!tags) return std::nullopt;
  std::vector<unsigned> vlan;
  for (const unsigned tag : *tags) {
    if ((tag & 0xfffU) != 0) vlan.push_back(tag & 0xfffU);
  }
  for (unsigned port = 0; port < ports.size(); ++port) {
    const PortModel& one = ports[port];
    if (one.device == device && one.vlan == vlan && one.is_used) return port;
  }
  return std::nullopt;
}

/// In front of the type of what a port sends: the outer of two is a service tag (§9.5).
inline ByteString tags_of(const PortModel& port) {
  ByteString tags;
  for (std::size_t i = 0; i < port.vlan.size(); ++i) {
    put16(tags, i + 1 < port.vlan.size() ? 0x88a8 : 0x8100);
    put16(tags, port.vlan[i]);
  }
  return tags;
}

}  // namespace culvert::model
