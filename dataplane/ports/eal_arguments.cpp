#include "dataplane/ports/eal_arguments.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include <rte_common.h>

#include "dataplane/ports/cores.hpp"
#include "dataplane/ports/packet_pool.hpp"

namespace culvert::dataplane::ports {
namespace {

constexpr std::uint32_t kMaxWorkers = RTE_MAX_LCORE - 1;  // less the main thread
constexpr std::size_t kMaxDevices = RTE_MAX_ETHPORTS;

// Mebibytes that do not depend on limits: mbuf pools, the table of IPv4 routes (64 MiB), rings, the
// drivers' descriptors.
constexpr std::uint32_t kBaseMemoryMib = 296;
constexpr std::uint32_t kPoolMemoryMibPerQueue = 16;
// One SA slot: expanded key, lookup and window lines, configured part; in both directions.
constexpr std::uint64_t kBytesPerSaSlot = 2 * 2048;
constexpr std::uint64_t kBytesPerPolicy = 1024;
constexpr std::uint64_t kMebibyte = 1024ULL * 1024ULL;
// An af_packet device's ring: frames of 2048 bytes unless told, each with the kernel's header, an
// address and the Ethernet header (a VLAN tag with it) in front of the packet. Its driver refuses
// frames that are larger than our buffers, and takes a block's frames to fill it: blocks are whole
// pages, so 64 frames of a multiple of 64 bytes.
constexpr std::uint32_t kRingFrame = 2048;
constexpr std::uint32_t kRingHeaders = 96;
constexpr std::uint32_t kRingUnit = 64;

bool is_hex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }

/// "03:00.0" : bus, device and function in hex.
bool is_bus_device_function(std::string_view text) {
  return text.size() == 7 && is_hex(text[0]) && is_hex(text[1]) && text[2] == ':' &&
         is_hex(text[3]) && is_hex(text[4]) && text[5] == '.' && text[6] >= '0' && text[6] <= '7';
}

bool is_pci_address(std::string_view text) {
  if (is_bus_device_function(text)) return true;
  return text.size() == 12 && std::all_of(text.begin(), text.begin() + 4, is_hex) &&
         text[4] == ':' && is_bus_device_function(text.substr(5));
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::string core_list(const std::vector<std::uint32_t>& cores) {
  std::string text;
  for (const std::uint32_t core : cores) {
    if (!text.empty()) text += ',';
    text += std::to_string(core);
  }
  return text;
}

bool is_null(std::string_view device) { return device.starts_with("net_null"); }

/// Whether `key=` stands behind the name of "net_pcap0,rx_pcap=a.pcap,infinite_rx=1".
bool has_argument(std::string_view device, std::string_view key) {
  for (std::size_t comma = device.find(','); comma != std::string_view::npos;
       comma = device.find(',', comma + 1)) {
    const std::string_view argument = device.substr(comma + 1);
    if (argument.starts_with(key) && argument.substr(key.size()).starts_with('=')) return true;
  }
  return false;
}

/// "0@(0,1),1@2,2@3": lcore 0 is the main thread; workers float over the process's cores, or are
/// pinned, and then the main thread keeps off their cores when others are left.
std::string lcores_argument(const EalPlan& plan, const config::Dataplane& dataplane,
                            const Machine& machine) {
  std::vector<std::uint32_t> main_cores = machine.cores;
  std::erase_if(main_cores, [&](std::uint32_t core) {
    return std::ranges::find(dataplane.cores, core) != dataplane.cores.end();
  });
  if (main_cores.empty()) main_cores = machine.cores;

  std::string text = "0@(" + core_list(main_cores) + ")";
  for (std::uint32_t worker = 0; worker < plan.workers; ++worker) {
    text += "," + std::to_string(worker + 1) + "@";
    text += dataplane.cores.empty() ? "(" + core_list(machine.cores) + ")"
                                    : std::to_string(dataplane.cores[worker]);
  }
  return text;
}

std::expected<void, std::string> check_cores(const config::Dataplane& dataplane,
                                             const Machine& machine) {
  for (const std::uint32_t core : dataplane.cores) {
    if (std::ranges::find(machine.pinnable, core) == machine.pinnable.end()) {
      return std::unexpected("dataplane.workers names core " + std::to_string(core) +
                             ", but this process may run only on cores " +
                             core_list(machine.pinnable));
    }
  }
  return {};
}

std::expected<void, std::string> plan_memory(EalPlan& plan, const config::Dataplane& dataplane,
                                             const Machine& machine) {
  plan.memory_mib = memory_mib(dataplane);
  plan.huge_pages = machine.free_huge_page_mib >= plan.memory_mib;
  if (plan.huge_pages) return {};
  const std::string shortage = "needs " + std::to_string(plan.memory_mib) + " MiB of huge pages, " +
                               std::to_string(machine.free_huge_page_mib) + " MiB are free";
  if (dataplane.huge_pages_required) {
    return std::unexpected("the data plane " + shortage +
                           "; reserve more (vm.nr_hugepages), or set "
                           "dataplane.huge_pages_required to false");
  }
  plan.warnings.push_back("the data plane " + shortage +
                          ": going on with ordinary pages, which costs throughput");
  return {};
}

std::expected<void, std::string> plan_devices(EalPlan& plan, const config::Dataplane& dataplane) {
  for (std::size_t index = 0; index < dataplane.interfaces.size(); ++index) {
    const config::Interface& interface = dataplane.interfaces[index];
    Device device = parse_device(interface.device, plan.workers, largest_mtu(dataplane));
    const auto same = std::ranges::find(plan.devices, device.name, &Device::name);
    plan.device_of.push_back(static_cast<std::size_t>(same - plan.devices.begin()));
    if (same == plan.devices.end()) {
      plan.devices.push_back(std::move(device));
      continue;
    }
    for (std::size_t before = 0; before < index; ++before) {
      if (plan.device_of[before] != plan.device_of[index]) continue;
      if (*same == device && dataplane.interfaces[before].vlan != interface.vlan) continue;
      return std::unexpected("interface \"" + interface.name + "\" uses device " + device.name +
                             " as interface \"" + dataplane.interfaces[before].name +
                             "\" does: give each a vlan of its own and the same device text");
    }
  }
  if (plan.devices.size() > kMaxDevices) {
    return std::unexpected("dataplane.interfaces names " + std::to_string(plan.devices.size()) +
                           " devices, DPDK takes " + std::to_string(kMaxDevices));
  }
  return {};
}

}  // namespace

std::string Device::to_string() const { return arguments.empty() ? name : name + "," + arguments; }

bool is_packet_socket(std::string_view device) { return device.starts_with("net_af_packet"); }

bool answers_nobody(std::string_view device) {
  if (is_null(device)) return true;
  if (!device.starts_with("net_pcap")) return false;
  const bool both = has_argument(device, "iface");
  const bool sends = both || has_argument(device, "tx_iface");
  const bool receives =
      both || has_argument(device, "rx_iface") || has_argument(device, "rx_iface_in");
  return !sends || !receives;
}

Device parse_device(std::string_view text, std::uint32_t workers, std::uint16_t mtu) {
  const std::size_t comma = text.find(',');
  Device device;
  device.name = std::string(text.substr(0, comma));
  if (comma != std::string_view::npos) device.arguments = std::string(text.substr(comma + 1));
  if (is_pci_address(device.name)) {
    device.kind = DeviceKind::pci;
    device.name = lower(device.name);
    if (device.name.size() == 7) device.name = "0000:" + device.name;
    return device;
  }
  // net_null has empty frames for whoever receives, as many as he takes: dropped, and for nothing.
  if (is_null(device.name) && !has_argument(text, "no-rx")) {
    device.arguments += device.arguments.empty() ? "no-rx=1" : ",no-rx=1";
  }
  if (!is_packet_socket(device.name)) return device;
  const auto add = [&](const char* name, std::uint32_t value) {
    if (device.arguments.find(name) != std::string::npos) return;
    if (!device.arguments.empty()) device.arguments += ',';
    device.arguments += name + std::to_string(value);
  };
  if (workers > 1) add("qpairs=", workers);
  const std::uint32_t frame = RTE_ALIGN_CEIL(mtu + kRingHeaders, kRingUnit);
  if (frame > kRingFrame && device.arguments.find("framesz=") == std::string::npos) {
    add("framesz=", frame);
    add("blocksz=", frame * kRingUnit);
  }
  return device;
}

std::optional<std::uint16_t> largest_in_ring(const Device& device) {
  if (!is_packet_socket(device.name)) return std::nullopt;
  constexpr std::string_view kName = "framesz=";
  std::uint32_t frame = kRingFrame;
  if (const auto at = device.arguments.find(kName); at != std::string::npos) {
    const char* const first = device.arguments.data() + at + kName.size();
    const char* const last = device.arguments.data() + device.arguments.size();
    if (std::from_chars(first, last, frame).ec != std::errc()) return std::nullopt;
  }
  return static_cast<std::uint16_t>(
      std::min<std::uint32_t>(std::max(frame, kRingHeaders) - kRingHeaders, UINT16_MAX));
}

std::uint32_t memory_mib(const config::Dataplane& dataplane) {
  if (dataplane.memory_mib) return *dataplane.memory_mib;
  const std::uint64_t tables = std::uint64_t{dataplane.limits.sas} * kBytesPerSaSlot +
                               std::uint64_t{dataplane.limits.policies} * kBytesPerPolicy;
  const std::uint64_t queues =
      std::uint64_t{std::max(dataplane.workers, 1U)} * (dataplane.interfaces.size() + 1);
  const std::uint64_t jumbo =
      std::uint64_t{packets_in_flight(static_cast<std::uint32_t>(dataplane.interfaces.size()),
                                      std::max(dataplane.workers, 1U))} *
      (buffer_bytes(largest_mtu(dataplane)) - buffer_bytes(0));
  return static_cast<std::uint32_t>(kBaseMemoryMib + queues * kPoolMemoryMibPerQueue +
                                    (tables + jumbo) / kMebibyte);
}

std::expected<EalPlan, std::string> plan_eal(const config::Config& config, const Machine& machine) {
  const config::Dataplane& dataplane = config.dataplane;
  EalPlan plan;
  plan.workers = dataplane.cores.empty() ? std::max(dataplane.workers, 1U)
                                         : static_cast<std::uint32_t>(dataplane.cores.size());
  if (plan.workers > kMaxWorkers) {
    return std::unexpected("dataplane.workers is " + std::to_string(plan.workers) +
                           ", DPDK takes at most " + std::to_string(kMaxWorkers));
  }
  if (auto cores = check_cores(dataplane, machine); !cores) return std::unexpected(cores.error());
  if (auto memory = plan_memory(plan, dataplane, machine); !memory) {
    return std::unexpected(memory.error());
  }
  if (auto devices = plan_devices(plan, dataplane); !devices) {
    return std::unexpected(devices.error());
  }

  // Telemetry warns that the socket of its first version has no commands: it is that of the second,
  // dpdk_telemetry.v2 in the prefix's folder, which is there to be read
  // (docs/reference/packet-rate.md).
  auto& arguments = plan.arguments;
  arguments = {"culvert-dataplane",
               "--lcores",
               lcores_argument(plan, dataplane, machine),
               "--main-lcore",
               "0",
               "--file-prefix",
               "culvert-" + config.instance,
               "--log-level=lib.telemetry:error"};
  if (plan.huge_pages) {
    arguments.emplace_back("--in-memory");  // nothing is left behind in hugetlbfs by a crash
  } else {
    // --in-memory is not accepted beside --no-huge; --no-shconf leaves no files either.
    arguments.insert(arguments.end(),
                     {"--no-huge", "--no-shconf", "-m", std::to_string(plan.memory_mib)});
  }
  const bool any_pci = std::ranges::any_of(
      plan.devices, [](const Device& device) { return device.kind == DeviceKind::pci; });
  if (!any_pci) {
    arguments.emplace_back("--no-pci");
    // Virtual devices need no physical addresses, which the kernel tells only root.
    arguments.emplace_back("--iova-mode=va");
  }
  for (const Device& device : plan.devices) {
    arguments.emplace_back(device.kind == DeviceKind::pci ? "-a" : "--vdev");
    arguments.push_back(device.to_string());
  }
  return plan;
}

Machine inspect_machine() {
  Machine machine;
  machine.cores = own_cores();
  if (machine.cores.empty()) machine.cores.push_back(0);
  machine.pinnable = reachable_cores();
  if (machine.pinnable.empty()) machine.pinnable = machine.cores;

  // hugepages-2048kB/free_hugepages; absent where the kernel has no huge pages.
  std::error_code ignored;
  for (const auto& size :
       std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", ignored)) {
    const std::string name = size.path().filename().string();
    const std::size_t dash = name.find('-');
    std::uint64_t kibibytes = 0;
    if (dash != std::string::npos) kibibytes = std::strtoull(name.c_str() + dash + 1, nullptr, 10);
    std::uint64_t free_pages = 0;
    std::ifstream(size.path() / "free_hugepages") >> free_pages;
    machine.free_huge_page_mib += kibibytes * free_pages / 1024;
  }
  return machine;
}

}  // namespace culvert::dataplane::ports
