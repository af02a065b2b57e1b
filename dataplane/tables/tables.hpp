// All that workers read, in one place, made before they start.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/tables/adjacency.hpp"
#include "dataplane/tables/counters.hpp"
#include "dataplane/tables/fib.hpp"
#include "dataplane/tables/reclaimer.hpp"
#include "dataplane/tables/sad.hpp"
#include "dataplane/tables/spd.hpp"

namespace culvert::dataplane {

/// A configured interface as workers see it; fixed while they run. The VLANs of a device are a port
/// each; the first of them is where all of the device's packets are received.
struct PortInfo {
  std::uint16_t dpdk_port = 0;
  std::uint16_t queues = 1;  ///< worker w receives from queue w when w < queues; 0: another port's
  std::uint16_t mtu = 1500;
  MacAddress mac{};
  wire::vlan::Ids vlan;        ///< the tags its frames have on the wire
  bool shares_device = false;  ///< with other ports, or its frames are tagged
};

/// Neighbours and routes the FIB and the adjacencies have room for.
inline constexpr std::uint32_t kMaxRoutes = 16384;

struct Tables {
  /// `engine` outlives the tables. `fib`: another than one made for them, which is 64 MiB.
  static std::expected<std::unique_ptr<Tables>, std::string> create(
      const config::Limits& limits, std::uint32_t workers, const crypto::esp::Engine& engine,
      std::unique_ptr<Fib> fib = nullptr);

  std::unique_ptr<Reclaimer> reclaimer;  ///< first: the others retire into it
  std::unique_ptr<Adjacencies> adjacencies;
  std::unique_ptr<Fib> fib;
  std::unique_ptr<Sad> sad;
  std::unique_ptr<Spd> spd;
  std::vector<PortInfo> ports;  ///< by PortId; set before workers start
  config::PolicyAction default_policy =
      config::PolicyAction::discard;           ///< set before workers start
  std::unique_ptr<WorkerCounters[]> counters;  ///< workers, then one for the main thread
  std::uint32_t workers = 0;
  std::uint32_t flows_remembered = 0;  ///< by each worker, of each family: a power of two

  [[nodiscard]] WorkerCounters& main_counters() { return counters[workers]; }
};

}  // namespace culvert::dataplane
