// Which of DPDK's drivers are loaded. DPDK opens every library of its folder, a hundred and more
// that map each other's like again; a gateway whose devices are known uses three.
#pragma once

#include <string_view>
#include <vector>

#include "dataplane/ports/eal_arguments.hpp"

namespace culvert::dataplane::ports {

/// Whether the library of this path may be one that these devices need. Of what is not a driver of
/// DPDK's, always.
[[nodiscard]] bool needs_library(const std::vector<Device>& devices, std::string_view path);

/// While it lives, DPDK opens only what these devices need. Main thread, before other threads.
class DriverChoice {
 public:
  explicit DriverChoice(const std::vector<Device>& devices);
  ~DriverChoice();
  DriverChoice(const DriverChoice&) = delete;
  DriverChoice& operator=(const DriverChoice&) = delete;
};

}  // namespace culvert::dataplane::ports
