#include "dataplane/ports/missing_device.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>

namespace culvert::dataplane::ports {
namespace {

constexpr std::array<std::string_view, 3> kDriversForDpdk{"vfio-pci", "uio_pci_generic", "igb_uio"};

}  // namespace

std::string why_missing(const Device& device, const std::filesystem::path& pci_devices) {
  if (device.kind != DeviceKind::pci) {
    return "; is its driver installed and its name spelled as DPDK has it?";
  }
  std::error_code error;
  const std::filesystem::path folder = pci_devices / device.name;
  if (!std::filesystem::exists(folder, error)) {
    return "; nor has this machine a PCI device of that address (ls /sys/bus/pci/devices)";
  }
  const std::string driver =
      std::filesystem::read_symlink(folder / "driver", error).filename().string();
  if (std::ranges::find(kDriversForDpdk, driver) == kDriversForDpdk.end()) {
    return (driver.empty() ? "; no driver has it" : "; the kernel's driver " + driver + " has it") +
           ": bind it to vfio-pci (driverctl set-override " + device.name +
           " vfio-pci; dpdk-devbind.py -b vfio-pci " + device.name + " lasts until the next boot)";
  }
  // What DPDK tried stands in its own log lines before this one, what the kernel refused in dmesg.
  return "; it is bound to " + driver +
         ", but could not be opened: the lines of dpdk above and dmesg say why. Where the IOMMU "
         "does "
         "not remap interrupts, as in many virtual machines, it takes "
         "modprobe vfio_iommu_type1 allow_unsafe_interrupts=1";
}

}  // namespace culvert::dataplane::ports
