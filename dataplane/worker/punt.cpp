#include "dataplane/worker/punt.hpp"

#include <rte_mbuf.h>
#include <rte_ring.h>
#include <unistd.h>

#include "dataplane/worker/stages.hpp"
#include "wire/ethernet.hpp"

namespace culvert::dataplane {
namespace {

/// A worker that cannot punt what we made ourselves drops it locally.
DropDirection punt_direction(PacketOrigin origin) {
  switch (origin) {
    case PacketOrigin::clear:
      return DropDirection::out;
    case PacketOrigin::tunnel:
      return DropDirection::in;
    case PacketOrigin::originated:
      return DropDirection::local;
  }
  return DropDirection::out;
}

void wake(int eventfd) {
  if (eventfd < 0) return;
  const std::uint64_t one = 1;
  // A full counter means that the main thread is awake already.
  [[maybe_unused]] const ssize_t written = ::write(eventfd, &one, sizeof(one));
}

/// A packet that fragments became may stand in a large buffer, which all workers have a few of for
/// what they put together. Anybody can have IKE's first message put together, and with less ado any
/// other that goes to the main thread: newcomers hold half of the buffers at most while it is busy,
/// all together three in four.
bool may_hold_its_buffer(const WorkerState& worker, const rte_mbuf* packet, PuntReason reason) {
  const rte_mempool* const large = worker.context.large_pool;
  if (packet->pool != large) [[likely]]
    return true;
  const unsigned int parts_left_free = reason == PuntReason::ike_newcomer ? 2 : 4;
  return rte_mempool_avail_count(large) >= large->size / parts_left_free;
}

void hand_over(WorkerState& worker, rte_mbuf* packet, const PuntedPacket& what,
               DropDirection direction) {
  if (!may_hold_its_buffer(worker, packet, what.reason)) [[unlikely]] {
    worker.drop(packet, direction, DropReason::punt_queue_full);
    return;
  }
  punted(packet) = what;
  // A flood of newcomers fills their ring, not the one of those who have an IKE SA.
  const bool apart =
      what.reason == PuntReason::ike_newcomer && worker.context.punt_newcomers != nullptr;
  rte_ring* const ring = apart ? worker.context.punt_newcomers : worker.context.punt;
  const bool was_empty = rte_ring_empty(ring) == 1;
  if (rte_ring_sp_enqueue(ring, packet) != 0) {
    worker.drop(packet, direction, DropReason::punt_queue_full);
    return;
  }
  if (was_empty) wake(worker.context.wake_main);
}

}  // namespace

PuntedPacket& punted(rte_mbuf* packet) {
  return *static_cast<PuntedPacket*>(rte_mbuf_to_priv(packet));
}
InjectedPacket& injected(rte_mbuf* packet) {
  return *static_cast<InjectedPacket*>(rte_mbuf_to_priv(packet));
}

void punt_ip(WorkerState& worker, Burst& burst, std::uint32_t position, PuntedPacket what) {
  rte_mbuf* const packet = burst.packets[position];
  set_data(packet, burst.ip[position], burst.header[position].total_bytes);
  what.received_on = burst.received_on[position];
  what.from_tunnel =
      burst.origin[position] == PacketOrigin::tunnel || burst.is_answer_to_encrypted(position);
  what.originated = burst.origin[position] == PacketOrigin::originated;
  what.ip_offset = 0;
  hand_over(worker, packet, what, punt_direction(burst.origin[position]));
}

void punt_frame(WorkerState& worker, Burst& burst, std::uint32_t position, PuntReason reason) {
  PuntedPacket what;
  what.reason = reason;
  what.received_on = burst.received_on[position];
  what.ip_offset = wire::ethernet::kHeaderBytes;
  hand_over(worker, burst.packets[position], what, DropDirection::in);
}

void punt_overdue(WorkerState& worker, const Fragment& first) {
  set_data(first.buffer, first.packet, first.header.total_bytes);
  PuntedPacket what;
  what.reason = PuntReason::reassembly_timeout;
  what.received_on = first.received_on;
  what.from_tunnel = first.origin == PacketOrigin::tunnel;
  hand_over(worker, first.buffer, what, DropDirection::local);
}

}  // namespace culvert::dataplane
