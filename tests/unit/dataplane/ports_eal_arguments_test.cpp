#include <algorithm>
#include <fstream>
#include <iterator>
#include <thread>

#include <catch2/catch.hpp>
#include <sched.h>

#include "config/limits.hpp"
#include "dataplane/control/acquires.hpp"
#include "dataplane/control/neighbors.hpp"
#include "dataplane/ports/cores.hpp"
#include "dataplane/ports/eal_arguments.hpp"
#include "dataplane/ports/memory_remedy.hpp"
#include "dataplane/ports/packet_holders.hpp"
#include "dataplane/ports/packet_pool.hpp"
#include "dataplane/worker/stages.hpp"

namespace culvert::dataplane::ports {
namespace {

config::Config gateway(std::initializer_list<const char*> devices) {
  config::Config config;
  config.instance = "hq";
  for (const char* device : devices) {
    config::Interface interface;
    interface.name = "port" + std::to_string(config.dataplane.interfaces.size());
    interface.device = device;
    config.dataplane.interfaces.push_back(interface);
  }
  return config;
}

Machine machine(std::uint64_t free_huge_page_mib) {
  Machine result;
  result.cores = {0, 1, 2, 3};
  result.pinnable = result.cores;
  result.free_huge_page_mib = free_huge_page_mib;
  return result;
}

/// The value behind an option; empty when the option is not there.
std::string value_of(const EalPlan& plan, std::string_view option) {
  const auto found = std::ranges::find(plan.arguments, option);
  return found == plan.arguments.end() || found + 1 == plan.arguments.end() ? "" : *(found + 1);
}
bool has(const EalPlan& plan, std::string_view option) {
  return std::ranges::find(plan.arguments, option) != plan.arguments.end();
}

}  // namespace

TEST_CASE("eal: instances on one host do not share files") {
  const auto plan = plan_eal(gateway({"net_null0"}), machine(0));
  REQUIRE(plan);
  CHECK(value_of(*plan, "--file-prefix") == "culvert-hq");
  CHECK(has(*plan, "--no-shconf"));
}

TEST_CASE("eal: virtual devices need no PCI bus, PCI devices are named one by one") {
  const auto plan = plan_eal(gateway({"net_af_packet0,iface=veth-wan"}), machine(0));
  REQUIRE(plan);
  CHECK(has(*plan, "--no-pci"));
  CHECK(has(*plan, "--iova-mode=va"));  // physical addresses would need root for good
  CHECK(value_of(*plan, "--vdev") == "net_af_packet0,iface=veth-wan");

  const auto physical = plan_eal(gateway({"0000:03:00.0", "03:00.1"}), machine(0));
  REQUIRE(physical);
  CHECK_FALSE(has(*physical, "--no-pci"));
  CHECK_FALSE(has(*physical, "--iova-mode=va"));
  CHECK(value_of(*physical, "-a") == "0000:03:00.0");
  CHECK(physical->devices[1] == Device{DeviceKind::pci, "0000:03:00.1", ""});
}

TEST_CASE("eal: the VLANs of a device share it, whatever it is called by") {
  auto config = gateway({"0000:03:00.0", "net_null0", "03:00.0"});
  CHECK(plan_eal(config, machine(0)).error().find("a vlan of its own") != std::string::npos);
  config.dataplane.interfaces[2].vlan.add(100);
  const auto plan = plan_eal(config, machine(0));
  REQUIRE(plan);
  REQUIRE(plan->devices.size() == 2);
  CHECK(plan->device_of == std::vector<std::size_t>{0, 1, 0});
  CHECK(std::ranges::count(plan->arguments, "-a") == 1);
  config.dataplane.interfaces[2].device = "net_null0,size=1";
  CHECK_FALSE(plan_eal(config, machine(0)));
}

TEST_CASE("eal: huge pages are used when there are enough of them") {
  auto config = gateway({"net_null0"});
  const auto without = plan_eal(config, machine(16));
  REQUIRE(without);
  CHECK_FALSE(without->huge_pages);
  CHECK(has(*without, "--no-huge"));
  CHECK_FALSE(has(*without, "--in-memory"));
  CHECK(value_of(*without, "-m") == std::to_string(memory_mib(config.dataplane)));
  CHECK(without->warnings.size() == 1);

  const auto with = plan_eal(config, machine(8192));
  REQUIRE(with);
  CHECK(with->huge_pages);
  CHECK_FALSE(has(*with, "--no-huge"));
  CHECK(has(*with, "--in-memory"));

  config.dataplane.huge_pages_required = true;
  const auto refused = plan_eal(config, machine(16));
  REQUIRE_FALSE(refused);
  CHECK_THAT(refused.error(), Catch::EndsWith("set dataplane.huge_pages_required to false"));
}

TEST_CASE("eal: what helps when DPDK has no memory depends on where it takes it from") {
  CHECK_THAT(memory_remedy(false, 412),
             Catch::Contains("more than the 412") && Catch::Contains("dataplane.memory_mib"));
  // More asked for in the file would only turn huge pages off.
  CHECK_THAT(memory_remedy(true, 412),
             Catch::Contains("vm.nr_hugepages") && !Catch::Contains("memory_mib"));
}

TEST_CASE("eal: workers float over the process's cores, or are pinned and left alone") {
  auto config = gateway({"net_null0"});
  config.dataplane.workers = 2;
  CHECK(value_of(*plan_eal(config, machine(0)), "--lcores") ==
        "0@(0,1,2,3),1@(0,1,2,3),2@(0,1,2,3)");

  config.dataplane.cores = {2, 3};
  CHECK(value_of(*plan_eal(config, machine(0)), "--lcores") == "0@(0,1),1@2,2@3");

  config.dataplane.cores = {7};
  const auto refused = plan_eal(config, machine(0));
  REQUIRE_FALSE(refused);
  CHECK(refused.error() ==
        "dataplane.workers names core 7, but this process may run only on cores 0,1,2,3");
}

TEST_CASE("eal: workers are pinned to isolated cores, which the process does not run on") {
  auto config = gateway({"net_null0"});
  config.dataplane.cores = {2, 200};
  Machine isolating = machine(0);
  isolating.cores = {0, 1};  // isolcpus=2,3,200
  isolating.pinnable = {0, 1, 2, 3, 200};
  const auto plan = plan_eal(config, isolating);
  REQUIRE(plan);
  CHECK(value_of(*plan, "--lcores") == "0@(0,1),1@2,2@200");
  config.dataplane.cores.clear();
  config.dataplane.workers = 1;
  CHECK(value_of(*plan_eal(config, isolating), "--lcores") == "0@(0,1),1@(0,1)");
}

TEST_CASE("eal: the mask that a process was started with does not keep workers from other cores") {
  const std::vector<std::uint32_t> reachable = reachable_cores();
  REQUIRE_FALSE(reachable.empty());
  std::thread([&] {
    cpu_set_t last;
    CPU_ZERO(&last);
    CPU_SET(reachable.back(), &last);
    REQUIRE(sched_setaffinity(0, sizeof(last), &last) == 0);
    const Machine machine = inspect_machine();
    CHECK(machine.cores == std::vector<std::uint32_t>{reachable.back()});
    CHECK(machine.pinnable == reachable);
    CHECK(own_cores() == machine.cores);  // asking has changed nothing
  }).join();
}

TEST_CASE("eal: net_null receives nothing, unless it is told to") {
  CHECK(parse_device("net_null0", 1, 1500).arguments == "no-rx=1");
  CHECK(parse_device("net_null0,size=64", 1, 1500).arguments == "size=64,no-rx=1");
  CHECK(parse_device("net_null0,no-rx=0", 1, 1500).arguments == "no-rx=0");
}

TEST_CASE("eal: devices by which nobody can answer") {
  for (const char* const device :
       {"net_null0", "net_null7,no-rx=1", "net_pcap0,rx_pcap=in.pcap,infinite_rx=1",
        "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap", "net_pcap0,rx_pcap=in.pcap,tx_iface=eth1",
        "net_pcap0,rx_iface=eth1,tx_pcap=iface=.pcap", "net_pcap0,rx_iface=eth1"}) {
    INFO(device);
    CHECK(answers_nobody(device));
  }
  for (const char* const device :
       {"0000:03:00.0", "net_af_packet0,iface=eth1", "net_tap0", "net_pcap0,iface=eth1",
        "net_pcap0,rx_iface=eth1,tx_iface=eth1", "net_pcap0,rx_iface_in=eth1,tx_iface=eth1"}) {
    INFO(device);
    CHECK_FALSE(answers_nobody(device));
  }
}

TEST_CASE("eal: a packet-socket device gets a queue pair a worker, unless it says otherwise") {
  CHECK(parse_device("net_af_packet0,iface=eth1", 2, 1500).arguments == "iface=eth1,qpairs=2");
  CHECK(parse_device("net_af_packet0,iface=eth1,qpairs=4", 2, 1500).arguments ==
        "iface=eth1,qpairs=4");
  CHECK(parse_device("net_af_packet0,iface=eth1", 1, 1500).arguments == "iface=eth1");
  CHECK(parse_device("net_tap0", 2, 1500).arguments.empty());
}

TEST_CASE(
    "eal: what the frames of a ring and packet buffers hold is what they were made for, or more") {
  using Bytes = std::optional<std::uint16_t>;
  CHECK(largest_in_ring(parse_device("net_af_packet0,iface=eth1", 1, 1500)) == Bytes(1952));
  CHECK(largest_in_ring(parse_device("net_af_packet0,framesz=4096", 1, 1500)) == Bytes(4000));
  CHECK_FALSE(largest_in_ring(parse_device("net_af_packet0,framesz=x", 1, 1500)));
  CHECK_FALSE(largest_in_ring(parse_device("net_null0", 1, 1500)));
  for (std::uint32_t wide = 576; wide <= 9000; ++wide) {
    const auto mtu = static_cast<std::uint16_t>(wide);
    CHECK(largest_in_ring(parse_device("net_af_packet0", 1, mtu)).value() >= mtu);
    CHECK(largest_in_buffers(buffer_bytes(mtu)) >= mtu);
    CHECK(buffer_bytes(largest_in_buffers(buffer_bytes(mtu))) == buffer_bytes(mtu));
  }
}

TEST_CASE("eal: a packet-socket device's ring has frames for the largest MTU") {
  CHECK(parse_device("net_af_packet0,iface=eth1,framecnt=512", 1, 9000).arguments ==
        "iface=eth1,framecnt=512,framesz=9152,blocksz=585728");
  CHECK(parse_device("net_af_packet0,iface=eth1,framesz=4096", 1, 9000).arguments ==
        "iface=eth1,framesz=4096");
  // Its driver refuses frames that do not fit our buffers.
  for (std::uint32_t mtu = 1900; mtu <= 9000; ++mtu) {
    const auto arguments = parse_device("net_af_packet0", 1, static_cast<std::uint16_t>(mtu));
    const auto at = arguments.arguments.find("framesz=");
    if (at == std::string::npos) continue;
    const auto frame = std::stoul(arguments.arguments.substr(at + 8));
    CHECK(frame >= mtu + 14 + 4 + 66);
    CHECK(frame - 32 <= buffer_bytes(static_cast<std::uint16_t>(mtu)) - 128U);
  }
}

TEST_CASE("eal: one device cannot be two interfaces") {
  const auto plan = plan_eal(gateway({"03:00.0", "0000:03:00.0"}), machine(0));
  REQUIRE_FALSE(plan);
  CHECK(plan.error().find("0000:03:00.0") != std::string::npos);
}

TEST_CASE("eal: memory follows the limits, or the operator") {
  config::Dataplane dataplane;
  const std::uint32_t usual = memory_mib(dataplane);
  CHECK(usual < 1024);  // a gateway without huge pages stays below 1 GiB
  dataplane.interfaces.resize(2);
  const std::uint32_t with_two = memory_mib(dataplane);
  dataplane.interfaces[1].mtu = 9000;
  // 7 KiB more of each buffer.
  CHECK(memory_mib(dataplane) >= with_two + packets_in_flight(2, 1) * 7 / 1024);
  dataplane.limits.sas = 1U << 20U;
  CHECK(memory_mib(dataplane) > usual + 3000);
  dataplane.memory_mib = 300;
  CHECK(memory_mib(dataplane) == 300);
}

TEST_CASE("eal: the memory that docs/deployment.md names is what is asked for") {
  config::Dataplane dataplane;
  dataplane.workers = 2;
  dataplane.interfaces.resize(2);
  dataplane.limits.sas = 1024;
  const std::uint32_t needed = memory_mib(dataplane);
  constexpr std::uint32_t kHugePageMib = 2;
  const std::uint32_t pages = (needed + kHugePageMib - 1) / kHugePageMib;
  std::ifstream file(CULVERT_SOURCE_DIR "/docs/deployment.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  CHECK_THAT(
      text, Catch::Contains("Two workers, two interfaces and 1 024 SAs: " + std::to_string(needed) +
                            " MiB, " + std::to_string(pages) + " pages of 2 MiB"));
}

TEST_CASE("eal: as many workers are taken as the configuration may name") {
  auto config = gateway({"net_null0"});
  config.dataplane.workers = config::limits::kWorkers;
  const auto plan = plan_eal(config, machine(0));
  REQUIRE(plan);
  CHECK(plan->workers == config::limits::kWorkers);
  CHECK_THAT(value_of(*plan, "--lcores"), Catch::EndsWith(",127@(0,1,2,3)"));
}

TEST_CASE("packet pool: buffers hold the largest frame and ESP around it") {
  CHECK(buffer_bytes(1500) == 2048 + 128);
  CHECK(buffer_bytes(9000) >= 9000 + 14 + 49 + 128);
  CHECK(buffer_bytes(65535) < 65536);
}

TEST_CASE("packet pool: whoever can hold packets has his in it") {
  const std::uint32_t of_queue = packets_in_flight(2, 1) - packets_in_flight(1, 1);
  CHECK(of_queue >= 2 * kDescriptors + TransmitQueue::kCapacity);
  const std::uint32_t of_worker = packets_in_flight(0, 2) - packets_in_flight(0, 1);
  const std::uint32_t from_main_and_to_it =
      kPuntPackets + kLinkPackets + kPeerPackets + kNewcomerPackets + kInjectPackets;
  const std::uint32_t waits = EarlyPackets::kSas * EarlyQueue::kCapacity + Reassembler::kBuffers +
                              2 * PendingPackets::kCapacity;
  CHECK(of_worker >= from_main_and_to_it + kHandoffPackets + waits + kBurstPackets);
  const std::uint32_t of_main = packets_in_flight(0, 1) - of_worker;
  CHECK(of_main >= control::Neighbors::kHeldInAll + control::NeighborTable::kMaxUnresolved +
                       control::Acquires::kHeldInAll);
}

TEST_CASE("packet pool: its packets have room in the memory that is asked for") {
  config::Dataplane dataplane;
  dataplane.limits.sas = dataplane.limits.policies = 0;
  const std::uint32_t beside = memory_mib(dataplane) - 16;  // for no interface
  const std::uint64_t each = buffer_bytes(1500) + sizeof(rte_mbuf) + kPuntPrivateBytes + 64;
  for (const std::uint32_t workers : {1U, 2U, 16U}) {
    for (const std::uint32_t ports : {1U, 2U, 4U}) {
      CAPTURE(workers, ports);
      dataplane.workers = workers;
      dataplane.interfaces.resize(ports);
      const std::uint64_t of_main = packets_in_flight(0, 0);
      CHECK((packets_in_flight(ports, workers) - of_main) * each <=
            std::uint64_t{memory_mib(dataplane) - beside} << 20U);
    }
  }
}

}  // namespace culvert::dataplane::ports
