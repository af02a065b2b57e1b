#include "dataplane/worker/punt.hpp"

#include <rte_mbuf.h>
#include <rte_ring.h>
#include <unistd.h>

#include "dataplane/worker/decapsulate.hpp"
#include "dataplane/worker/punt_ring.hpp"
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

constexpr unsigned int kPartKeptForTooBig = 8;

/// The way of a packet to the main thread, and how many of the ring's places it may not take.
struct RingWay {
  rte_ring* ring;
  unsigned int left_to_others = 0;
};

/// Anybody can have the main thread shown packets, as fast as the line takes them: to a closed
/// port, without a route or with a TTL that is over. The neighbours and the keys of all tunnels
/// depend on some few others, which go by rings of their own. Who begins an IKE SA, names one that
/// he saw on the way or quotes one of our packets may be anybody: half of the places are for the
/// addresses of configured peers alone.
RingWay way_of(const WorkerState& worker, const rte_mbuf* packet, const PuntedPacket& what) {
  const WorkerContext& context = worker.context;
  const auto apart = [&](rte_ring* ring) { return ring != nullptr ? ring : context.punt; };
  const auto half_of = [&](rte_ring* ring) {
    return RingWay{apart(ring), ring != nullptr ? rte_ring_get_capacity(ring) / 2 : 0};
  };
  const auto ike_way = [&](rte_ring* ring) {
    const auto* const ip = rte_pktmbuf_mtod_offset(packet, const std::uint8_t*, what.ip_offset);
    return worker.tables.peers.contains(source_of(ip)) ? RingWay{apart(ring)} : half_of(ring);
  };
  // Nothing of size crosses a tunnel without "too big": a place for it is there.
  const RingWay common{context.punt, rte_ring_get_capacity(context.punt) / kPartKeptForTooBig};
  switch (what.reason) {
    case PuntReason::arp:
    case PuntReason::neighbor_discovery:
      return {apart(context.punt_links)};
    case PuntReason::ike:
    case PuntReason::ike_nat_traversal:
      return ike_way(context.punt_peers);
    case PuntReason::path_too_big:
      return half_of(context.punt_peers);
    case PuntReason::ike_newcomer:
      return ike_way(context.punt_newcomers);
    case PuntReason::packet_too_big:
      return {context.punt};
    case PuntReason::resolve_neighbor:
    case PuntReason::acquire:
    case PuntReason::ttl_exceeded:
    case PuntReason::no_route:
    case PuntReason::port_unreachable:
    case PuntReason::reassembly_timeout:
    case PuntReason::policy_discarded:
    case PuntReason::path_unreachable:
    case PuntReason::unknown_spi:
      return common;
  }
  return common;
}

void hand_over(WorkerState& worker, rte_mbuf* packet, const PuntedPacket& what,
               DropDirection direction) {
  if (!may_hold_its_buffer(worker, packet, what.reason)) [[unlikely]] {
    worker.drop(packet, direction, DropReason::punt_queue_full);
    return;
  }
  punted(packet) = what;
  const auto [ring, left_to_others] = way_of(worker, packet, what);
  // The main thread only takes: what is free now stays so.
  if (rte_ring_free_count(ring) <= left_to_others || rte_ring_sp_enqueue(ring, packet) != 0) {
    worker.drop(packet, direction, DropReason::punt_queue_full);
    return;
  }
  if (has_to_wake(ring)) wake(worker.context.wake_main);
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
