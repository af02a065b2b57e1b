// ESP that came before its SA: held, taken up again when the SA is there, or given up.
#include <algorithm>

#include <rte_cycles.h>
#include <rte_mbuf.h>

#include "dataplane/tables/sa.hpp"
#include "dataplane/worker/inbound.hpp"
#include "dataplane/worker/stages.hpp"

namespace culvert::dataplane {
namespace {

enum class Fate : std::uint8_t { waits, has_sa, lost };

Fate fate_of(const WorkerState& worker, const EarlyQueue& queue, std::uint64_t now) {
  const Sad& sad = *worker.tables.sad;
  if (sad.inbound(queue.spi()) != nullptr) return Fate::has_sa;
  const bool is_late = now - queue.since() >= worker.early_patience;
  return is_late || !sad.is_expected(queue.spi()) ? Fate::lost : Fate::waits;
}

/// The queue's packets are the burst's now.
void take_up(WorkerState& worker, const EarlyQueue& queue, Burst& burst, std::uint64_t now) {
  static_assert(EarlyQueue::kCapacity <= kBurstPackets);
  burst.clear_lists();
  burst.count = 0;
  burst.tsc = now;
  for (const EarlyPacket& early : queue.packets()) {
    burst.packets[burst.count] = early.packet;
    burst.received_on[burst.count] = early.received_on;
    ++burst.count;
  }
  worker.early.clear(queue);
}

}  // namespace

bool hold_early(WorkerState& worker, const Burst& burst, std::uint32_t position,
                std::uint32_t spi) {
  // Large buffers are few, and a peer may be early with more packets than there are.
  if (burst.packets[position]->pool == worker.context.large_pool) [[unlikely]]
    return false;
  return worker.early.hold(spi, {burst.packets[position], burst.received_on[position]}, burst.tsc);
}

void serve_early(WorkerState& worker, Burst& burst, void (*process)(WorkerState&, Burst&)) {
  const std::uint64_t now = rte_rdtsc();
  for (const EarlyQueue& queue : worker.early.queues()) {
    if (queue.is_empty()) continue;
    const Fate fate = fate_of(worker, queue, now);
    if (fate == Fate::waits) continue;
    take_up(worker, queue, burst, now);
    if (fate == Fate::has_sa) {
      classify(worker, burst);
      process(worker, burst);
      continue;
    }
    for (std::uint32_t position = 0; position < burst.count; ++position) {
      if (hint_unknown_spi(worker, burst, position)) continue;
      worker.drop(burst.packets[position], DropDirection::in, DropReason::sa_not_found);
    }
  }
}

void drop_early(WorkerState& worker) {
  for (const EarlyQueue& queue : worker.early.queues()) {
    for (const EarlyPacket& early : queue.packets()) {
      worker.drop(early.packet, DropDirection::in, DropReason::shutting_down);
    }
    worker.early.clear(queue);
  }
}

}  // namespace culvert::dataplane
