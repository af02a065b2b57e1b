#include "dataplane/ports/port.hpp"

#include <algorithm>
#include <cerrno>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "dataplane/ports/missing_device.hpp"
#include "dataplane/ports/packet_holders.hpp"
#include "dataplane/ports/packet_pool.hpp"
#include "runtime/log.hpp"

namespace culvert::dataplane::ports {
namespace {

std::unexpected<std::string> failure(const std::string& name, const char* what, int error) {
  return std::unexpected("interface \"" + name + "\": " + what + ": " +
                         rte_strerror(error < 0 ? -error : error));
}

std::optional<std::uint32_t> numa_node_of(std::uint16_t dpdk_port) {
  const int node = rte_eth_dev_socket_id(dpdk_port);
  if (node < 0) return std::nullopt;  // SOCKET_ID_ANY
  return static_cast<std::uint32_t>(node);
}

}  // namespace

std::vector<std::string> hashed_fields(std::uint64_t hash) {
  std::vector<std::string> fields;
  if ((hash & RTE_ETH_RSS_IP) != 0) fields.emplace_back("addresses");
  if ((hash & (RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP)) != 0) fields.emplace_back("ports");
  if ((hash & RTE_ETH_RSS_ESP) != 0) fields.emplace_back("spi");
  return fields;
}

std::optional<std::uint32_t> common_numa_node(std::span<const std::uint16_t> dpdk_ports) {
  if (dpdk_ports.empty()) return std::nullopt;
  const auto first = numa_node_of(dpdk_ports.front());
  const bool is_common = std::ranges::all_of(
      dpdk_ports, [&](std::uint16_t port) { return numa_node_of(port) == first; });
  return is_common ? first : std::nullopt;
}

std::expected<std::uint16_t, std::string> find_port(const config::Interface& interface,
                                                    const Device& device) {
  std::uint16_t port = 0;
  if (rte_eth_dev_get_port_by_name(device.name.c_str(), &port) == 0) return port;
  return std::unexpected("interface \"" + interface.name + "\": DPDK found no device " +
                         device.name + why_missing(device));
}

std::optional<std::uint32_t> Port::numa_node() const { return numa_node_of(dpdk_port_); }

std::expected<std::uint16_t, std::string> queue_limit(const config::Interface& interface,
                                                      const Device& device) {
  const auto port = find_port(interface, device);
  if (!port) return std::unexpected(port.error());
  rte_eth_dev_info info{};
  if (const int error = rte_eth_dev_info_get(*port, &info); error != 0) {
    return failure(interface.name, "the device does not tell what it can do", error);
  }
  return std::max<std::uint16_t>(1, std::min(info.max_rx_queues, info.max_tx_queues));
}

std::expected<std::unique_ptr<Port>, std::string> Port::configure(
    const config::Interface& interface, const Device& device, std::uint16_t queues,
    rte_mempool* pool) {
  const auto dpdk_port = find_port(interface, device);
  if (!dpdk_port) return std::unexpected(dpdk_port.error());
  std::unique_ptr<Port> port(new Port(interface.name, *dpdk_port));
  port->largest_in_ring_ = largest_in_ring(device);
  if (auto done = port->set_up(interface.mtu, queues, pool); !done) {
    return std::unexpected(done.error());
  }
  return port;
}

Port::~Port() {
  stop();
  rte_eth_dev_close(dpdk_port_);
}

std::expected<void, std::string> Port::set_up(std::uint16_t mtu, std::uint16_t queues,
                                              rte_mempool* pool) {
  mtu_ = mtu;
  largest_in_buffers_ = largest_in_buffers(rte_pktmbuf_data_room_size(pool));
  rte_eth_dev_info info{};
  if (const int error = rte_eth_dev_info_get(dpdk_port_, &info); error != 0) {
    return failure(name_, "the device does not tell what it can do", error);
  }
  // Of the offloads none: RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE, for one, asks for buffers of one pool.
  rte_eth_conf conf{};
  // DPDK's af_packet device says 1518, takes what its ring's frames and the kernel's MTU let pass,
  // and refuses to be told of more.
  const bool tells_size = std::string_view(info.driver_name) != "net_af_packet";
  if (!tells_size) packet_sockets_ = PacketSockets(info.if_index);
  if (tells_size && mtu > info.max_mtu) {
    return std::unexpected("interface \"" + name_ + "\": mtu is " + std::to_string(mtu) +
                           ", the device takes " + std::to_string(info.max_mtu));
  }
  // 1500 is every driver's default; some refuse it when it is asked for (their frame limit counts
  // the FCS differently), so only another value is.
  if (tells_size && mtu != RTE_ETHER_MTU) conf.rxmode.mtu = mtu;
  if (queues > 1) {
    // By SPI where the device can: all ESP between two gateways has the same addresses.
    constexpr std::uint64_t kHash =
        RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_ESP;
    queue_hash_ = kHash & info.flow_type_rss_offloads;
    conf.rx_adv_conf.rss_conf.rss_hf = queue_hash_;
    conf.rxmode.mq_mode = queue_hash_ != 0 ? RTE_ETH_MQ_RX_RSS : RTE_ETH_MQ_RX_NONE;
  }
  queues_ = queues;
  if (const int error = rte_eth_dev_configure(dpdk_port_, queues, queues, &conf); error != 0) {
    return failure(name_, "the device refused its configuration (MTU, queues)", error);
  }
  if (auto done = set_up_queues(queues, pool); !done) return done;
  if (!tells_size && mtu > RTE_ETHER_MTU) return read_mac();
  if (const int error = rte_eth_dev_set_mtu(dpdk_port_, mtu); error != 0 && error != -ENOTSUP) {
    runtime::log(runtime::Level::warning, "mtu_not_set",
                 {{"interface", name_}, {"mtu", mtu}, {"error", rte_strerror(-error)}});
  }
  return read_mac();
}

std::expected<void, std::string> Port::set_mtu(std::uint16_t mtu) {
  constexpr std::string_view kMadeAtStart = ", which were made at the start: a restart is needed";
  const auto refuse = [](std::string why) { return std::unexpected(std::move(why)); };
  if (mtu > largest_in_buffers_) {
    return refuse("no more than " + std::to_string(largest_in_buffers_) +
                  " fit the packet buffers" + std::string(kMadeAtStart));
  }
  if (largest_in_ring_ && mtu > *largest_in_ring_) {
    return refuse("no more than " + std::to_string(*largest_in_ring_) +
                  " fit the frames of its packet sockets' ring" + std::string(kMadeAtStart));
  }
  if (largest_in_ring_ && mtu > RTE_ETHER_MTU) {
    // As at the start: the driver cannot be told, and what the kernel takes is the operator's.
    const auto kernel = packet_sockets_.kernel_mtu();
    if (kernel && *kernel < mtu) {
      return refuse("the kernel takes " + std::to_string(*kernel) +
                    " there: raise that first (ip link set … mtu), then reload again");
    }
  } else if (const int error = rte_eth_dev_set_mtu(dpdk_port_, mtu); error != 0) {
    return refuse(std::string("its driver refuses another while the device runs (") +
                  rte_strerror(-error) + "): a restart is needed");
  }
  mtu_ = mtu;
  return {};
}

std::expected<void, std::string> Port::read_mac() {
  rte_ether_addr address{};
  if (const int error = rte_eth_macaddr_get(dpdk_port_, &address); error != 0) {
    return failure(name_, "the device has no MAC address", error);
  }
  std::copy_n(address.addr_bytes, mac_.size(), mac_.begin());
  return {};
}

std::expected<void, std::string> Port::set_up_queues(std::uint16_t queues, rte_mempool* pool) {
  std::uint16_t rx_descriptors = kDescriptors;
  std::uint16_t tx_descriptors = kDescriptors;
  if (const int error =
          rte_eth_dev_adjust_nb_rx_tx_desc(dpdk_port_, &rx_descriptors, &tx_descriptors);
      error != 0) {
    return failure(name_, "the device refused the number of descriptors", error);
  }
  const auto socket = static_cast<unsigned int>(std::max(0, rte_eth_dev_socket_id(dpdk_port_)));
  for (std::uint16_t queue = 0; queue < queues; ++queue) {
    if (const int error =
            rte_eth_rx_queue_setup(dpdk_port_, queue, rx_descriptors, socket, nullptr, pool);
        error != 0) {
      return failure(name_, "a receive queue could not be set up", error);
    }
    if (const int error =
            rte_eth_tx_queue_setup(dpdk_port_, queue, tx_descriptors, socket, nullptr);
        error != 0) {
      return failure(name_, "a transmit queue could not be set up", error);
    }
  }
  return {};
}

std::expected<void, std::string> Port::start() {
  if (const int error = rte_eth_dev_start(dpdk_port_); error != 0) {
    return failure(name_, "the device did not start", error);
  }
  started_ = true;
  receive_multicast();
  return {};
}

/// Neighbour solicitations come to solicited-node multicast addresses (RFC 4861 §7.2.2); a device
/// that cannot take all multicast is made promiscuous.
void Port::receive_multicast() {
  if (rte_eth_allmulticast_enable(dpdk_port_) == 0) return;
  const int error = rte_eth_promiscuous_enable(dpdk_port_);
  if (error == 0 || error == -ENOTSUP) return;
  runtime::log(runtime::Level::warning, "multicast_not_received",
               {{"interface", name_},
                {"error", rte_strerror(-error)},
                {"consequence", "IPv6 neighbours may not find this gateway"}});
}

void Port::stop() {
  if (!started_) return;
  rte_eth_dev_stop(dpdk_port_);
  started_ = false;
}

bool Port::link_is_up() const {
  if (const auto has_link = packet_sockets_.has_link()) return *has_link;
  rte_eth_link link{};
  return rte_eth_link_get_nowait(dpdk_port_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

PortStatistics Port::statistics() {
  rte_eth_stats stats{};
  if (rte_eth_stats_get(dpdk_port_, &stats) != 0) return {};
  // A driver that reads the kernel's count as well has what we do not find there any more.
  ring_full_ += packet_sockets_.take_dropped();
  return {.rx_packets = stats.ipackets,
          .rx_bytes = stats.ibytes,
          .tx_packets = stats.opackets,
          .tx_bytes = stats.obytes,
          .rx_missed = stats.imissed + ring_full_,
          .rx_no_buffer = stats.rx_nombuf,
          .rx_errors = stats.ierrors,
          .tx_errors = stats.oerrors};
}

}  // namespace culvert::dataplane::ports
