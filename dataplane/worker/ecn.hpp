// What becomes of the two ECN fields when a tunnel packet is opened (RFC 6040 §4.2, figure 4).
// Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "dataplane/tables/ecn_alarm.hpp"

namespace culvert::dataplane {

/// The ECN field's values (RFC 3168 §5).
enum class Ecn : std::uint8_t { not_ect = 0, ect1 = 1, ect0 = 2, ce = 3 };

struct EcnVerdict {
  Ecn inner;                        ///< of the packet that goes on
  bool drop = false;                ///< its sender slows down in no other way
  EcnAlarm alarm = EcnAlarm::none;  ///< a combination that no ingress of today makes
};

/// "Figure 4: New IP in IP Decapsulation Behaviour", by inner and outer field.
[[nodiscard]] constexpr EcnVerdict decapsulated_ecn(Ecn inner, Ecn outer) {
  using enum Ecn;
  constexpr std::array<std::array<EcnVerdict, 4>, 4> kTable{{
      // outer: Not-ECT, ECT(1), ECT(0), CE
      {{{not_ect},
        {not_ect, false, EcnAlarm::not_ect_in_ect1},
        {not_ect, false, EcnAlarm::not_ect_in_ect0},
        {not_ect, true, EcnAlarm::not_ect_in_ce}}},
      {{{ect1}, {ect1}, {ect1, false, EcnAlarm::ect1_in_ect0}, {ce}}},
      {{{ect0}, {ect1}, {ect0}, {ce}}},
      {{{ce}, {ce, false, EcnAlarm::ce_in_ect1}, {ce}, {ce}}},
  }};
  return kTable[static_cast<std::size_t>(inner)][static_cast<std::size_t>(outer)];
}

}  // namespace culvert::dataplane
