#include "dataplane/control/hardware.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

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

/// Workers that the poorest device has queues for.
std::expected<std::uint16_t, std::string> usable_workers(const config::Config& config,
                                                         const ports::EalPlan& plan) {
  auto workers = static_cast<std::uint16_t>(std::min<std::size_t>(plan.workers, kMaxWorkers));
  for (std::size_t index = 0; index < plan.devices.size(); ++index) {
    const auto limit = ports::queue_limit(config.dataplane.interfaces[index], plan.devices[index]);
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

std::expected<void, std::string> configure_ports(Hardware& hardware, const config::Config& config,
                                                 const ports::EalPlan& plan,
                                                 std::uint16_t workers) {
  for (std::size_t index = 0; index < plan.devices.size(); ++index) {
    auto port = ports::Port::configure(config.dataplane.interfaces[index], plan.devices[index],
                                       workers, hardware.pool.get());
    if (!port) return Failure(port.error());
    hardware.ports.push_back(std::move(*port));
  }
  return {};
}

void describe_ports(Hardware& hardware, const config::Config& config, std::uint16_t workers) {
  for (std::size_t index = 0; index < hardware.ports.size(); ++index) {
    const ports::Port& port = *hardware.ports[index];
    hardware.tables->ports.push_back(
        {port.dpdk_port(), workers, config.dataplane.interfaces[index].mtu, port.mac()});
  }
  hardware.tables->default_policy = config.default_policy;
}

}  // namespace

std::expected<std::unique_ptr<Hardware>, std::string> Hardware::start(
    const config::Config& config) {
  if (config.dataplane.interfaces.size() > kMaxPorts) {
    return Failure("dataplane.interfaces has more than " + std::to_string(kMaxPorts) + " entries");
  }
  const HugePageTurn turn;
  const auto plan = ports::plan_eal(config, ports::inspect_machine());
  if (!plan) return Failure(plan.error());
  for (const std::string& warning : plan->warnings) {
    runtime::log(runtime::Level::warning, "memory", {{"message", warning}});
  }
  auto hardware = std::make_unique<Hardware>();
  hardware->huge_pages = plan->huge_pages;
  auto eal = ports::Eal::start(*plan);
  if (!eal) return Failure(eal.error());
  hardware->eal = std::move(*eal);

  const auto workers = usable_workers(config, *plan);
  if (!workers) return Failure(workers.error());
  auto pool = ports::make_packet_pool(config.dataplane, *workers, kPuntPrivateBytes);
  if (!pool) return Failure(pool.error());
  hardware->pool = std::move(*pool);
  if (auto done = configure_ports(*hardware, config, *plan, *workers); !done) {
    return Failure(done.error());
  }
  hardware->engine = crypto::esp::make_engine();
  auto tables = Tables::create(config.dataplane.limits, *workers, *hardware->engine);
  if (!tables) return Failure(tables.error());
  hardware->tables = std::move(*tables);
  describe_ports(*hardware, config, *workers);
  return hardware;
}

std::expected<void, std::string> Hardware::start_ports() {
  for (const auto& port : ports) {
    if (auto done = port->start(); !done) return done;
  }
  return {};
}

}  // namespace culvert::dataplane::control
