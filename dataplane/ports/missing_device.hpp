// Why DPDK has no port for a device, and what to do: read from what the kernel says of it.
#pragma once

#include <filesystem>
#include <string>

#include "dataplane/ports/eal_arguments.hpp"

namespace culvert::dataplane::ports {

/// A clause that begins with "; ". `pci_devices` has a folder an address with a link `driver`.
std::string why_missing(const Device& device,
                        const std::filesystem::path& pci_devices = "/sys/bus/pci/devices");

}  // namespace culvert::dataplane::ports
