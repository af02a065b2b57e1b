#include "dataplane/control/confinement.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include <linux/capability.h>
#include <rte_eal.h>
#include <unistd.h>

#include "runtime/log.hpp"
#include "runtime/privileges.hpp"

namespace culvert::dataplane::control {
namespace {

constexpr std::array<unsigned, 3> kKept{CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK};

bool uses_af_xdp(const config::Config& config) {
  return std::ranges::any_of(config.dataplane.interfaces, [](const config::Interface& interface) {
    return interface.device.starts_with("net_af_xdp");
  });
}

std::expected<void, std::string> leave_root(const config::Config& config) {
  if (geteuid() != 0) return {};
  if (rte_eal_iova_mode() == RTE_IOVA_PA) {
    runtime::log(runtime::Level::warning, "root_kept",
                 {{"reason", "devices need physical addresses; with an IOMMU they would not"}});
    return {};
  }
  if (auto done = runtime::drop_to_user_but_keep(config.user, kKept); !done) return done;
  // A change of user makes a process dumpable as the system's default says.
  return runtime::disable_core_dumps();
}

}  // namespace

std::expected<void, std::string> confine(const config::Config& config) {
  if (auto done = leave_root(config); !done) return done;
  if (auto done = runtime::no_new_privileges(); !done) return done;
  if (auto done = runtime::leave_other_processes_alone(runtime::DeniedCall::fails); !done) {
    return done;
  }
  const auto listed = runtime::packet_daemon_system_calls();
  std::vector<std::string_view> calls(listed.begin(), listed.end());
  if (uses_af_xdp(config)) calls.emplace_back("bpf");  // its sockets are taken down through maps
  return runtime::allow_only_system_calls(calls, runtime::DeniedCall::fails);
}

}  // namespace culvert::dataplane::control
