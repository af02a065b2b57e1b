// A whole worker between a memory source and a sink: net_pcap with infinite_rx on the receiving
// port, net_null on the sending one. Everything a user has on is on: SPD, routing, lifetimes,
// replay window, selector check, counters.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "benchmarks/workload.hpp"
#include "dataplane/tables/tables.hpp"
#include "dataplane/worker/worker.hpp"

namespace culvert::benchmarks {

struct Rate {
  double packets_per_second = 0;
  double cycles_per_packet = 0;
};

/// The devices of one case: port 0 plays the capture, port 1 swallows.
class Devices {
 public:
  Devices(const std::string& capture, rte_mempool* pool);
  ~Devices();
  Devices(const Devices&) = delete;
  Devices& operator=(const Devices&) = delete;
  [[nodiscard]] std::uint16_t source() const { return source_; }
  [[nodiscard]] std::uint16_t sink() const { return sink_; }

 private:
  std::uint16_t source_ = 0, sink_ = 0;
};

/// Bare receive and transmit of the same packets on the worker's core.
[[nodiscard]] Rate measure_io(const Devices& devices, double seconds);

/// The worker's tables and its thread for a case.
class Rig {
 public:
  Rig(const Case& test, const crypto::esp::Engine& engine);
  ~Rig();
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  /// SPIs of the inbound SAs, by SA.
  [[nodiscard]] const std::vector<channel::Spi>& spis() const { return spis_; }
  /// Runs the worker over the devices and counts. Exits with a message when a packet was dropped:
  /// a rate with drops in it is no rate.
  [[nodiscard]] Rate measure(const Devices& devices, rte_mempool* pool, double seconds);
  /// Sets every replay window back, as at the start of the capture.
  void reset_windows() const;

 private:
  void install(const Case& test);
  void route();

  Case test_;
  std::unique_ptr<dataplane::Tables> tables_;
  std::vector<channel::Spi> spis_;
};

}  // namespace culvert::benchmarks
