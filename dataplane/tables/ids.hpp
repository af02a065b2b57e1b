// Indices that must not be mixed up.
#pragma once

#include <cstdint>

#include "config/limits.hpp"

namespace culvert::dataplane {

enum class PortId : std::uint16_t {};  ///< of an interface, as long as it is configured
enum class WorkerId : std::uint16_t {};
enum class SlotIndex : std::uint32_t {};  ///< of an SA in its direction's SAD
enum class AdjacencyIndex : std::uint32_t {};

inline constexpr SlotIndex kNoSlot{0xffffffff};

template <typename Index>
[[nodiscard]] constexpr std::size_t raw(Index index) {
  return static_cast<std::size_t>(index);
}

/// Limits of the data plane, in one place.
/// As many again as interfaces, for the numbers of such that were removed: they rest for a while.
inline constexpr std::size_t kMaxPorts = 2 * config::limits::kInterfaces;
inline constexpr std::size_t kBurstPackets = 64;  ///< received at once from one queue

}  // namespace culvert::dataplane
