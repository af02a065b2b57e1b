#include "dataplane/control/hardware.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include <fcntl.h>
#include <rte_lcore.h>
#include <sys/file.h>
#include <unistd.h>

#include "dataplane/control/reporter.hpp"
#include "dataplane/control/topology.hpp"
#include "dataplane/tables/mapped_array.hpp"
#include "dataplane/worker/punt.hpp"
#include "runtime/log.hpp"

namespace culvert::dataplane::control {
namespace {

using Failure = std::unexpected<std::string>;

/// Several gateways of a host may start at once: who counts the free huge pages takes his before
/// the next one counts. A lock on a file that every process of the machine has; whoever hangs while
/// he holds it holds nobody up for more than some seconds.
class HugePageTurn {
 public:
  HugePageTurn() : descriptor_(::open("/proc/sys/vm/nr_hugepages", O_RDONLY | O_CLOEXEC)) {
    constexpr auto kPatience = std::chrono::seconds(5);
    constexpr auto kStep = std::chrono::milliseconds(5);
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (descriptor_ >= 0 && ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 &&
           std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(kStep);
    }
  }
  ~HugePageTurn() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  HugePageTurn(const HugePageTurn&) = delete;
  HugePageTurn& operator=(const HugePageTurn&) = delete;

 private:
  int descriptor_;
};

/// What is chosen here stays until the end. Who gets less than he may expect is told.
std::expected<crypto::esp::EngineChoice, std::string> choose_engine(
    const config::Dataplane& dataplane) {
  auto choice = crypto::esp::choose_engine(dataplane.engine);
  if (!choice) {
    return Failure("dataplane.crypto is ipsec-mb, which cannot run: " + choice.error() +
                   "; write auto or openssl");
  }
  if (dataplane.engine == crypto::esp::EngineWish::automatic && !choice->reason.empty()) {
    runtime::log(runtime::Level::warning, "crypto_fallback",
                 {{"reason", choice->reason},
                  {"effect", "OpenSSL seals and opens packets, at a fraction of the rate"}});
  }
  return choice;
}

/// Workers that the poorest device has queues for.
std::expected<std::uint16_t, std::string> usable_workers(const config::Config& config,
                                                         const ports::EalPlan& plan) {
  auto workers = static_cast<std::uint16_t>(plan.workers);
  for (std::size_t index = 0; index < plan.device_of.size(); ++index) {
    const auto limit =
        ports::queue_limit(config.dataplane.interfaces[index], plan.devices[plan.device_of[index]]);
    if (!limit) return Failure(limit.error());
    workers = std::min(workers, *limit);
  }
  if (workers < plan.workers) {
    runtime::log(runtime::Level::warning, "fewer_workers",
                 {{"configured", plan.workers},
                  {"running", workers},
                  {"reason", "a device has no more queues"}});
  }
  return workers;
}

/// Where the packets should be: the node of the devices that write them.
std::optional<std::uint32_t> node_of_devices(const config::Config& config,
                                             const ports::EalPlan& plan) {
  std::vector<std::uint16_t> dpdk_ports;
  for (std::size_t index = 0; index < plan.device_of.size(); ++index) {
    const auto port =
        ports::find_port(config.dataplane.interfaces[index], plan.devices[plan.device_of[index]]);
    if (port) dpdk_ports.push_back(*port);
  }
  return ports::common_numa_node(dpdk_ports);
}

/// Before the first table: a page that is there stays where it is. Without effect on one node,
/// where a container that refuses it need not trouble anybody.
ports::Placement place_tables(std::uint16_t workers) {
  const auto placement =
      ports::place_memory(ports::placement_for(ports::numa_nodes_of_workers(workers)));
  const bool matters = !placement.reason.empty() && rte_socket_count() > 1;
  runtime::log(matters ? runtime::Level::warning : runtime::Level::info, "tables_placed",
               {{"policy", to_string(placement.policy)},
                {"numa_nodes", placement.nodes_text()},
                {"reason", placement.reason.empty() ? "where the workers are" : placement.reason}});
  return placement;
}

/// The interfaces of a device, in the order of the configuration: at least one.
std::vector<const config::Interface*> on_device(const config::Config& config,
                                                const ports::EalPlan& plan, std::size_t device) {
  std::vector<const config::Interface*> found;
  for (std::size_t index = 0; index < plan.device_of.size(); ++index) {
    if (plan.device_of[index] == device) found.push_back(&config.dataplane.interfaces[index]);
  }
  return found;
}

std::expected<void, std::string> configure_ports(Hardware& hardware, const config::Config& config,
                                                 const ports::EalPlan& plan,
                                                 std::uint16_t workers) {
  for (std::size_t device = 0; device < plan.devices.size(); ++device) {
    const auto interfaces = on_device(config, plan, device);
    config::Interface whole = *interfaces.front();
    for (const config::Interface* other : interfaces) whole.mtu = std::max(whole.mtu, other->mtu);
    auto port = ports::Port::configure(whole, plan.devices[device], workers, hardware.pool.get());
    if (!port) return Failure(port.error());
    hardware.ports.push_back(std::move(*port));
  }
  return {};
}

/// An operator who expects ARP on a link must not look for it in vain.
void log_assumed_neighbors(const config::Dataplane& dataplane) {
  for (const config::Interface& interface : dataplane.interfaces) {
    if (!ports::answers_nobody(interface.device)) continue;
    runtime::log(runtime::Level::info, "neighbors_assumed",
                 {{"interface", interface.name},
                  {"device", interface.device},
                  {"mac", mac_text(kAssumedMac)},
                  {"reason", "nobody can answer by this device: no neighbour is asked for"}});
  }
}

}  // namespace

std::expected<std::unique_ptr<Hardware>, std::string> Hardware::start(
    const config::Config& config) {
  if (config.dataplane.interfaces.size() > config::limits::kInterfaces) {
    return Failure("dataplane.interfaces has more than " +
                   std::to_string(config::limits::kInterfaces) + " entries");
  }
  auto choice = choose_engine(config.dataplane);
  if (!choice) return Failure(choice.error());
  const HugePageTurn turn;
  const auto plan = ports::plan_eal(config, ports::inspect_machine());
  if (!plan) return Failure(plan.error());
  for (const std::string& warning : plan->warnings) {
    runtime::log(runtime::Level::warning, "memory", {{"message", warning}});
  }
  auto hardware = std::make_unique<Hardware>();
  hardware->huge_pages = plan->huge_pages;
  // Too few for us: those that are free may be what the next gateway counts on.
  table_pages = plan->huge_pages ? TablePages::pool : TablePages::ordinary;
  auto eal = ports::Eal::start(*plan);
  if (!eal) return Failure(eal.error());
  hardware->eal = std::move(*eal);

  const auto workers = usable_workers(config, *plan);
  if (!workers) return Failure(workers.error());
  hardware->placement = place_tables(*workers);
  // What DPDK makes is on one node.
  std::optional<std::uint32_t> tables_node;
  if (!hardware->placement.nodes.empty()) tables_node = hardware->placement.nodes.front();
  const auto packets_node = node_of_devices(config, *plan).or_else([&] { return tables_node; });
  auto pool = ports::make_packet_pool(config.dataplane, *workers, kPuntPrivateBytes, packets_node);
  if (!pool) return Failure(pool.error());
  hardware->pool = std::move(*pool);
  auto large_pool = ports::make_large_pool(config.dataplane, kPuntPrivateBytes, packets_node);
  if (!large_pool) return Failure(large_pool.error());
  hardware->large_pool = std::move(*large_pool);
  if (auto done = configure_ports(*hardware, config, *plan, *workers); !done) {
    return Failure(done.error());
  }
  hardware->engine_choice = std::move(*choice);
  hardware->engine = hardware->engine_choice.make();
  if (hardware->engine == nullptr) return Failure(std::string("no memory for the crypto library"));
  auto tables =
      Tables::create(config.dataplane.limits, *workers, *hardware->engine, nullptr, tables_node);
  if (!tables) return Failure(tables.error());
  hardware->tables = std::move(*tables);
  log_assumed_neighbors(config.dataplane);
  return hardware;
}

std::expected<void, std::string> Hardware::start_ports() {
  for (const auto& port : ports) {
    if (auto done = port->start(); !done) return done;
  }
  return {};
}

}  // namespace culvert::dataplane::control
