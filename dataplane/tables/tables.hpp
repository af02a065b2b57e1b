// All that workers read, in one place, made before they start.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>

#include "config/config.hpp"
#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/tables/adjacency.hpp"
#include "dataplane/tables/counters.hpp"
#include "dataplane/tables/fib.hpp"
#include "dataplane/tables/ike_spis.hpp"
#include "dataplane/tables/peer_addresses.hpp"
#include "dataplane/tables/port_table.hpp"
#include "dataplane/tables/reclaimer.hpp"
#include "dataplane/tables/sad.hpp"
#include "dataplane/tables/spd.hpp"

namespace culvert::dataplane {

/// Routes and neighbours of a family the FIB has room for: all that control/forwarding.cpp may lay.
inline constexpr std::uint32_t kMaxRoutes = 65536;
/// Neighbours and networks that routes lead to, of both families; the same file counts them.
inline constexpr std::uint32_t kMaxAdjacencies = 65535;

struct Tables {
  /// `engine` outlives the tables. `fib`: another than one made for them, which is 64 MiB and on
  /// `numa_node` where that has the memory. All else is where the calling thread's memory is.
  static std::expected<std::unique_ptr<Tables>, std::string> create(
      const config::Limits& limits, std::uint32_t workers, const crypto::esp::Engine& engine,
      std::unique_ptr<Fib> fib = nullptr, std::optional<std::uint32_t> numa_node = std::nullopt);

  std::unique_ptr<Reclaimer> reclaimer;  ///< first: the others retire into it
  std::unique_ptr<Adjacencies> adjacencies;
  std::unique_ptr<Fib> fib;
  std::unique_ptr<Sad> sad;
  std::unique_ptr<Spd> spd;
  std::unique_ptr<IkeSpis> ike_spis;
  PortTable ports;                             ///< by PortId
  PeerAddresses peers;                         ///< that the configuration names
  std::unique_ptr<WorkerCounters[]> counters;  ///< workers, then one for the main thread
  std::uint32_t workers = 0;
  std::uint32_t flows_remembered = 0;  ///< by each worker, of each family: a power of two

  [[nodiscard]] WorkerCounters& main_counters() { return counters[workers]; }
};

}  // namespace culvert::dataplane
