// One Ethernet port: the device behind a configured interface, its queues, MTU, link and counters.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "dataplane/ports/eal_arguments.hpp"
#include "dataplane/ports/packet_sockets.hpp"

struct rte_mempool;

namespace culvert::dataplane::ports {

/// What the driver counted since the port was started.
struct PortStatistics {
  std::uint64_t rx_packets = 0, rx_bytes = 0;
  std::uint64_t tx_packets = 0, tx_bytes = 0;
  std::uint64_t rx_missed = 0;     ///< no room in the receive queue, the kernel's ring included
  std::uint64_t rx_no_buffer = 0;  ///< the packet pool was empty
  std::uint64_t rx_errors = 0, tx_errors = 0;
};

/// What a device spreads packets over its queues by: the names of the fields that it was asked to
/// hash, "addresses", "ports", "spi". `hash` is of RTE_ETH_RSS_*.
std::vector<std::string> hashed_fields(std::uint64_t hash);

/// The NUMA node that all of these devices are on; none where one does not tell or they differ.
std::optional<std::uint32_t> common_numa_node(std::span<const std::uint16_t> dpdk_ports);

/// The DPDK port of a device.
std::expected<std::uint16_t, std::string> find_port(const config::Interface& interface,
                                                    const Device& device);

/// Queue pairs a device can serve; the gateway runs no more workers than its poorest device has.
std::expected<std::uint16_t, std::string> queue_limit(const config::Interface& interface,
                                                      const Device& device);

/// A configured port. Main thread. Stops and closes the device when destroyed.
class Port {
 public:
  /// `queues` receive and transmit queues, one of each a worker; packets are received into `pool`.
  static std::expected<std::unique_ptr<Port>, std::string> configure(
      const config::Interface& interface, const Device& device, std::uint16_t queues,
      rte_mempool* pool);
  ~Port();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  [[nodiscard]] std::expected<void, std::string> start();
  void stop();

  /// Bytes of IP packet that the device was set up to take, and its interfaces may send.
  [[nodiscard]] std::uint16_t mtu() const { return mtu_; }
  /// While it runs. The error says, behind "and", why not and what to do; it is as it was then.
  [[nodiscard]] std::expected<void, std::string> set_mtu(std::uint16_t mtu);

  [[nodiscard]] std::uint16_t dpdk_port() const { return dpdk_port_; }
  [[nodiscard]] const std::array<std::uint8_t, 6>& mac() const { return mac_; }
  [[nodiscard]] bool link_is_up() const;
  [[nodiscard]] PortStatistics statistics();
  [[nodiscard]] std::uint16_t queues() const { return queues_; }
  /// What we asked the device to spread packets by (RTE_ETH_RSS_*). 0: one queue, or the device
  /// does it its own way.
  [[nodiscard]] std::uint64_t queue_hash() const { return queue_hash_; }
  [[nodiscard]] std::optional<std::uint32_t> numa_node() const;

 private:
  Port(std::string name, std::uint16_t dpdk_port) : name_(std::move(name)), dpdk_port_(dpdk_port) {}
  std::expected<void, std::string> set_up(std::uint16_t mtu, std::uint16_t queues,
                                          rte_mempool* pool);
  std::expected<void, std::string> read_mac();
  std::expected<void, std::string> set_up_queues(std::uint16_t queues, rte_mempool* pool);
  void receive_multicast();

  std::string name_;
  std::uint16_t dpdk_port_;
  std::array<std::uint8_t, 6> mac_{};
  bool started_ = false;
  std::uint16_t mtu_ = 0;
  std::uint16_t largest_in_buffers_ = 0;          ///< bytes of IP packet
  std::optional<std::uint16_t> largest_in_ring_;  ///< of packet sockets
  std::uint16_t queues_ = 0;
  std::uint64_t queue_hash_ = 0;
  PacketSockets packet_sockets_;
  std::uint64_t ring_full_ = 0;  ///< packets, of all that these had no room for
};

}  // namespace culvert::dataplane::ports
