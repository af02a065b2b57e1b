// VLAN tags of Ethernet frames (IEEE 802.1Q-2022 §9): one, or a service tag with a customer tag
// behind it (QinQ). Between the addresses and the ethertype.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>

#include "wire/ethernet.hpp"

namespace culvert::wire::vlan {

inline constexpr std::size_t kTagBytes = 4;
inline constexpr std::size_t kMaxTags = 2;
inline constexpr std::uint16_t kCustomer = 0x8100, kService = 0x88a8;  ///< ethertypes of tags
inline constexpr std::uint16_t kIdMask = 0x0fff;
inline constexpr std::uint16_t kLeastId = 1, kMostId = 4094;  ///< 0 and 4095 are reserved (§9.6)

/// VLAN IDs from the outermost on; 0: no more. A tag with ID 0 has a priority only and names no
/// VLAN: it is not in here.
struct Ids {
  std::array<std::uint16_t, kMaxTags> id{};

  [[nodiscard]] bool any() const { return id[0] != 0; }
  [[nodiscard]] std::size_t count() const { return id[0] == 0 ? 0 : id[1] == 0 ? 1 : 2; }
  /// False: there are two already.
  bool add(std::uint16_t tag) {
    const auto value = static_cast<std::uint16_t>(tag & kIdMask);
    if (value == 0) return true;
    if (count() == kMaxTags) return false;
    id[count()] = value;
    return true;
  }
  friend bool operator==(const Ids&, const Ids&) = default;
};

[[nodiscard]] inline bool is_tag(std::uint16_t ethertype) {
  return ethertype == kCustomer || ethertype == kService;
}

/// The tags in a frame.
struct Tags {
  Ids ids;
  std::size_t bytes = 0;  ///< from kAddressesBytes on
};
/// `before`: what the device took off the frame already. nullopt: cut short, or more tags than two.
[[nodiscard]] inline std::optional<Tags> read(Bytes frame, Ids before = {}) {
  Tags tags{before, 0};
  while (frame.size() >= ethernet::kHeaderBytes + tags.bytes) {
    const std::uint8_t* const at = frame.data() + ethernet::kAddressesBytes + tags.bytes;
    if (!is_tag(load_u16(at))) return tags;
    if (frame.size() < ethernet::kHeaderBytes + tags.bytes + kTagBytes) return std::nullopt;
    if (tags.bytes == kMaxTags * kTagBytes || !tags.ids.add(load_u16(at + 2))) return std::nullopt;
    tags.bytes += kTagBytes;
  }
  return std::nullopt;
}

/// Moves the addresses behind `tag_bytes` of tags; the frame begins that much later.
inline std::uint8_t* remove(std::uint8_t* frame, std::size_t tag_bytes) {
  std::memmove(frame + tag_bytes, frame, ethernet::kAddressesBytes);
  return frame + tag_bytes;
}
/// Tags a frame that begins `ids.count() * kTagBytes` behind `room`. The outer of two is a service
/// tag (§9.5); priority 0.
inline void insert(std::uint8_t* room, const Ids& ids) {
  const std::size_t tags = ids.count();
  std::memmove(room, room + tags * kTagBytes, ethernet::kAddressesBytes);
  std::uint8_t* at = room + ethernet::kAddressesBytes;
  for (std::size_t tag = 0; tag < tags; ++tag, at += kTagBytes) {
    store_u16(at, tag + 1 < tags ? kService : kCustomer);
    store_u16(at + 2, ids.id[tag]);
  }
}

}  // namespace culvert::wire::vlan
