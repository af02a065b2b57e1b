// Interfaces on devices, changed as a reload does: what workers see of them, what devices take, and
// what was counted.
#include "dataplane/control/interfaces.hpp"

#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <unistd.h>

#include "tests/unit/dataplane/pipeline/gateway.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t kWorkers = 2;
/// Of a driver that takes any MTU while it runs.
const std::string kWilling = "net_null7";
/// Of one that takes none. Its memory keeps the name when it is gone.
std::string another_unwilling() {
  static int number = 7;
  return "net_ring" + std::to_string(number++);
}

config::Interface interface(std::string device, std::uint16_t vlan = 0) {
  config::Interface made;
  made.name = device + "." + std::to_string(vlan);
  made.device = std::move(device);
  made.vlan = {{vlan, 0}};
  return made;
}

class Bench {
 public:
  Bench() {
    start_eal();
    for (const std::string& device : {kWilling, unwilling}) {
      REQUIRE(rte_eal_hotplug_add("vdev", device.c_str(), "") == 0);
    }
    hardware.engine = crypto::esp::make_engine();
    config::Limits limits;
    limits.sas = 64;
    limits.flows = 1024;
    hardware.tables = Tables::create(limits, kWorkers, *hardware.engine).value();
    for (const std::string& device : {kWilling, unwilling}) {
      hardware.ports.push_back(ports::Port::configure(interface(device),
                                                      ports::parse_device(device, 1, 1500), 1,
                                                      packet_pool())
                                   .value());
      REQUIRE(hardware.ports.back()->start().has_value());
    }
    dataplane.interfaces = {interface(kWilling), interface(unwilling)};
    interfaces.emplace(dataplane, hardware);
  }

  ~Bench() {
    hardware.ports.clear();  // closed
    for (const std::string& device : {kWilling, unwilling}) {
      rte_eal_hotplug_remove("vdev", device.c_str());
    }
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void change(config::Dataplane wanted) {
    auto next = interfaces->plan(wanted, 1s);
    REQUIRE(next.has_value());
    REQUIRE(interfaces->fit_devices(*next, wanted).has_value());
    interfaces->publish(*next, wanted);
    interfaces->adopt(*std::move(next));
    dataplane = std::move(wanted);
  }
  [[nodiscard]] std::uint64_t sent(PortId port) const {
    return interfaces->statistics(port).tx_packets;
  }
  /// The willing device counts, whoever it was for.
  void device_sends(int packets) {
    for (int i = 0; i < packets; ++i) {
      rte_mbuf* packet = rte_pktmbuf_alloc(packet_pool());
      REQUIRE(rte_eth_tx_burst(hardware.ports[0]->dpdk_port(), 0, &packet, 1) == 1);
    }
  }
  void worker_sends(PortId port, std::uint64_t packets) const {
    hardware.tables->counters[1].ports[raw(port)].sent.add(packets);
  }

  const std::string unwilling = another_unwilling();
  control::Hardware hardware;
  config::Dataplane dataplane;
  std::optional<control::Interfaces> interfaces;
};

constexpr PortId kUntagged{0}, kVlan{2};

config::Dataplane with_vlan(config::Dataplane dataplane) {
  dataplane.interfaces.insert(dataplane.interfaces.begin(), interface(kWilling, 50));
  return dataplane;
}

}  // namespace

TEST_CASE("interfaces: workers see a VLAN that came beside an untagged one, and that it went") {
  Bench bench;
  const PortTable& ports = bench.hardware.tables->ports;
  const config::Dataplane before = bench.dataplane;
  REQUIRE(ports.size() == 2);
  CHECK(ports[raw(kUntagged)].queues == kWorkers);
  CHECK_FALSE(ports[raw(kUntagged)].shares_device);

  config::Dataplane wanted = with_vlan(before);
  wanted.interfaces[0].mtu = 1400;
  bench.change(wanted);
  REQUIRE(ports.size() == 3);
  CHECK(ports[raw(kVlan)].is_used);
  CHECK(ports[raw(kVlan)].vlan == wire::vlan::Ids{{50, 0}});
  CHECK(ports[raw(kVlan)].dpdk_port == ports[raw(kUntagged)].dpdk_port);
  CHECK(ports[raw(kVlan)].mac == ports[raw(kUntagged)].mac);
  CHECK(ports[raw(kVlan)].mtu == 1400);
  CHECK(ports[raw(kVlan)].queues == 0);
  CHECK(ports[raw(kUntagged)].queues == kWorkers);
  CHECK(ports[raw(kUntagged)].shares_device);

  bench.change(before);
  REQUIRE(ports.size() == 3);
  CHECK_FALSE(ports[raw(kVlan)].is_used);
  CHECK(ports[raw(kVlan)].vlan == wire::vlan::Ids{{50, 0}});  // for what is on its way out
  CHECK_FALSE(ports[raw(kUntagged)].shares_device);
}

