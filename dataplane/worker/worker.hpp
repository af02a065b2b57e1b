// A packet's way, a file a stage. This is what the main thread sees of a worker.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "config/config.hpp"
#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/tables.hpp"
#include "dataplane/worker/punt.hpp"
#include "dataplane/worker/stage_clock.hpp"

struct rte_ring;
struct rte_mempool;

namespace culvert::dataplane {

/// How far a worker is with what was on its way when the gateway stopped. Written by the worker,
/// read by the main thread.
struct DrainProgress {
  std::atomic<std::uint64_t> iterations{0};  ///< without the ports; release: behind their `packets`
  std::atomic<std::uint64_t> packets{0};     ///< that these iterations took up
};

/// Everything a worker is given. Made before launch, by its own thread, filled in by the main
/// thread, which frees it after it returned.
struct WorkerContext {
  WorkerId id{};
  Tables* tables = nullptr;
  std::unique_ptr<crypto::esp::Engine> engine;  ///< this worker's own
  rte_mempool* pool = nullptr;
  rte_mempool* large_pool = nullptr;  ///< for what fragments become and `pool` has no room for;
                                      ///< nullptr: nothing does
  rte_ring* punt = nullptr;           ///< mbufs to main; single producer, single consumer
  // For what floods of all else may not push out (punt.cpp); nullptr: `punt` takes it.
  rte_ring* punt_links = nullptr;      ///< ARP and neighbour discovery
  rte_ring* punt_peers = nullptr;      ///< IKE of IKE SAs, and what routers say of packets too big
  rte_ring* punt_newcomers = nullptr;  ///< for ike_newcomer
  rte_ring* inject = nullptr;          ///< mbufs from main; single producer, single consumer
  rte_ring* peer_moved = nullptr;      ///< PeerMovedHint elements (rte_ring_elem) to main
  rte_ring* handoff = nullptr;         ///< ESP and fragments from other workers; multi producer
  WorkerContext* const* peers = nullptr;  ///< all workers by id, for hand-off
  int wake_main = -1;  ///< eventfd: written when main has to look at a punt ring; -1: none
  config::IdleMode idle = config::IdleMode::adaptive;
  StageClock* stage_clock = nullptr;  ///< of this worker alone; nullptr: its time is not told apart
  std::atomic<bool> drain{false};     ///< relaxed: polls no port any more, serves all else
  DrainProgress drained;
  std::atomic<bool> stop{false};  ///< relaxed: read once an iteration
};

/// For rte_eal_remote_launch; `context` is a WorkerContext. Returns 0 after `stop`.
int run_worker(void* context);

}  // namespace culvert::dataplane
