// What status says of an interface's rules for ESP (steering.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace culvert::dataplane::control {

struct SteeringReport {
  bool has_one_queue = true;                                 ///< there is nothing to steer
  std::vector<std::string> takes;                            ///< forms the device has rules for
  std::vector<std::pair<std::string, std::string>> refuses;  ///< other forms; why, by the driver
  std::uint64_t with_rule = 0;                               ///< inbound SAs of this interface
  std::uint64_t without_rule = 0;  ///< the others: a form that is refused, no room, not yet
  std::string last_refusal;        ///< of a rule, by the driver; empty: none, or room since
};

}  // namespace culvert::dataplane::control
