#include "dataplane/control/workers.hpp"

#include <algorithm>
#include <array>
#include <new>
#include <thread>

#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dataplane/ports/memory_placement.hpp"
#include "dataplane/ports/memory_remedy.hpp"
#include "dataplane/ports/packet_holders.hpp"
#include "dataplane/worker/punt_ring.hpp"

namespace culvert::dataplane::control {
namespace {

constexpr unsigned int kPeerMovedHints = 256;
constexpr unsigned int kNewcomersAtOnce = 64;
constexpr unsigned int kHintsAtOnce = 64;

/// Rings of one worker: in the memory of its core's NUMA node where that has room, anywhere else.
class RingMaker {
 public:
  RingMaker(std::uint16_t worker, unsigned int lcore)
      : worker_(std::to_string(worker)), node_(static_cast<int>(rte_lcore_to_socket_id(lcore))) {}
  [[nodiscard]] Ring make(const char* name, unsigned int count, unsigned int flags,
                          unsigned int element_bytes = sizeof(void*)) const {
    const std::string full = std::string("culvert_") + name + "_" + worker_;
    const auto on = [&](int node) {
      return rte_ring_create_elem(full.c_str(), element_bytes, count, node, flags);
    };
    rte_ring* const near = on(node_);
    return Ring(near != nullptr ? near : on(static_cast<int>(SOCKET_ID_ANY)));
  }

 private:
  std::string worker_;
  int node_;
};

/// What a worker alone uses, made by its own thread: that writes it first, so it is on the worker's
/// NUMA node, and on no page that another thread's heap has.
struct Furnishing {
  crypto::esp::EngineMaker make_engine;
  std::unique_ptr<WorkerContext> context;  ///< nullptr, or without an engine: no memory

  [[nodiscard]] bool run_on(unsigned int lcore) {
    if (rte_eal_remote_launch(make, this, lcore) != 0) return false;
    rte_eal_wait_lcore(lcore);
    return context != nullptr && context->engine != nullptr;
  }

 private:
  static int make(void* argument) {
    auto& wanted = *static_cast<Furnishing*>(argument);
    try {
      wanted.context = std::make_unique<WorkerContext>();
      wanted.context->engine = wanted.make_engine();
    } catch (const std::bad_alloc&) {  // nobody would catch it on this thread
      wanted.context.reset();
    }
    return 0;
  }
};

/// What every worker has done, at one time.
struct Progress {
  std::vector<std::uint64_t> iterations;
  std::uint64_t packets = 0;

