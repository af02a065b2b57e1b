#include "dataplane/control/workers.hpp"

#include <array>

#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

namespace culvert::dataplane::control {
namespace {

// A worker's bursts while the main thread is busy for a millisecond; what does not fit is dropped
// by the worker, counted.
constexpr unsigned int kPuntPackets = 1024;
/// First messages of IKE SAs: more than a few milliseconds' worth is a flood.
constexpr unsigned int kNewcomerPackets = 512;
constexpr unsigned int kInjectPackets = 1024;
constexpr unsigned int kPeerMovedHints = 256;
constexpr unsigned int kHandoffPackets = 2048;
constexpr unsigned int kDrainedAtOnce = 256;
constexpr unsigned int kNewcomersAtOnce = 64;

Ring make_ring(const char* name, std::uint16_t worker, unsigned int count, unsigned int flags) {
  const std::string full = std::string("culvert_") + name + "_" + std::to_string(worker);
  return Ring(rte_ring_create(full.c_str(), count, static_cast<int>(SOCKET_ID_ANY), flags));
}

Ring make_hint_ring(std::uint16_t worker) {
  const std::string name = "culvert_moved_" + std::to_string(worker);
  return Ring(rte_ring_create_elem(name.c_str(), sizeof(PeerMovedHint), kPeerMovedHints,
                                   static_cast<int>(SOCKET_ID_ANY), RING_F_SP_ENQ | RING_F_SC_DEQ));
}

}  // namespace

void FreeRing::operator()(rte_ring* ring) const { rte_ring_free(ring); }

std::expected<std::unique_ptr<Workers>, std::string> Workers::create(Tables& tables,
                                                                     rte_mempool* pool,
                                                                     config::IdleMode idle,
                                                                     int wake_main) {
  std::unique_ptr<Workers> workers(new Workers);
  unsigned int lcore = rte_get_next_lcore(~0U, 1, 0);
  for (std::uint16_t worker = 0; worker < tables.workers; ++worker) {
    if (lcore >= RTE_MAX_LCORE) return std::unexpected(std::string("too few lcores for workers"));
    if (auto done = workers->add_lane(tables, pool, idle, wake_main, worker, lcore); !done) {
      return std::unexpected(done.error());
    }
    lcore = rte_get_next_lcore(lcore, 1, 0);
  }
  for (const Lane& lane : workers->lanes_) workers->peers_.push_back(lane.context.get());
  for (const Lane& lane : workers->lanes_) lane.context->peers = workers->peers_.data();
  return workers;
}

std::expected<void, std::string> Workers::add_lane(Tables& tables, rte_mempool* pool,
                                                   config::IdleMode idle, int wake_main,
                                                   std::uint16_t worker, unsigned int lcore) {
  Lane lane;
  lane.lcore = lcore;
  lane.punt = make_ring("punt", worker, kPuntPackets, RING_F_SP_ENQ | RING_F_SC_DEQ);
  lane.punt_newcomers =
      make_ring("newcomers", worker, kNewcomerPackets, RING_F_SP_ENQ | RING_F_SC_DEQ);
  lane.inject = make_ring("inject", worker, kInjectPackets, RING_F_SP_ENQ | RING_F_SC_DEQ);
  lane.handoff = make_ring("handoff", worker, kHandoffPackets, RING_F_SC_DEQ);
  lane.peer_moved = make_hint_ring(worker);
  if (!lane.punt || !lane.punt_newcomers || !lane.inject || !lane.handoff || !lane.peer_moved) {
    return std::unexpected(std::string("no memory for a worker's rings (") +
                           rte_strerror(rte_errno) + "); raise dataplane.memory_mib");
  }
  lane.context = std::make_unique<WorkerContext>();
  WorkerContext& context = *lane.context;
  context.id = static_cast<WorkerId>(worker);
  context.tables = &tables;
  context.engine = crypto::esp::make_engine();
  context.pool = pool;
  context.punt = lane.punt.get();
  context.punt_newcomers = lane.punt_newcomers.get();
  context.inject = lane.inject.get();
  context.peer_moved = lane.peer_moved.get();
  context.handoff = lane.handoff.get();
  context.wake_main = wake_main;
  context.idle = idle;
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
  std::array<void*, kDrainedAtOnce> packets{};
  const auto take = [&](rte_ring* ring, unsigned int most) {
    unsigned int left = 0;
    const unsigned int count = rte_ring_sc_dequeue_burst(ring, packets.data(), most, &left);
    for (unsigned int i = 0; i < count; ++i) punt(static_cast<rte_mbuf*>(packets[i]));
    more = more || left != 0;
  };
  for (const Lane& lane : lanes_) {
    take(lane.punt.get(), kDrainedAtOnce);
    take(lane.punt_newcomers.get(), kNewcomersAtOnce);
    PeerMovedHint hint;
    while (rte_ring_sc_dequeue_elem(lane.peer_moved.get(), &hint, sizeof(hint)) == 0) moved(hint);
  }
  return more;
}

void Workers::empty(const std::function<void(rte_mbuf*)>& left_over) {
  for (const Lane& lane : lanes_) {
    for (rte_ring* ring :
         {lane.punt.get(), lane.punt_newcomers.get(), lane.inject.get(), lane.handoff.get()}) {
      void* packet = nullptr;
      while (rte_ring_dequeue(ring, &packet) == 0) left_over(static_cast<rte_mbuf*>(packet));
    }
  }
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
