// What the passes of the short way inbound share (known_inbound.cpp, known_inner.cpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "dataplane/worker/refusals.hpp"
#include "dataplane/worker/stages.hpp"

namespace culvert::dataplane {

/// Packets worth decrypting: so many of CryptoScratch::openings.
struct Openings {
  std::uint32_t count = 0;
  std::uint64_t transforms = 0;  ///< of the SAs that were met, a bit for each
  static_assert(crypto::esp::kTransformCount <= 64);
  /// Pass 1 ended before a number that may be above the highest only because the packet that has it
  /// already is not verified yet.
  bool is_over = false;
  bool has_late = false;  ///< one that pass 3 has met was not above the highest
  bool waits = true;      ///< before a number that stands here already: it may be a replay

  /// An SA that was looked up, so that its fields are those of its SPI.
  void meet(const InboundSa& sa) {
    transforms |= std::uint64_t{1} << static_cast<unsigned>(sa.transform);
  }
};

/// What the general stages know of a packet that classify gave to the short way. `ip`: its outer
/// header, `bytes_in_front` of ESP.
void describe_outer(Burst& burst, std::uint32_t position, std::uint8_t* ip,
                    std::size_t bytes_in_front);

/// Pass 3 from the opening `next` on: packets with one family inside are offered to `send_known`,
/// or go the general stage's way on, or end. Where the first is that is of the other family; what
/// is of neither goes with either.
template <typename Family>
[[nodiscard]] std::uint32_t accept_from(std::uint32_t next, WorkerState& worker, Burst& burst,
                                        Openings& openings, Refusals& refusals);

}  // namespace culvert::dataplane