TEST_CASE("interfaces: a device without any is drained by the last one's port") {
  Bench bench;
  config::Dataplane wanted = bench.dataplane;
  wanted.interfaces.erase(wanted.interfaces.begin());
  bench.change(wanted);
  const PortInfo& port = bench.hardware.tables->ports[raw(kUntagged)];
  CHECK_FALSE(port.is_used);
  CHECK(port.queues == kWorkers);
  CHECK(port.shares_device);  // its frames are looked for an interface, and there is none
}

TEST_CASE("interfaces: what was published and not adopted is taken back") {
  Bench bench;
  const config::Dataplane wanted = with_vlan(bench.dataplane);
  const auto next = bench.interfaces->plan(wanted, 1s);
  bench.interfaces->publish(next.value(), wanted);
  CHECK(bench.hardware.tables->ports[raw(kVlan)].is_used);
  bench.interfaces->publish(bench.interfaces->directory(), bench.dataplane);
  const PortTable& ports = bench.hardware.tables->ports;
  REQUIRE(ports.size() == 3);
  CHECK_FALSE(ports[raw(kVlan)].is_used);
  CHECK(ports[raw(kVlan)].queues == 0);
  CHECK_FALSE(ports[raw(kUntagged)].shares_device);
}

TEST_CASE("interfaces: counts go on when another counts, and begin anew for who is new") {
  Bench bench;
  const config::Dataplane before = bench.dataplane;
  bench.device_sends(3);
  CHECK(bench.sent(kUntagged) == 3);
  for (int time = 0; time < 2; ++time) {
    const std::uint64_t counted = bench.sent(kUntagged);
    bench.change(with_vlan(bench.dataplane));
    CHECK(bench.sent(kUntagged) == counted);
    CHECK(bench.sent(kVlan) == 0);
    bench.worker_sends(kUntagged, 2);
    bench.worker_sends(kVlan, 7);
    bench.device_sends(9);
    CHECK(bench.sent(kUntagged) == counted + 2);
    CHECK(bench.sent(kVlan) == 7);
    bench.change(before);
    CHECK(bench.sent(kUntagged) == counted + 2);
    bench.device_sends(1);
    CHECK(bench.sent(kUntagged) == counted + 3);
  }
}

TEST_CASE("interfaces: a number is free when a grace period has passed, not before") {
  Bench bench;
  const config::Dataplane before = bench.dataplane;
  bench.change(with_vlan(before));
  Reclaimer& reclaimer = *bench.hardware.tables->reclaimer;
  reclaimer.online(WorkerId{0});
  bench.change(before);
  reclaimer.poll();
  CHECK(bench.interfaces->directory().not_quiet() == std::vector{kVlan});
  reclaimer.quiescent(WorkerId{0});
  reclaimer.poll();
  CHECK(bench.interfaces->directory().not_quiet().empty());
  reclaimer.offline(WorkerId{0});
}

