// Combinations of inner and outer ECN that RFC 6040 §4.2 wants an operator to be able to hear of:
// they mean a faulty or hostile box between the peers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace culvert::dataplane {

enum class EcnAlarm : std::uint8_t {
  not_ect_in_ect0,
  not_ect_in_ect1,
  not_ect_in_ce,  ///< the packet is dropped as well
  ect1_in_ect0,
  ce_in_ect1,
  none,
};
inline constexpr std::size_t kEcnAlarms = static_cast<std::size_t>(EcnAlarm::none);

/// By number: metrics label.
inline constexpr std::array<std::string_view, kEcnAlarms> kEcnAlarmNames{
    "not_ect_in_ect0", "not_ect_in_ect1", "not_ect_in_ce", "ect1_in_ect0", "ce_in_ect1"};

}  // namespace culvert::dataplane