  explicit Progress(std::span<WorkerContext* const> workers) {
    for (const WorkerContext* worker : workers) {
      // Acquire: pairs with the release in drain_iteration.
      iterations.push_back(worker->drained.iterations.load(std::memory_order_acquire));
      packets += worker->drained.packets.load(std::memory_order_relaxed);
    }
  }
  /// Whether every worker has done `more` iterations since then.
  [[nodiscard]] bool is_behind(std::span<WorkerContext* const> workers, std::uint64_t more) const {
    const Progress now(workers);
    for (std::size_t worker = 0; worker < iterations.size(); ++worker) {
      if (now.iterations[worker] < iterations[worker] + more) return false;
    }
    return true;
  }
};

}  // namespace

// 1. Every worker has left its ports: what is on its way gets no more. 2. What it punted is served.
// 3. Every worker goes through all of its rings once, from a beginning to an end: two iterations,
// for one may have been under way. 4. When none found a packet since before 2, none was in a ring
// or in hand then, what was punted has been served, and none has come since: only what was found,
// or served, makes more. Else again from 2.
Drained drain_workers(std::span<WorkerContext* const> workers,
                      const std::function<std::uint64_t()>& serve_punts,
                      std::chrono::nanoseconds patience) {
  constexpr std::uint64_t kOneThatIsWhole = 2;
  constexpr auto kStep = std::chrono::microseconds(50);
  const auto end = std::chrono::steady_clock::now() + patience;
  const auto wait_for = [&](const Progress& from, std::uint64_t more) {
    while (!from.is_behind(workers, more)) {
      if (std::chrono::steady_clock::now() >= end) return false;
      std::this_thread::sleep_for(kStep);
    }
    return true;
  };
  const Progress start(workers);
  // Relaxed: a worker that sees it an iteration later leaves its ports an iteration later.
  for (WorkerContext* worker : workers) worker->drain.store(true, std::memory_order_relaxed);
  Drained drained;
  bool in_time = wait_for(start, 1);
  while (in_time && !drained.is_all) {
    // Before the punts: a packet that serving them injects may be taken, and punted, at once.
    const std::uint64_t before = Progress(workers).packets;
    drained.packets += serve_punts();
    in_time = wait_for(Progress(workers), kOneThatIsWhole);
    drained.is_all = in_time && Progress(workers).packets == before;
  }
  drained.packets += serve_punts();
  drained.packets += Progress(workers).packets - start.packets;
  return drained;
}

void FreeRing::operator()(rte_ring* ring) const { rte_ring_free(ring); }

std::expected<std::unique_ptr<Workers>, std::string> Workers::create(Tables& tables,
                                                                     const Equipment& equipment) {
  std::unique_ptr<Workers> workers(new Workers);
  unsigned int lcore = rte_get_next_lcore(~0U, 1, 0);
  for (std::uint32_t worker = 0; worker < tables.workers; ++worker) {
    if (lcore >= RTE_MAX_LCORE) return std::unexpected(std::string("too few lcores for workers"));
    if (auto done = workers->add_lane(tables, equipment, static_cast<std::uint16_t>(worker), lcore);
        !done) {
      return std::unexpected(done.error());
    }
    lcore = rte_get_next_lcore(lcore, 1, 0);
  }
  for (const Lane& lane : workers->lanes_) workers->peers_.push_back(lane.context.get());
  for (const Lane& lane : workers->lanes_) lane.context->peers = workers->peers_.data();
  return workers;
}

std::expected<void, std::string> Workers::add_lane(Tables& tables, const Equipment& equipment,
                                                   std::uint16_t worker, unsigned int lcore) {
  Lane lane;
  lane.lcore = lcore;
  constexpr unsigned int kOneToOne = RING_F_SP_ENQ | RING_F_SC_DEQ;
  const RingMaker rings(worker, lcore);
  lane.punt = rings.make("punt", ports::kPuntPackets, kOneToOne);
  lane.punt_links = rings.make("links", ports::kLinkPackets, kOneToOne);
  lane.punt_peers = rings.make("peers", ports::kPeerPackets, kOneToOne);
  lane.punt_newcomers = rings.make("newcomers", ports::kNewcomerPackets, kOneToOne);
  lane.inject = rings.make("inject", ports::kInjectPackets, kOneToOne);
  // By itself DPDK has each producer wait until those that began before it have ended, for a whole
  // time slice when one was preempted between; with a relaxed tail, however far behind, none waits
  // for another.
  lane.handoff = rings.make("handoff", ports::kHandoffPackets, RING_F_MP_RTS_ENQ | RING_F_SC_DEQ);
  lane.peer_moved = rings.make("moved", kPeerMovedHints, kOneToOne, sizeof(PeerMovedHint));
  if (!lane.punt || !lane.punt_links || !lane.punt_peers || !lane.punt_newcomers || !lane.inject ||
      !lane.handoff || !lane.peer_moved) {
    return std::unexpected(std::string("no memory for a worker's rings (") +
                           rte_strerror(rte_errno) + "); " + ports::memory_remedy());
  }
  rte_ring_set_prod_htd_max(lane.handoff.get(), rte_ring_get_capacity(lane.handoff.get()));
  Furnishing furnishing{equipment.make_engine, nullptr};
  if (!furnishing.run_on(lcore)) {
    return std::unexpected(std::string("no memory for a worker's crypto library"));
  }
  lane.context = std::move(furnishing.context);
  WorkerContext& context = *lane.context;
  context.id = static_cast<WorkerId>(worker);
  context.tables = &tables;
  context.pool = equipment.pool;
  context.large_pool = equipment.large_pool;
  context.punt = lane.punt.get();
  context.punt_links = lane.punt_links.get();
  context.punt_peers = lane.punt_peers.get();
  context.punt_newcomers = lane.punt_newcomers.get();
  context.inject = lane.inject.get();
  context.peer_moved = lane.peer_moved.get();
  context.handoff = lane.handoff.get();
  context.wake_main = equipment.wake_main;
  context.idle = equipment.idle;
  lanes_.push_back(std::move(lane));
  return {};
}

Workers::~Workers() { stop(); }

std::expected<void, std::string> Workers::start() {
  running_ = true;
  for (const Lane& lane : lanes_) {
    if (const int error = rte_eal_remote_launch(run_worker, lane.context.get(), lane.lcore);
        error != 0) {
      return std::unexpected(std::string("a worker did not start: ") + rte_strerror(-error));
    }
  }
  return {};
}

Drained Workers::drain_rings(const std::function<std::uint64_t()>& serve_punts,
                             std::chrono::nanoseconds patience) {
  if (!running_) return {};
  return drain_workers(peers_, serve_punts, patience);
}

void Workers::stop() {
  if (!running_) return;
  // Relaxed: the worker reads it once an iteration, and waiting for its lcore orders the rest.
  for (const Lane& lane : lanes_) lane.context->stop.store(true, std::memory_order_relaxed);
  for (const Lane& lane : lanes_) rte_eal_wait_lcore(lane.lcore);
  running_ = false;
}

rte_ring* Workers::inject_ring() const { return lanes_.front().inject.get(); }

bool Workers::drain(const std::function<void(rte_mbuf*)>& punt,
                    const std::function<void(const PeerMovedHint&)>& moved) {
  bool more = false;
  std::array<void*, ports::kDrainedAtOnce> packets{};
  std::array<PeerMovedHint, kHintsAtOnce> hints{};
  const auto take = [&](rte_ring* ring, unsigned int most) {
    const Taken taken = take_some(ring, packets.data(), sizeof(void*), most);
    for (unsigned int i = 0; i < taken.count; ++i) punt(static_cast<rte_mbuf*>(packets[i]));
    more = more || taken.is_more;
  };
  for (const Lane& lane : lanes_) {
    take(lane.punt_links.get(), ports::kDrainedAtOnce);
    take(lane.punt_peers.get(), ports::kDrainedAtOnce);
    take(lane.punt.get(), ports::kDrainedAtOnce);
    take(lane.punt_newcomers.get(), kNewcomersAtOnce);
    const Taken taken =
        take_some(lane.peer_moved.get(), hints.data(), sizeof(PeerMovedHint), kHintsAtOnce);
    std::for_each_n(hints.begin(), taken.count, moved);
    more = more || taken.is_more;
  }
  return more;
}

void Workers::empty(const std::function<void(rte_mbuf*)>& left_over) {
  for (const Lane& lane : lanes_) {
    for (rte_ring* ring : {lane.punt.get(), lane.punt_links.get(), lane.punt_peers.get(),
                           lane.punt_newcomers.get(), lane.inject.get(), lane.handoff.get()}) {
      void* packet = nullptr;
      while (rte_ring_dequeue(ring, &packet) == 0) left_over(static_cast<rte_mbuf*>(packet));
    }
  }
}

std::optional<std::uint32_t> Workers::numa_node_of(std::uint32_t worker) const {
  return ports::numa_node_of_lcore(lanes_[worker].lcore);
}

std::string Workers::cores_of(std::uint32_t worker) const {
  const rte_cpuset_t cpus = rte_lcore_cpuset(lanes_[worker].lcore);
  std::string text;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &cpus)) continue;
    if (!text.empty()) text += ',';
    text += std::to_string(cpu);
  }
  return text;
}

}  // namespace culvert::dataplane::control
