// Cuts a packet into fragments (RFC 791 §3.2, RFC 8200 §4.5). Pure: the pieces are written where
// the caller has room for them.
#pragma once

#include <cstdint>
#include <optional>

#include "wire/cursor.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane {

/// How a packet is cut.
struct Cut {
  std::uint16_t head_bytes = 0;   ///< headers that go in front of each piece, as they stand
  std::uint16_t first_bytes = 0;  ///< headers of the first fragment
  std::uint16_t later_bytes = 0;  ///< headers of the others: IPv4 options that are not copied stay
  std::uint16_t step = 0;         ///< payload bytes of all but the last; a multiple of 8
  std::uint16_t count = 0;
  std::uint16_t next_header_at = 0;  ///< IPv6: of the byte that comes to name the fragment header
  bool is_v4 = true;
  std::uint32_t identification = 0;
};

/// nullopt: it cannot be cut (the MTU leaves no room, the packet's headers do not hold together, or
/// it is an IPv6 packet that is a fragment already). An IPv4 fragment may be cut further.
/// Precondition: `packet` is one whole IP packet longer than `mtu`. `identification`: for IPv6, and
/// for IPv4 packets that had DF set.
[[nodiscard]] std::optional<Cut> cut_for(wire::Bytes packet, std::uint16_t mtu,
                                         std::uint32_t identification);

/// Writes fragment `index` < cut.count to `out` and returns its length, ≤ the MTU; `out` holds as
/// much.
std::size_t write_fragment(wire::Bytes packet, const Cut& cut, std::uint16_t index,
                           wire::MutableBytes out);

}  // namespace culvert::dataplane
