#include "ike/daemon/log_event.hpp"

namespace culvert::ike {
namespace {

constexpr runtime::Level log_level(Level level) {
  switch (level) {
    case Level::debug:
      return runtime::Level::debug;
    case Level::info:
      return runtime::Level::info;
    case Level::warning:
      return runtime::Level::warning;
    case Level::error:
      return runtime::Level::error;
  }
  return runtime::Level::info;
}

}  // namespace

LogEvent to_log_event(const Report& report) {
  LogEvent event{log_level(report.level), report.event, {}};
  for (const auto& [key, value] : report.fields) event.fields.push_back({key, value});
  return event;
}

}  // namespace culvert::ike
