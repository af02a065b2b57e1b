// Whole workers between a memory source and a sink: net_pcap with infinite_rx on the receiving
// port, net_null on the sending one. Everything a user has on is on: SPD, routing, lifetimes,
// replay window, selector check, counters.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/workload.hpp"
#include "dataplane/tables/tables.hpp"
#include "dataplane/worker/worker.hpp"

namespace culvert::benchmarks {

/// The packets that a case has in memory: its captures, and what is on its way.
[[nodiscard]] std::uint32_t packets_in_memory(const Case& test);
struct FreePool {
  void operator()(rte_mempool* pool) const;
};
using Pool = std::unique_ptr<rte_mempool, FreePool>;
/// nullptr: not enough memory.
[[nodiscard]] Pool make_pool(std::uint32_t packets);
/// The same beside DPDK's memory, in ordinary pages.
[[nodiscard]] Pool make_pool_in_ordinary_pages(std::uint32_t packets);
/// Memory that a pool of so many packets takes, in MiB.
[[nodiscard]] std::uint32_t pool_mib(std::uint32_t packets);

/// The devices of one case, a queue for each worker: the source plays the captures, one a queue.
class Devices {
 public:
  Devices(const std::vector<std::string>& captures, rte_mempool* pool);
  ~Devices();
  Devices(const Devices&) = delete;
  Devices& operator=(const Devices&) = delete;
  [[nodiscard]] std::uint16_t source() const { return source_; }
  [[nodiscard]] std::uint16_t sink() const { return sink_; }
  [[nodiscard]] std::size_t queues() const { return queues_; }

 private:
  std::uint16_t source_ = 0, sink_ = 0;
  std::size_t queues_;
};

/// Nanoseconds per packet of bare receive and transmit, by worker, all at once.
[[nodiscard]] std::vector<double> io_nanoseconds(const Devices& devices, double seconds);

/// Memory that a case's state takes, both in bytes; 0 when the case is too small to tell.
struct StateBytes {
  double per_sa = 0;
  double per_policy = 0;
};

/// What a worker's packets took on average, in TSC cycles, by Stage. The looks at the clock are
/// taken out.
struct StageTimes {
  std::array<double, dataplane::kStages> cycles_per_packet{};
};

/// The tables of a case and the workers over them.
class Rig {
 public:
  Rig(const Case& test, const crypto::esp::Engine& engine);
  ~Rig();
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  [[nodiscard]] const Case& test() const { return test_; }
  /// Measures this case from now on, whose tables are the same.
  void serve(const Case& test);
  /// SPIs of the inbound SAs, by SA.
  [[nodiscard]] const std::vector<channel::Spi>& spis() const { return spis_; }
  /// The SAs whose packets go to a worker's queue: inbound its own.
  [[nodiscard]] const std::vector<std::uint32_t>& sas_of(std::size_t worker) const {
    return sas_of_[worker];
  }
  [[nodiscard]] const StateBytes& state_bytes() const { return state_bytes_; }
  /// Runs the workers over the devices: nanoseconds per packet, by worker. Ends the program with a
  /// message when a packet was dropped: a rate with drops in it is no rate.
  [[nodiscard]] std::vector<double> measure(const Devices& devices, rte_mempool* pool,
                                            double seconds);
  /// The same with the time of the first worker told apart by stage.
  [[nodiscard]] StageTimes measure_stages(const Devices& devices, rte_mempool* pool,
                                          double seconds);
  /// Sets every replay window of a worker's SAs back, as at the start of its capture.
  void reset_windows(std::size_t worker) const;

 private:
  void route();
  void install_sas();
  void install_policies();
  struct StageWatch;

  std::vector<double> run(const Devices& devices, rte_mempool* pool, double seconds,
                          StageWatch* watch);

  Case test_;
  std::unique_ptr<dataplane::Tables> tables_;
  std::vector<channel::Spi> spis_;
  std::vector<dataplane::SlotIndex> slots_;
  std::vector<std::vector<std::uint32_t>> sas_of_;
  StateBytes state_bytes_;
};

}  // namespace culvert::benchmarks
