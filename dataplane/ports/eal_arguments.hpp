// What the environment abstraction layer is told: the configuration turned into its arguments.
// Pure: what the machine has (cores, free huge pages) comes in as a value.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"

namespace culvert::dataplane::ports {

/// What the machine offers when the daemon starts.
struct Machine {
  std::vector<std::uint32_t> cores;      ///< where what is not pinned runs, ascending
  std::vector<std::uint32_t> pinnable;   ///< where a worker may be pinned, ascending
  std::uint64_t free_huge_page_mib = 0;  ///< over all page sizes
};
/// Asks the kernel for cores, and /sys/kernel/mm/hugepages for pages. Before a thread is pinned.
Machine inspect_machine();

enum class DeviceKind : std::uint8_t { pci, virtual_device };

/// A device as DPDK names it.
struct Device {
  DeviceKind kind = DeviceKind::virtual_device;
  std::string name;       ///< "0000:03:00.0", "net_af_packet0": what the port is found by
  std::string arguments;  ///< after the name: "iface=veth-wan,qpairs=2"; may be empty

  /// "name,arguments", as -a and --vdev want it.
  [[nodiscard]] std::string to_string() const;
  friend bool operator==(const Device&, const Device&) = default;
};

/// Of an interface's `device`: net_af_packet. Its driver copies each frame between the kernel's
/// ring and a buffer, and nothing but the processor looks at buffers.
[[nodiscard]] bool is_packet_socket(std::string_view device);

/// Of an interface's `device`: nobody hears what it sends, or nobody's answer comes in by it. So
/// are net_null, and net_pcap but where it both sends to a kernel interface and receives from one.
[[nodiscard]] bool answers_nobody(std::string_view device);

/// Splits an interface's `device`. A PCI address gets its domain when it has none. A packet-socket
/// device is given one queue pair a worker, and frames in its ring that hold `mtu` bytes of IP
/// packet, when its arguments do not say; net_null receives nothing (no-rx=1) unless they do.
Device parse_device(std::string_view text, std::uint32_t workers, std::uint16_t mtu);

/// The largest IP packet that fits the frames of a packet-socket device's ring; nullopt: it has
/// none, or its arguments cannot be read.
std::optional<std::uint16_t> largest_in_ring(const Device& device);

/// Memory for pools, tables and keys that the limits ask for.
std::uint32_t memory_mib(const config::Dataplane& dataplane);

/// Everything rte_eal_init and what follows it must know.
struct EalPlan {
  std::vector<std::string> arguments;  ///< argv, the program's name first
  std::vector<Device> devices;         ///< each once, in the order of the interfaces
  std::vector<std::size_t> device_of;  ///< by PortId: VLANs share a device
  std::uint32_t workers = 1;
  bool huge_pages = false;
  std::uint32_t memory_mib = 0;
  std::vector<std::string> warnings;  ///< for the log
};

/// The error is a sentence that says what to change.
std::expected<EalPlan, std::string> plan_eal(const config::Config& config, const Machine& machine);

}  // namespace culvert::dataplane::ports
