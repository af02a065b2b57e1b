// What stands on DPDK before the first packet: environment, packet memory, ports, engine, tables.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "crypto/esp/engine_choice.hpp"
#include "dataplane/ports/eal.hpp"
#include "dataplane/ports/memory_placement.hpp"
#include "dataplane/ports/packet_pool.hpp"
#include "dataplane/ports/port.hpp"
#include "dataplane/tables/tables.hpp"

namespace culvert::dataplane::control {

/// In order of creation; taken down in reverse.
struct Hardware {
  static std::expected<std::unique_ptr<Hardware>, std::string> start(const config::Config& config);
  /// Starts every port: packets come in from now on.
  [[nodiscard]] std::expected<void, std::string> start_ports();

  std::unique_ptr<ports::Eal> eal;
  ports::PacketPool pool;
  ports::PacketPool large_pool;  ///< nullptr: the machine cannot have it
  /// A device each, in the order of the interfaces that the daemon was started with.
  std::vector<std::unique_ptr<ports::Port>> ports;
  crypto::esp::EngineChoice engine_choice;      ///< for all threads
  std::unique_ptr<crypto::esp::Engine> engine;  ///< the main thread's: expands keys
  std::unique_ptr<Tables> tables;
  ports::Placement placement;  ///< of the tables, and of what the main thread adds to them
  bool huge_pages = false;
};

}  // namespace culvert::dataplane::control
