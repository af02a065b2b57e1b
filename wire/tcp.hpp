// TCP as a gateway that clamps the MSS looks at it (RFC 9293 §3.1, §3.7.1).
#pragma once

#include <cstdint>
#include <optional>

#include "wire/checksum.hpp"
#include "wire/cursor.hpp"
#include "wire/unaligned.hpp"

namespace culvert::wire::tcp {

inline constexpr std::size_t kHeaderBytes = 20;
inline constexpr std::size_t kDataOffset = 12, kFlags = 13, kChecksum = 16;
inline constexpr std::uint8_t kSyn = 0x02;

/// Where the MSS option's value stands in a segment; nullopt when the segment is cut short, has no
/// such option, or options that do not hold together.
[[nodiscard]] inline std::optional<std::size_t> find_mss(Bytes segment) {
  constexpr std::uint8_t kEnd = 0, kNothing = 1, kMss = 2, kMssBytes = 4;
  if (segment.size() < kHeaderBytes) return std::nullopt;
  const std::size_t header_bytes = (segment[kDataOffset] >> 4U) * 4U;
  if (header_bytes < kHeaderBytes || header_bytes > segment.size()) return std::nullopt;
  std::size_t at = kHeaderBytes;
  while (at < header_bytes) {
    const std::uint8_t kind = segment[at];
    if (kind == kEnd) return std::nullopt;
    if (kind == kNothing) {
      ++at;
      continue;
    }
    if (at + 2 > header_bytes) return std::nullopt;
    const std::size_t length = segment[at + 1];
    if (length < 2 || at + length > header_bytes) return std::nullopt;
    if (kind == kMss) {
      if (length != kMssBytes) return std::nullopt;
      return at + 2;
    }
    at += length;
  }
  return std::nullopt;
}

/// Lowers the MSS that a SYN announces to `most`, and its checksum with it; never raises it. True:
/// it was lowered.
inline bool clamp_mss(MutableBytes segment, std::uint16_t most) {
  if (segment.size() < kHeaderBytes || (segment[kFlags] & kSyn) == 0) return false;
  const auto at = find_mss(segment);
  if (!at) return false;
  std::uint16_t before = load_u16(segment.data() + *at);
  if (before <= most) return false;
  store_u16(segment.data() + *at, most);
  std::uint16_t after = most;
  if (*at % 2 != 0) {  // across two of the words that the checksum adds: the same, bytes swapped
    before = static_cast<std::uint16_t>(before << 8U | before >> 8U);
    after = static_cast<std::uint16_t>(after << 8U | after >> 8U);
  }
  std::uint8_t* const checksum = segment.data() + kChecksum;
  store_u16(checksum, updated_checksum(load_u16(checksum), before, after));
  return true;
}

}  // namespace culvert::wire::tcp