TEST_CASE("interfaces: an MTU beyond what a device was set up for, if its driver lets it") {
  Bench bench;
  const auto refusal = [&](std::size_t index, std::uint16_t mtu) {
    config::Dataplane wanted = bench.dataplane;
    wanted.interfaces[index].mtu = mtu;
    const auto next = bench.interfaces->plan(wanted, 1s);
    const auto raised = bench.interfaces->fit_devices(next.value(), wanted);
    return raised ? std::string() : raised.error();
  };
  CHECK(refusal(1, 1400).empty());
  CHECK(refusal(1, 1600) ==
        "interface \"" + bench.unwilling +
            ".0\": mtu is 1600, its device was set up for 1500, and its driver refuses another "
            "while the device runs (Operation not supported): a restart is needed");
  CHECK(refusal(0, 1793) ==
        "interface \"net_null7.0\": mtu is 1793, its device was set up for 1500, and no more than "
        "1792 fit the packet buffers, which were made at the start: a restart is needed");
  // One that is refused leaves the others as they were.
  config::Dataplane both = bench.dataplane;
  for (config::Interface& one : both.interfaces) one.mtu = 1600;
  const auto next = bench.interfaces->plan(both, 1s);
  CHECK_FALSE(bench.interfaces->fit_devices(next.value(), both).has_value());
  CHECK(bench.hardware.ports[0]->mtu() == 1500);

  CHECK(refusal(0, 1792).empty());
  CHECK(bench.hardware.ports[0]->mtu() == 1792);
  std::uint16_t told = 0;
  REQUIRE(rte_eth_dev_get_mtu(bench.hardware.ports[0]->dpdk_port(), &told) == 0);
  CHECK(told == 1792);
  // Lower again it goes on taking what it took.
  CHECK(refusal(0, 1500).empty());
  CHECK(bench.hardware.ports[0]->mtu() == 1792);
}

TEST_CASE("interfaces: an MTU that does not come into force leaves the device as it was") {
  Bench bench;
  config::Dataplane wanted = with_vlan(bench.dataplane);
  wanted.interfaces[0].mtu = 1600;
  wanted.interfaces[1].mtu = 1700;  // of the same device
  const ports::Port& device = *bench.hardware.ports[0];
  const auto next = bench.interfaces->plan(wanted, 1s);
  REQUIRE(next.has_value());
  CHECK(device.mtu() == 1500);  // it may still be refused for what is no interface's
  const auto raised = bench.interfaces->fit_devices(*next, wanted);
  REQUIRE(raised.has_value());
  CHECK(device.mtu() == 1700);
  control::Interfaces::take_back(*raised);
  CHECK(device.mtu() == 1500);
  std::uint16_t told = 0;
  REQUIRE(rte_eth_dev_get_mtu(device.dpdk_port(), &told) == 0);
  CHECK(told == 1500);
}

TEST_CASE("interfaces: what comes while the packet pool is empty is counted") {
  start_eal();
  const auto capture = std::filesystem::temp_directory_path() /
                       ("culvert-no-buffer-" + std::to_string(getpid()) + ".pcap");
  {
    // A little-endian header of version 2.4 for Ethernet, and one frame of 64 bytes.
    constexpr std::array<std::uint32_t, 10> kHeaders{0xa1b2c3d4, 0x00040002, 0, 0,  65535,
                                                     1,          0,          0, 64, 64};
    std::ofstream file(capture, std::ios::binary);
    file.write(reinterpret_cast<const char*>(kHeaders.data()), sizeof(kHeaders));
    file << std::string(64, 'x');
  }
  const std::string device = "net_pcap7";
  REQUIRE(rte_eal_hotplug_add("vdev", device.c_str(), ("rx_pcap=" + capture.string()).c_str()) ==
          0);
  rte_mempool* const pool =
      rte_pktmbuf_pool_create("none_left", 63, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  REQUIRE(pool != nullptr);
  {
    const auto port =
        ports::Port::configure(interface(device), ports::parse_device(device, 1, 1500), 1, pool)
            .value();
    REQUIRE(port->start().has_value());
    CHECK(port->statistics().rx_no_buffer == 0);
    std::vector<rte_mbuf*> taken;
    while (rte_mbuf* packet = rte_pktmbuf_alloc(pool)) taken.push_back(packet);
    std::array<rte_mbuf*, 4> frames{};
    CHECK(rte_eth_rx_burst(port->dpdk_port(), 0, frames.data(), frames.size()) == 0);
    CHECK(port->statistics().rx_no_buffer == 1);
    CHECK(port->statistics().rx_packets == 0);
    rte_pktmbuf_free_bulk(taken.data(), static_cast<unsigned int>(taken.size()));
  }
  rte_eal_hotplug_remove("vdev", device.c_str());
  rte_mempool_free(pool);
  std::filesystem::remove(capture);
}
