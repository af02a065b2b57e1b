#include "dataplane/ports/drivers.hpp"

#include <algorithm>
#include <array>

#include <dlfcn.h>

namespace culvert::dataplane::ports {
namespace {

const std::vector<Device>* chosen_for = nullptr;

constexpr std::string_view kDriverPrefix = "librte_";
// Of other kinds than a network device, its bus and its memory. Where a network driver uses one of
// them, the linker loads it with that driver.
constexpr std::array<std::string_view, 7> kNeverPorts{"baseband_", "compress_", "crypto_", "dma_",
                                                      "event_",    "regex_",    "vdpa_"};
constexpr std::array<std::string_view, 3> kForPacketSockets{"bus_vdev.", "mempool_ring.",
                                                            "net_af_packet."};

}  // namespace

bool needs_library(const std::vector<Device>& devices, std::string_view path) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  if (!name.starts_with(kDriverPrefix)) return true;
  name.remove_prefix(kDriverPrefix.size());
  const auto begins = [name](std::string_view kind) { return name.starts_with(kind); };
  // DPDK asks for itself, too ("librte_eal.so.23"), to learn that it is a shared library.
  if (name.substr(0, name.find('.')).find('_') == std::string_view::npos) return true;
  if (std::ranges::all_of(devices, is_packet_socket, &Device::name)) {
    return std::ranges::any_of(kForPacketSockets, begins);
  }
  return std::ranges::none_of(kNeverPorts, begins);
}

DriverChoice::DriverChoice(const std::vector<Device>& devices) { chosen_for = &devices; }
DriverChoice::~DriverChoice() { chosen_for = nullptr; }

}  // namespace culvert::dataplane::ports

/// Comes before the C library's for DPDK, which has no argument that leaves its folder of drivers
/// out. What is not needed is answered as if it had been opened: with ourselves.
extern "C" void* dlopen(const char* file, int mode) noexcept {
  using namespace culvert::dataplane::ports;
  using Open = void* (*)(const char*, int);
  static const auto open = reinterpret_cast<Open>(::dlsym(RTLD_NEXT, "dlopen"));
  const bool needed = chosen_for == nullptr || file == nullptr || needs_library(*chosen_for, file);
  return open(needed ? file : nullptr, mode);
}
