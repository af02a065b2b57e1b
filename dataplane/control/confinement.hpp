// What the packet daemon gives up once its devices are open and its workers run.
#pragma once

#include <expected>
#include <string>

#include "config/config.hpp"

namespace culvert::dataplane::control {

/// 1. root → the service user; the main thread keeps CAP_NET_ADMIN, CAP_NET_RAW (devices are
/// stopped by requests that need them) and CAP_IPC_LOCK (memory that a device may reach is locked),
/// the workers keep nothing; 2. no exec raises privileges; 3. only the system calls of the list.
/// Started without root: 2 and 3. Where devices need physical addresses (no IOMMU), memory that
/// grows at a reload asks the kernel for them, which only root may: then 2 and 3 too, with a
/// warning.
[[nodiscard]] std::expected<void, std::string> confine(const config::Config& config);

}  // namespace culvert::dataplane::control
