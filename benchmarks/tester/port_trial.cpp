// port_trial: trials of a gateway that is cabled to two ports, one a line of standard input:
//   out|in SIZE|imix MPPS SECONDS [forwarded]
// The first line of output is the tester's machine, versions and links; each trial is answered by a
// line of JSON. report/ports.py searches with it for the throughput.
#include <algorithm>
#include <array>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_version.h>

#include "benchmarks/lcores.hpp"
#include "benchmarks/machine.hpp"
#include "benchmarks/memory.hpp"
#include "benchmarks/tester/trial.hpp"
#include "dataplane/ports/eal_arguments.hpp"

namespace {

using namespace culvert::benchmarks;
using culvert::dataplane::ports::Device;
using culvert::dataplane::ports::DeviceKind;
using nlohmann::json;

constexpr std::uint16_t kDescriptors = 1024;
constexpr std::uint32_t kPackets = 16383;
constexpr std::uint32_t kMemoryMib = 256;

void start_eal(const std::vector<Device>& devices, unsigned core, bool huge_pages) {
  static std::vector<std::string> arguments;
  arguments = {"port_trial",  "--lcores", "0@" + std::to_string(core),
               "--log-level", "3",        "--no-telemetry"};
  if (huge_pages) {
    arguments.emplace_back("--in-memory");
  } else {
    for (const char* const word : {"--no-shconf", "--no-huge", "-m"}) arguments.emplace_back(word);
    arguments.push_back(std::to_string(kMemoryMib));
  }
  const bool has_pci = std::ranges::any_of(
      devices, [](const Device& device) { return device.kind == DeviceKind::pci; });
  if (!has_pci) arguments.emplace_back("--no-pci");
  for (const Device& device : devices) {
    arguments.emplace_back(device.kind == DeviceKind::pci ? "-a" : "--vdev");
    arguments.push_back(device.to_string());
  }
  static std::vector<char*> argv;
  argv.clear();
  for (std::string& argument : arguments) argv.push_back(argument.data());
  if (rte_eal_init(static_cast<int>(argv.size()), argv.data()) < 0) give_up("DPDK did not start");
}

std::uint16_t open_port(const Device& device, rte_mempool* pool) {
  std::uint16_t port = 0;
  if (rte_eth_dev_get_port_by_name(device.name.c_str(), &port) != 0) {
    give_up("DPDK found no device " + device.name);
  }
  const rte_eth_conf configuration{};
  if (rte_eth_dev_configure(port, 1, 1, &configuration) != 0 ||
      rte_eth_rx_queue_setup(port, 0, kDescriptors, SOCKET_ID_ANY, nullptr, pool) != 0 ||
      rte_eth_tx_queue_setup(port, 0, kDescriptors, SOCKET_ID_ANY, nullptr) != 0 ||
      rte_eth_dev_start(port) != 0) {
    give_up("cannot start " + device.name);
  }
  rte_eth_promiscuous_enable(port);  // not every device can, and none must
  return port;
}

/// Mbit/s; null: the driver does not know.
json speed_of(const rte_eth_link& link) {
  const bool is_known =
      link.link_speed != RTE_ETH_SPEED_NUM_NONE && link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN;
  return is_known ? json(link.link_speed) : json();
}

/// The first line: what the tester is. `links`: the LAN's, the WAN's.
json introduction(std::size_t cores, bool huge_pages, const std::array<rte_eth_link, 2>& links) {
  return {{"machine",
           {{"cpu", cpu_model()},
            {"cores", cores},
            {"kernel", kernel_release()},
            {"huge_pages", huge_pages}}},
          {"versions",
           {{"culvert", CULVERT_VERSION},
            {"dpdk", rte_version()},
            {"engine", culvert::crypto::esp::make_engine()->name()}}},
          {"links", {speed_of(links[0]), speed_of(links[1])}}};
}

json to_json(const Seen& seen) {
  const auto microseconds = [](std::uint64_t cycles) {
    return static_cast<double>(cycles) * 1e6 / static_cast<double>(rte_get_tsc_hz());
  };
  json latency = json::object();
  for (const auto& [name, share] : {std::pair("p50", 0.5), std::pair("p90", 0.9),
                                    std::pair("p99", 0.99), std::pair("p999", 0.999)}) {
    latency[name] = microseconds(seen.latencies->percentile(share));
  }
  latency["max"] = microseconds(seen.latencies->most());
  return {{"sent", seen.sent},
          {"received", seen.received},
          {"others", seen.others},
          {"seconds", seen.seconds},
          {"latency_us", std::move(latency)}};
}

/// False: the line is none of ours.
bool parse(const std::string& line, Stream& stream) {
  std::istringstream words(line);
  std::string direction, size;
  double mpps = 0;
  if (!(words >> direction >> size >> mpps >> stream.seconds)) return false;
  if (std::string way; words >> way) {
    if (way != "forwarded") return false;
    stream.way = Way::forwarded;
  }
  stream.towards = direction == "out" ? Towards::wan : Towards::lan;
  stream.inner_bytes = 0;
  if (size != "imix") {
    if (size.empty() || !std::ranges::all_of(size, [](char c) { return c >= '0' && c <= '9'; }))
      return false;
    stream.inner_bytes = static_cast<std::uint32_t>(std::stoul(size));
    if (stream.inner_bytes < kLeastInnerBytes || stream.inner_bytes > 1420) return false;
  }
  stream.packets_per_second = mpps * 1e6;
  return (direction == "out" || direction == "in") && mpps > 0 && stream.seconds > 0;
}

/// A NIC takes seconds to agree with the other end; trials must not begin before.
rte_eth_link wait_for_link(std::uint16_t port) {
  constexpr unsigned kTenths = 100;
  rte_eth_link link{};
  for (unsigned tenth = 0; tenth < kTenths && link.link_status != RTE_ETH_LINK_UP; ++tenth) {
    if (tenth != 0) rte_delay_us_sleep(100'000);
    rte_eth_link_get_nowait(port, &link);
  }
  if (link.link_status != RTE_ETH_LINK_UP) give_up("a port has no link");
  return link;
}

void serve(Tester& tester) {
  constexpr double kSecondsForArp = 2;
  for (std::string line; std::getline(std::cin, line);) {
    Stream stream;
    if (!parse(line, stream)) {
      std::cout << json{{"error", "expected: out|in SIZE|imix MPPS SECONDS [forwarded]"}}.dump()
                << std::endl;
    } else if (!tester.find_gateway(kSecondsForArp)) {
      std::cout << json{{"error", "198.18.0.1 or 198.18.1.1 does not answer ARP"}}.dump()
                << std::endl;
    } else {
      std::cout << to_json(tester.run(stream)).dump() << std::endl;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Trials of a gateway between two ports"};
  std::string lan, wan;
  bool may_use_huge_pages = true;
  app.add_option("lan", lan, "the device that is cabled to the gateway's LAN")->required();
  app.add_option("wan", wan, "the one that is cabled to its WAN")->required();
  app.add_flag("!--no-huge", may_use_huge_pages, "leave the kernel's pool of huge pages alone");
  CLI11_PARSE(app, argc, argv);
  const std::vector<Device> devices{culvert::dataplane::ports::parse_device(lan, 1, RTE_ETHER_MTU),
                                    culvert::dataplane::ports::parse_device(wan, 1, RTE_ETHER_MTU)};
  const std::vector<unsigned> cores = usable_cores();
  const bool huge_pages = may_use_huge_pages && free_memory().huge >= kMemoryMib;
  start_eal(devices, cores[1 % cores.size()], huge_pages);
  rte_mempool* const pool = rte_pktmbuf_pool_create(
      "packets", kPackets, 256, 0, kMostFrameBytes + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
  if (pool == nullptr) give_up("no memory for packets");
  const std::uint16_t lan_port = open_port(devices[0], pool),
                      wan_port = open_port(devices[1], pool);
  const std::array links{wait_for_link(lan_port), wait_for_link(wan_port)};
  std::cout << introduction(cores.size(), huge_pages, links).dump() << std::endl;
  Tester tester(lan_port, wan_port, pool);
  serve(tester);
  for (const std::uint16_t port : {lan_port, wan_port}) {
    rte_eth_dev_stop(port);
    rte_eth_dev_close(port);
  }
  return 0;
}
