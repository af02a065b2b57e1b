// The worker's loop: poll, stages, quiescent report. It alone knows the order of the stages.
#include "dataplane/worker/worker.hpp"

#include <cassert>
#include <memory>

#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <unistd.h>

#include "dataplane/worker/idle.hpp"
#include "dataplane/worker/sizes.hpp"
#include "dataplane/worker/stages.hpp"

namespace culvert::dataplane {
namespace {

/// "within 60 seconds of the reception of the first-arriving fragment" (RFC 8200 §4.5); of IPv4,
/// "It is recommended that the value lie between 60 seconds and 120 seconds" (RFC 1122 §3.3.2). A
/// source that cuts more than 1092 packets of IPv4 a second comes to the identification of one that
/// still waits (RFC 4963), the sooner the longer that waits. No time that is worth waiting is short
/// enough for fast sources, and there are bounds: what waits has at most 64 (Reassembler::kPackets)
/// of the 65 536 identifications, pieces that overlap are dropped, and what is put together of two
/// packets fails the ICV of ESP, or the authentication of IKE.
constexpr std::uint64_t kReassemblySeconds = 60;
/// Fragments of one packet leave their source together.
constexpr std::uint64_t kBypassedSeconds = 2;
/// A response that was lost on its way is asked for again within this time.
constexpr std::uint64_t kEarlyMilliseconds = 1000;

/// Packets at once of known flows and plain SAs, which are sealed and opened one by one. Frame,
/// buffer and what the stages know of a small packet are half a KiB: so many as stay in the
/// first-level cache, for each burst has its price whatever is in it.
std::uint16_t packets_of_a_short_burst() {
  constexpr long kWithRoomForAll = 48L << 10U;
  const long cache_bytes = sysconf(_SC_LEVEL1_DCACHE_SIZE);  // 0: not known
  return cache_bytes >= kWithRoomForAll ? kBurstPackets : kBurstPackets / 2;
}

/// From received to queued for transmission.
void process(WorkerState& worker, Burst& burst) {
  open_plain(worker, burst);
  worker.went_the_short_way = burst.encrypted.size() == 0;
  open_inbound(worker, burst);
  send_known(worker, burst);
  if (burst.is_over()) [[likely]]
    return;
  worker.enter(Stage::lookup);
  decide(worker, burst);
  if (burst.ours.size() != 0) {
    serve_local(worker, burst);
    decide(worker, burst);  // our answers
  }
  worker.went_the_short_way &= burst.protect.size() == 0;
  seal_outbound(worker, burst);
  worker.enter(Stage::forward);
  forward(worker, burst);
}

/// What has come about within a burst, before the next: what was sealed has its number, and what
/// waits may be of a flow.
void serve_behind(WorkerState& worker, Burst& burst) {
  if (worker.pending.count() != 0) [[unlikely]]
    serve_pending(worker, burst, &process);
}

void process_whole(WorkerState& worker, Burst& burst) {
  process(worker, burst);
  serve_behind(worker, burst);
}

/// What the whole iteration goes by: a change that comes meanwhile is the next one's, which takes
/// no more packets than it may search for. First the era: what is learnt in it is not older.
void look_at_tables(WorkerState& worker) {
  worker.era_of_burst = worker.tables.reclaimer->era();
  worker.policies = &worker.tables.spd->snapshot();
  worker.policy_generation = worker.policies->generation();
  worker.pace.see(*worker.policies);
}

/// How many frames a port had.
std::uint32_t serve_port(WorkerState& worker, Burst& burst, std::size_t port) {
  worker.enter(Stage::rx);
  receive(worker, static_cast<PortId>(port), burst);
  const std::uint32_t found = burst.count;
  if (found == 0) return 0;
  worker.enter(Stage::classify);
  classify(worker, burst);
  process(worker, burst);
  worker.pace.end_burst(burst.count);
  worker.burst_packets[port] = worker.went_the_short_way ? worker.short_burst : kBurstPackets;
  serve_behind(worker, burst);
  return found;
}

bool has_queue_of(const WorkerState& worker, std::size_t port) {
  return raw(worker.context.id) < worker.tables.ports[port].queues;
}

std::uint32_t serve_ports(WorkerState& worker, Burst& burst) {
  std::uint32_t found = 0;
  for (std::size_t port = 0; port < worker.tables.ports.size(); ++port) {
    if (has_queue_of(worker, port)) found += serve_port(worker, burst, port);
  }
  return found;
}

/// What a port has given before a reload let another one of its device receive for it: it has no
/// queue any more, and what it holds came before what the other one has. While policies have just
/// changed, one port's. How many frames they had.
std::uint32_t serve_left(WorkerState& worker, Burst& burst) {
  std::uint32_t found = 0;
  bool holds = false;
  for (std::size_t port = 0; port < worker.held.size(); ++port) {
    const HeldFrames& held = worker.held[port];
    const bool may_serve = found == 0 || !worker.pace.is_small();
    if (!held.is_empty() && !has_queue_of(worker, port) && may_serve) {
      found += serve_port(worker, burst, port);
    }
    holds |= !held.is_empty();
  }
  worker.may_hold = holds;
  return found;
}

/// What ports have given already.
std::uint32_t serve_held(WorkerState& worker, Burst& burst) {
  std::uint32_t found = 0;
  for (std::size_t port = 0; port < worker.held.size(); ++port) {
    if (!worker.held[port].is_empty()) found += serve_port(worker, burst, port);
  }
  return found;
}

/// How many packets they had.
std::uint32_t serve_other_workers(WorkerState& worker, Burst& burst) {
  worker.enter(Stage::loop);
  receive_handed_off(worker, burst);
  const std::uint32_t found = burst.count;
  if (found == 0) return 0;
  classify(worker, burst);
  process_whole(worker, burst);
  worker.pace.end_burst(found);
  return found;
}

/// How many packets it had, frames for a port among them.
std::uint32_t serve_main_thread(WorkerState& worker, Burst& burst) {
  worker.enter(Stage::loop);
  const std::uint32_t found = receive_injected(worker, burst);
  if (burst.count == 0) return found;
  const std::uint32_t packets = burst.count;
  process_whole(worker, burst);
  worker.pace.end_burst(packets);
  return found;
}

/// How many packets the rings had.
std::uint32_t serve_rings(WorkerState& worker, Burst& burst) {
  const std::uint32_t found = serve_other_workers(worker, burst);
  return found + serve_main_thread(worker, burst);
}

/// While policies have just changed: from one port only, or one ring, in turns. What may have to
/// be searched for in an iteration is the pace's, however many ports there are.
std::uint32_t serve_one_in_turn(WorkerState& worker, Burst& burst) {
  const std::size_t ports = worker.tables.ports.size();
  for (std::size_t tried = 0; tried < ports + 2; ++tried) {
    const std::size_t turn = worker.turn++ % (ports + 2);
    std::uint32_t found = 0;
    if (turn == ports) {
      found = serve_other_workers(worker, burst);
    } else if (turn == ports + 1) {
      found = serve_main_thread(worker, burst);
    } else if (has_queue_of(worker, turn)) {
      found = serve_port(worker, burst, turn);
    }
    if (found != 0) return found;
  }
  return 0;
}

/// What is behind ports and rings, to its end.
void end_iteration(WorkerState& worker, Burst& burst) {
  worker.enter(Stage::loop);
  if (worker.has_pending()) [[unlikely]]
    serve_pending(worker, burst, &process);
  // A worker is quiescent behind its iteration: what has the index of an SA or of a next hop is not
  // kept beyond.
  assert(worker.pending.count() == 0);
  worker.enter(Stage::tx);
  transmit_all(worker);
  worker.free_given_back();
  worker.enter(Stage::loop);
}

/// The gateway stops: an iteration without the ports, and the main thread is told of it.
bool drain_iteration(WorkerState& worker, Burst& burst) {
  look_at_tables(worker);
  const std::size_t held = worker.early.count();
  if (held != 0) serve_early(worker, burst, &process_whole);
  const std::size_t waits = worker.early.count();
  const std::uint64_t given = serve_held(worker, burst);
  const std::uint64_t found =
      given + serve_rings(worker, burst) + (held > waits ? held - waits : 0);
  end_iteration(worker, burst);
  DrainProgress& progress = worker.context.drained;
  // Relaxed: the only writer.
  progress.packets.store(progress.packets.load(std::memory_order_relaxed) + found,
                         std::memory_order_relaxed);
  // Release: pairs with the acquire in drain_workers, which sees `packets` of these iterations.
  progress.iterations.fetch_add(1, std::memory_order_release);
  return found != 0;
}

/// Like what stands in the device's own queue, they have not come in.
void drop_held(WorkerState& worker) {
  for (HeldFrames& held : worker.held) {
    rte_mbuf* frame = nullptr;
    while (held.take(&frame, 1) != 0) worker.give_back(frame);
  }
}

}  // namespace

void count_iteration(WorkerCounters& counters, std::uint64_t cycles, bool found,
                     std::uint64_t millisecond) {
  if (!found) {
    counters.idle_cycles.add(cycles);
    return;
  }
  counters.busy_cycles.add(cycles);
  if (cycles * 10 < millisecond) [[likely]]
    return;
  for (std::size_t bound = 0; bound < kLongIterations.size(); ++bound) {
    if (cycles * 10 >= kLongIterations[bound] * millisecond) {
      counters.long_iterations[bound].add(1);
    }
  }
}

WorkerState::WorkerState(WorkerContext& given)
    : context(given),
      tables(*given.tables),
      counters(given.tables->counters[raw(given.id)]),
      shared_add(given.tables->workers),
      flows_v4(given.tables->flows_remembered),
      flows_v6(given.tables->flows_remembered),
      known_flows(given.tables->flows_remembered),
      known_flows_v6(given.tables->flows_remembered),
      short_burst(packets_of_a_short_burst()),
      reassembler(kReassemblySeconds * rte_get_tsc_hz()),
      bypassed(kBypassedSeconds * rte_get_tsc_hz()),
      millisecond(rte_get_tsc_hz() / 1000),
      early_patience(kEarlyMilliseconds * millisecond),
      identification_(static_cast<std::uint32_t>(rte_rdtsc()) / given.tables->workers *
                          given.tables->workers +
                      static_cast<std::uint32_t>(given.id)) {
  burst_packets.fill(kBurstPackets);
}

// As rte_pktmbuf_free_bulk, which asks more of each packet than most of them are: one buffer of the
// worker's pool.
void WorkerState::free_given_back() {
  if (ended_count_ == 0) return;
  std::uint32_t whole = 0;
  for (std::uint32_t i = 0; i < ended_count_; ++i) {
    rte_mbuf* const packet = ended_[i];
    if (packet->nb_segs != 1 || packet->pool != context.pool) [[unlikely]] {
      rte_pktmbuf_free(packet);
      continue;
    }
    ended_[whole] = rte_pktmbuf_prefree_seg(packet);  // nullptr: it has another owner yet
    whole += ended_[whole] != nullptr ? 1U : 0U;
  }
  // Objects of a pool are pointers; DPDK's interface is of void**.
  if (whole != 0) {
    rte_mempool_put_bulk(context.pool, reinterpret_cast<void**>(ended_.data()), whole);
  }
  ended_count_ = 0;
}

bool run_iteration(WorkerState& worker, Burst& burst) {
  look_at_tables(worker);
  // First: what was held came before what the ports have.
  if (worker.early.count() != 0) [[unlikely]]
    serve_early(worker, burst, &process_whole);
  std::uint32_t found = 0;
  if (worker.may_hold) [[unlikely]]
    found = serve_left(worker, burst);
  if (!worker.pace.is_small()) [[likely]] {
    // A burst of it before the ports': it was received before what they have now, perhaps of the
    // same SA.
    found += serve_other_workers(worker, burst);
    found += serve_ports(worker, burst);
    found += serve_main_thread(worker, burst);
  } else if (found == 0) {
    found = serve_one_in_turn(worker, burst);
  }
  end_iteration(worker, burst);
  return found != 0;
}

int run_worker(void* context) {
  WorkerContext& given = *static_cast<WorkerContext*>(context);
  const auto worker = std::make_unique<WorkerState>(given);
  const auto burst = std::make_unique<Burst>();
  Reclaimer& reclaimer = *given.tables->reclaimer;
  reclaimer.online(given.id);
  worker->pace = SearchPace(given.tables->spd->snapshot());
  Idler idler(given.idle, given.id, reclaimer);
  std::uint64_t before = rte_rdtsc();
  // Relaxed: a worker that sees it an iteration later stops an iteration later.
  while (!given.stop.load(std::memory_order_relaxed)) {
    const bool drains = given.drain.load(std::memory_order_relaxed);
    const bool found = drains ? drain_iteration(*worker, *burst) : run_iteration(*worker, *burst);
    reclaimer.quiescent(given.id);
    if (found) {
      idler.was_busy();
    } else {
      idler.was_idle();
    }
    const std::uint64_t now = rte_rdtsc();
    count_iteration(worker->counters, now - before, found, worker->millisecond);
    before = now;
  }
  drop_held(*worker);
  drop_pending(*worker);
  drop_early(*worker);
  worker->free_given_back();
  reclaimer.offline(given.id);
  return 0;
}

}  // namespace culvert::dataplane
