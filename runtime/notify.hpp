// What the service manager is told (sd_notify(3)). Without one (NOTIFY_SOCKET unset) these do
// nothing.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace culvert::runtime {

/// Start-up is done. `status` is one line for `systemctl status`.
void notify_ready(const std::string& status);
/// A reload began; follow with notify_ready.
void notify_reloading();
void notify_stopping();
void notify_status(const std::string& status);
/// I am alive; call at least every `watchdog_interval`.
void notify_watchdog();
/// Half of the manager's watchdog time; nullopt when it does not watch.
[[nodiscard]] std::optional<std::chrono::milliseconds> watchdog_interval();

}  // namespace culvert::runtime
