#include "runtime/notify.hpp"

#include <cstdint>

#include <systemd/sd-daemon.h>

#include "runtime/event_loop.hpp"

namespace culvert::runtime {
namespace {

/// A status is one line of the protocol: a newline in it would start another assignment.
std::string one_line(std::string text) {
  for (char& character : text) {
    if (character == '\n' || character == '\r') character = ' ';
  }
  return text;
}

void tell(const std::string& state) { ::sd_notify(0, state.c_str()); }

}  // namespace

void notify_ready(const std::string& status) { tell("READY=1\nSTATUS=" + one_line(status)); }

void notify_reloading() {
  const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(now()).count();
  // Type=notify-reload wants the time at which the reload began, on CLOCK_MONOTONIC.
  tell("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(microseconds));
}

void notify_stopping() { tell("STOPPING=1"); }

void notify_status(const std::string& status) { tell("STATUS=" + one_line(status)); }

void notify_watchdog() { tell("WATCHDOG=1"); }

std::optional<std::chrono::milliseconds> watchdog_interval() {
  std::uint64_t microseconds = 0;
  if (::sd_watchdog_enabled(0, &microseconds) <= 0) return std::nullopt;
  return std::chrono::milliseconds(microseconds / 2 / 1000);
}

}  // namespace culvert::runtime
