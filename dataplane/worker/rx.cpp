// Where packets come from: a port's queue, other workers, the main thread.
#include <algorithm>
#include <bit>
#include <cstddef>

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>
#include <rte_ring.h>

#include "dataplane/worker/stages.hpp"

namespace culvert::dataplane {
namespace {

/// By size: 1, 2, 3-4, 5-8, … 33-64.
std::size_t histogram_cell(std::uint32_t packets) {
  return static_cast<std::size_t>(std::bit_width(packets - 1));
}

/// Of the words of several packets that hold `nb_segs`, or-ed: whether each of them has one.
bool has_one_segment(std::uint64_t rearmed) {
  static_assert(offsetof(rte_mbuf, nb_segs) - offsetof(rte_mbuf, rearm_data) == 4);
  return static_cast<std::uint16_t>(rearmed >> 32U) == 1;
}

/// What is in several buffers is joined, for the stages work on one, or dropped. How many are left.
std::uint32_t join_segments(WorkerState& worker, Burst& burst, std::uint32_t received) {
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < received; ++i) {
    rte_mbuf* const packet = burst.packets[i];
    if (packet->nb_segs != 1 && rte_pktmbuf_linearize(packet) != 0) {
      worker.drop(packet, DropDirection::in, DropReason::multi_segment_unsupported);
      continue;
    }
    burst.packets[kept++] = packet;
  }
  return kept;
}

/// Not before there are packets: most polls of the rings, and of every second port, find none, and
/// the clock costs what some packets' headers do.
void begin(Burst& burst) {
  burst.clear_lists();
  burst.tsc = rte_rdtsc();
}

/// Few at once, of those that the device gives.
[[gnu::cold, gnu::noinline]] std::uint16_t take_few(WorkerState& worker, PortId port,
                                                    std::uint16_t queue, rte_mbuf** frames,
                                                    std::uint16_t most) {
  HeldFrames& held = worker.held[raw(port)];
  if (held.is_empty()) {
    held.fill([&](rte_mbuf** to, std::uint16_t asked) {
      return rte_eth_rx_burst(worker.tables.ports[raw(port)].dpdk_port, queue, to, asked);
    });
  }
  const std::uint16_t taken = held.take(frames, most);
  worker.may_hold |= !held.is_empty();
  return taken;
}

/// RFC 4303 §2.6: a dummy, for the SA that it was made for and no other.
void take_dummy(WorkerState& worker, rte_mbuf* packet, const InjectedPacket& how) {
  const OutboundSa* const sa = worker.tables.sad->outbound(how.outbound);
  // Acquire pairs with the release in Sad::install.
  const bool is_there =
      sa != nullptr && !sa->stopped.load(std::memory_order_acquire) && sa->details->sa_id == how.sa;
  if (!is_there) return worker.drop(packet, DropDirection::out, DropReason::no_sa);
  if (!worker.pending.has_room(1)) {
    return worker.drop(packet, DropDirection::out, DropReason::no_buffer);
  }
  worker.pending.push({.packet = packet,
                       .step = NextStep::dummy,
                       .origin = PacketOrigin::originated,
                       .outbound = how.outbound});
}

}  // namespace

void receive(WorkerState& worker, PortId port, Burst& burst) {
  burst.count = 0;
  const PortInfo& info = worker.tables.ports[raw(port)];
  const auto queue = static_cast<std::uint16_t>(worker.context.id);
  const std::uint16_t most = std::min(worker.burst_packets[raw(port)], worker.pace.most());
  const auto asked =
      static_cast<std::uint16_t>(most / HeldFrames::kLeastAsked * HeldFrames::kLeastAsked);
  const std::uint32_t received =
      asked != 0 && worker.held[raw(port)].is_empty()
          ? rte_eth_rx_burst(info.dpdk_port, queue, burst.packets.data(), asked)
          : take_few(worker, port, queue, burst.packets.data(), most);
  if (received == 0) return;
  begin(burst);
  std::uint64_t bytes = 0, flags = 0, rearmed = 0;
  for (std::uint32_t i = 0; i < received; ++i) {
    const rte_mbuf* const packet = burst.packets[i];
    // The second line, too: outer headers end beyond 64 bytes in IPv6.
    rte_prefetch0(rte_pktmbuf_mtod(packet, const void*));
    rte_prefetch0(rte_pktmbuf_mtod_offset(packet, const void*, 64));
    bytes += packet->pkt_len;
    flags |= packet->ol_flags;
    rearmed |=
        wire::load_raw<std::uint64_t>(reinterpret_cast<const std::uint8_t*>(&packet->rearm_data));
  }
  burst.count = has_one_segment(rearmed) ? received : join_segments(worker, burst, received);
  std::fill_n(burst.received_on.begin(), burst.count, port);
  // A device that took a tag off says so in the packet only: an untagged port must not take it.
  burst.is_from_one_port = !info.shares_device && (flags & RTE_MBUF_F_RX_VLAN_STRIPPED) == 0;
  if (!burst.is_from_one_port) [[unlikely]]
    sort_tagged(worker, port, burst);
  worker.counters.received.add(received);
  worker.counters.received_bytes.add(bytes);
  worker.counters.bursts.add(1);
  worker.counters.burst_sizes[histogram_cell(received)].add(1);
}

void receive_handed_off(WorkerState& worker, Burst& burst) {
  burst.count = 0;
  if (worker.context.handoff == nullptr) return;
  // Ring elements are pointers; DPDK's interface is of void**.
  burst.count = rte_ring_sc_dequeue_burst(worker.context.handoff,
                                          reinterpret_cast<void**>(burst.packets.data()),
                                          worker.pace.most(), nullptr);
  if (burst.count == 0) return;
  begin(burst);
  for (std::uint32_t i = 0; i < burst.count; ++i) {
    burst.received_on[i] = punted(burst.packets[i]).received_on;
  }
}

std::uint32_t receive_injected(WorkerState& worker, Burst& burst) {
  burst.count = 0;
  if (worker.context.inject == nullptr) return 0;
  const std::uint32_t given = rte_ring_sc_dequeue_burst(
      worker.context.inject, reinterpret_cast<void**>(burst.packets.data()), worker.pace.most(),
      nullptr);
  if (given == 0) return 0;
  begin(burst);
  for (std::uint32_t i = 0; i < given; ++i) {
    rte_mbuf* const packet = burst.packets[i];
    const InjectedPacket how = injected(packet);
    if (how.kind == InjectKind::transmit) {
      enqueue(worker, how.port, packet);
      continue;
    }
    if (how.kind == InjectKind::dummy) {
      take_dummy(worker, packet, how);
      continue;
    }
    const wire::Bytes bytes(rte_pktmbuf_mtod(packet, const std::uint8_t*), packet->data_len);
    const auto header = wire::parse_ip(bytes);
    if (!header) {
      worker.drop(packet, DropDirection::local, DropReason::truncated_packet);
      continue;
    }
    const std::uint32_t position = burst.count++;
    burst.packets[position] = packet;
    burst.received_on[position] = how.port;
    burst.ip[position] = rte_pktmbuf_mtod(packet, std::uint8_t*);
    burst.header[position] = *header;
    burst.origin[position] = how.kind == InjectKind::outbound_local ? PacketOrigin::originated
                             : how.from_tunnel                      ? PacketOrigin::tunnel
                                                                    : PacketOrigin::clear;
    if (how.kind == InjectKind::outbound_local && how.from_tunnel) {
      burst.note_answer_to_encrypted(position);
    }
    burst.undecided.push(position);
  }
  return given;
}

}  // namespace culvert::dataplane
