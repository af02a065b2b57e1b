// What the machine reports, as an event of the log.
#pragma once

#include <string_view>
#include <vector>

#include "ike/machine/machine.hpp"
#include "runtime/log.hpp"

namespace culvert::ike {

/// For runtime::log_fields. The name and the fields' keys are the report's, which outlives it.
struct LogEvent {
  runtime::Level level{};
  std::string_view name;
  std::vector<runtime::LogField> fields;
};
[[nodiscard]] LogEvent to_log_event(const Report& report);

}  // namespace culvert::ike
