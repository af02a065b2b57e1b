// Packets that come late, by how far, and what a larger window would have taken (RFC 4303 §3.4.3).
#pragma once

#include <cstdint>

#include "dataplane/tables/sa.hpp"

namespace culvert::dataplane {

/// Taken, and not above the highest. Without a window nothing is late.
inline void count_late(InboundSa& sa, std::uint64_t sequence) {
  if (sa.window_packets != 0) sa.details->count_late(sa.highest - sequence, false);
}

/// Refused by the window. Number 0 is none that anyone sends.
inline void count_left(InboundSa& sa, std::uint64_t sequence) {
  if (sequence != 0) sa.details->count_late(sa.highest - sequence, true);
}

/// With ESN a packet left of the window is taken for one of the next 2^32, which its ICV denies
/// (RFC 4303 appendix A2.2). It may have been forged as well; the histogram says so.
inline void count_if_left(InboundSa& sa, std::uint64_t sequence) {
  constexpr std::uint64_t kSubspace = std::uint64_t{1} << 32U;
  if (!sa.has_esn || sequence <= sa.highest || sequence < kSubspace) return;
  const std::uint64_t really = sequence - kSubspace;
  constexpr std::uint64_t kLikely = std::uint64_t{1} << (kLateBuckets - 1);
  if (really >= sa.highest || sa.highest - really >= kLikely) return;
  sa.details->count_late(sa.highest - really, true);
}

}  // namespace culvert::dataplane
