#include <cstdlib>
#include <filesystem>
#include <string>

#include <catch2/catch.hpp>

#include "dataplane/ports/missing_device.hpp"

namespace culvert::dataplane::ports {
namespace {

/// A folder like /sys/bus/pci/devices with one device, gone afterwards.
class PciDevices {
 public:
  PciDevices() : folder_("/tmp/culvert-pci-XXXXXX") {
    REQUIRE(::mkdtemp(folder_.data()) != nullptr);
    std::filesystem::create_directory(path() / "0000:03:00.0");
  }
  ~PciDevices() { std::filesystem::remove_all(path()); }
  PciDevices(const PciDevices&) = delete;
  PciDevices& operator=(const PciDevices&) = delete;

  [[nodiscard]] std::filesystem::path path() const { return folder_; }
  void bind_to(const std::string& driver) const {
    std::filesystem::create_symlink("../../../bus/pci/drivers/" + driver,
                                    path() / "0000:03:00.0/driver");
  }
  [[nodiscard]] std::string why(const char* device) const {
    return why_missing(parse_device(device, 1, 1500), path());
  }

 private:
  std::string folder_;
};

}  // namespace

TEST_CASE("missing device: an address that the machine does not have") {
  CHECK(PciDevices().why("0000:04:00.0").find("nor has this machine") != std::string::npos);
}

TEST_CASE("missing device: one that the kernel keeps is to be bound, and its driver is named") {
  const PciDevices devices;
  CHECK(devices.why("03:00.0").find("no driver has it: bind it to vfio-pci") != std::string::npos);
  devices.bind_to("ixgbe");
  const std::string why = devices.why("03:00.0");
  CHECK(why.find("the kernel's driver ixgbe has it") != std::string::npos);
  CHECK(why.find("-b vfio-pci 0000:03:00.0") != std::string::npos);
  // The one that is still in force after a reboot, which is when the kernel has it again.
  CHECK(why.find("driverctl set-override 0000:03:00.0 vfio-pci") != std::string::npos);
}

TEST_CASE("missing device: one that is bound is not to be bound again") {
  const PciDevices devices;
  devices.bind_to("vfio-pci");
  const std::string why = devices.why("03:00.0");
  CHECK(why.find("bound to vfio-pci, but could not be opened") != std::string::npos);
  CHECK(why.find("allow_unsafe_interrupts") != std::string::npos);
}

TEST_CASE("missing device: a virtual one is misspelt, or its driver is not installed") {
  CHECK(PciDevices().why("net_afpacket0,iface=wan").find("spelled") != std::string::npos);
}

}  // namespace culvert::dataplane::ports
