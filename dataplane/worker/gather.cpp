// Fragments for us become packets again (RFC 4301 §5.2: "any fragments … reassembled"), and what
// came about beside a burst goes on.
#include <algorithm>
#include <cstring>

#include <rte_cycles.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dataplane/worker/decapsulate.hpp"
#include "dataplane/worker/sizes.hpp"
#include "wire/ethernet.hpp"

namespace culvert::dataplane {
namespace {

/// How often waiting fragments are looked at.
constexpr std::uint64_t kExpiriesPerSecond = 10;

void settle(WorkerState& worker) {
  for (const Reassembler::Ended& ended : worker.reassembler.ended()) {
    if (!ended.is_merged) {
      worker.drop(ended.buffer, DropDirection::local, ended.reason);
    } else {
      worker.give_back(ended.buffer);
    }
  }
  for (const Fragment& first : worker.reassembler.overdue()) punt_overdue(worker, first);
  worker.reassembler.forget_ended();
}

/// Where all fragments between two addresses meet: what is put together of them, or goes on, stays
/// in its order. Identifications differ within a flow, and only first fragments have ports.
std::size_t worker_of_fragments(const std::uint8_t* ip, std::size_t workers) {
  const bool is_v4 = wire::is_v4(ip);
  std::size_t at = is_v4 ? std::size_t{wire::ipv4::kSource} : std::size_t{wire::ipv6::kSource};
  const std::size_t end = at + (is_v4 ? 2 * 4 : 2 * 16);
  std::uint32_t mixed = 0;
  for (; at < end; at += 4) {
    mixed = (mixed ^ wire::load_u32(ip + at)) * 0x85ebca6bU;
    mixed ^= mixed >> 15U;
  }
  return mixed % workers;
}

/// What came through an SA is its peer's. Who takes a configured peer's address for his own has no
/// budget, but displaces only that one's packets in the Reassembler.
bool is_in_budget(WorkerState& worker, const Burst& burst, std::uint32_t position) {
  return burst.origin[position] != PacketOrigin::clear ||
         worker.tables.peers.contains(source_of(burst.ip[position])) ||
         worker.fragment_budget.take(burst.tsc);
}

/// A frame around the packet, as if it had come in one piece.
void write_ethernet(WorkerState& worker, std::uint8_t* frame, PortId port, bool is_v4) {
  const MacAddress& mac = worker.tables.ports[raw(port)].mac;
  std::copy(mac.begin(), mac.end(), frame);
  std::fill_n(frame + mac.size(), mac.size(), std::uint8_t{0});
  wire::store_u16(frame + 2 * mac.size(), is_v4 ? wire::ethernet::kIpv4 : wire::ethernet::kIpv6);
}

/// A buffer for a frame, with room for ESP around its packet; nullptr when there is none.
rte_mbuf* buffer_for(const WorkerState& worker, std::size_t frame_bytes) {
  const std::size_t bytes = RTE_PKTMBUF_HEADROOM + frame_bytes + kMostBehindPacket;
  for (rte_mempool* const pool : {worker.context.pool, worker.context.large_pool}) {
    if (pool != nullptr && bytes <= rte_pktmbuf_data_room_size(pool)) {
      return rte_pktmbuf_alloc(pool);
    }
  }
  return nullptr;
}

/// Large buffers are few, so none of them waits for anybody's fragments: a fragment that is in one
/// has come in fragments itself.
bool may_wait(const WorkerState& worker, const rte_mbuf* packet) {
  return worker.context.large_pool == nullptr || packet->pool != worker.context.large_pool;
}

/// The whole packet in a buffer of its own, counted; nullptr when there is none that holds it. IKE
/// with certificates is larger than a frame, and of its messages RFC 7296 §2 says: implementations
/// "SHOULD be able to send, receive, and process messages that are up to 3000 octets long".
rte_mbuf* write_whole(WorkerState& worker, PortId port) {
  const std::size_t bytes = worker.reassembler.whole_bytes();
  const std::size_t frame_bytes = bytes + wire::ethernet::kHeaderBytes;
  rte_mbuf* const packet = buffer_for(worker, frame_bytes);
  if (packet == nullptr) return nullptr;
  std::uint8_t* const frame = rte_pktmbuf_mtod(packet, std::uint8_t*);
  std::uint8_t* const ip = frame + wire::ethernet::kHeaderBytes;
  const std::size_t merged = worker.reassembler.write(wire::MutableBytes(ip, bytes));
  worker.counters.delivered.add(merged - 1);  // several packets became one
  worker.counters.reassembled.add(1);
  write_ethernet(worker, frame, port, (ip[0] >> 4U) == 4);
  packet->data_len = static_cast<std::uint16_t>(frame_bytes);
  packet->pkt_len = static_cast<std::uint32_t>(frame_bytes);
  return packet;
}

/// Puts a pending packet into a burst. False: it ended.
bool place(WorkerState& worker, Burst& burst, const PendingPacket& item) {
  rte_mbuf* const packet = item.packet;
  const std::uint32_t position = burst.count;
  burst.packets[position] = packet;
  burst.received_on[position] = item.received_on;
  if (item.step == NextStep::classify) {
    ++burst.count;
    return true;
  }
  std::uint8_t* const ip = rte_pktmbuf_mtod(packet, std::uint8_t*);
  const auto header = wire::parse_ip(wire::Bytes(ip, packet->data_len));
  if (!header) {  // we made it: cannot be
    worker.drop(packet, DropDirection::local, DropReason::truncated_packet);
    return false;
  }
  burst.ip[position] = ip;
  burst.header[position] = *header;
  burst.origin[position] = item.origin;
  burst.outbound[position] = item.outbound;
  burst.next_hop[position] = item.next_hop;
  burst.ip_bytes[position] = header->total_bytes;
  ++burst.count;
  switch (item.step) {
    case NextStep::classify:
      break;
    case NextStep::decide:
      burst.undecided.push(position);
      break;
    case NextStep::protect:
      burst.protect.push(position);
      break;
    case NextStep::dummy:
      burst.is_of_dummies = true;
      burst.protect.push(position);
      break;
    case NextStep::send:
      burst.sealed.push(position);
      break;
    case NextStep::route:
      burst.route.push(position);
      break;
  }
  return true;
}

/// Frames and packets begin at different headers, what is sealed must not wait where sealing puts
/// what it does, and a burst's packets are all dummies or none: each of them has bursts of its own.
bool share_a_burst(NextStep one, NextStep other) {
  const auto stands_alone = [](NextStep step) {
    return step == NextStep::classify || step == NextStep::send || step == NextStep::dummy;
  };
  return one == other || (!stands_alone(one) && !stands_alone(other));
}

}  // namespace

// Whichever worker their ports led to: the first has ports, the others have none, and a NIC's hash
// differs.
bool fragments_meet_here(WorkerState& worker, Burst& burst, std::uint32_t position,
                         DropDirection direction) {
  if (worker.tables.workers <= 1 || burst.origin[position] != PacketOrigin::clear) return true;
  rte_mbuf* const packet = burst.packets[position];
  const std::uint8_t* const ip = burst.ip[position];
  // What the main thread gave back has no frame around it any more.
  if (ip == rte_pktmbuf_mtod(packet, const std::uint8_t*)) return true;
  const std::size_t owner = worker_of_fragments(ip, worker.tables.workers);
  if (owner == raw(worker.context.id)) return true;
  PuntedPacket origin;
  origin.received_on = burst.received_on[position];
  punted(packet) = origin;
  rte_ring* const ring = worker.context.peers[owner]->handoff;
  // Anybody can send fragments, and all of his to one worker: they leave half of the ring to ESP,
  // which goes by it to the worker that has its SA. What another worker was preempted while it put
  // it there may count as free.
  const bool may_go = rte_ring_free_count(ring) > rte_ring_get_capacity(ring) / 2;
  if (!may_go || rte_ring_enqueue(ring, packet) != 0) {
    worker.drop(packet, direction, DropReason::handoff_queue_full);
    return false;
  }
  worker.counters.fragments_handed_over.add(1);
  return false;
}

void gather(WorkerState& worker, Burst& burst, std::uint32_t position) {
  const auto drop = [&](DropReason reason) {
    worker.drop(burst.packets[position], DropDirection::local, reason);
  };
  if (!may_wait(worker, burst.packets[position])) return drop(DropReason::reassembly_full);
  if (!fragments_meet_here(worker, burst, position, DropDirection::local)) return;
  if (!is_in_budget(worker, burst, position)) return drop(DropReason::fragments_policed);
  const bool from_clear = burst.origin[position] == PacketOrigin::clear;
  const PortId port = burst.received_on[position];
  const auto outcome =
      worker.reassembler.accept({burst.packets[position], burst.ip[position],
                                 burst.header[position], burst.origin[position], port},
                                burst.tsc);
  if (outcome == Reassembler::Outcome::whole) {
    rte_mbuf* const whole = worker.pending.has_room(1) ? write_whole(worker, port) : nullptr;
    if (whole == nullptr) {
      worker.reassembler.give_up(DropReason::reassembly_full);
    } else {
      if (!from_clear) rte_pktmbuf_adj(whole, wire::ethernet::kHeaderBytes);
      worker.pending.push({.packet = whole,
                           .step = from_clear ? NextStep::classify : NextStep::decide,
                           .origin = burst.origin[position],
                           .received_on = port});
    }
  }
  settle(worker);
}

void serve_pending(WorkerState& worker, Burst& burst, void (*process)(WorkerState&, Burst&)) {
  // None is left for the next iteration: the SA or the next hop that a piece was cut for may be
  // gone then and its index another's (PendingPacket). It comes to an end, for nothing is received
  // here:
  // - What is classified or decided is what fragments became. When it is opened, or is a fragment
  //   itself (twice cut, in IPv6), at least eight bytes of it are gone for good; so those that it
  //   completes are fewer bytes than it and the fragments that waited.
  // - A dummy leaves or ends.
  // - What is protected, sent or routed is a piece of such a packet, or came behind one. It leaves,
  //   ends, or is cut once more, when an MTU has become smaller meanwhile, into smaller ones; or it
  //   waits again, for pieces of one that is. It is never for us.
  // As many bytes as fragments may wait for is a few milliseconds' work, whatever they are.
  while (worker.pending.count() != 0) {
    burst.clear_lists();
    burst.count = 0;
    burst.tsc = rte_rdtsc();
    PendingPacket item = worker.pending.pop();
    const NextStep first = item.step;
    while (true) {
      static_cast<void>(place(worker, burst, item));
      if (worker.pending.count() == 0 || burst.count == kBurstPackets) break;
      if (!share_a_burst(first, worker.pending.front_step())) break;
      item = worker.pending.pop();
    }
    if (first == NextStep::classify) classify(worker, burst);
    process(worker, burst);
  }
  const std::uint64_t now = rte_rdtsc();
  if (now - worker.last_expiry < rte_get_tsc_hz() / kExpiriesPerSecond) return;
  worker.last_expiry = now;
  worker.reassembler.expire(now);
  settle(worker);
}

void drop_pending(WorkerState& worker) {
  while (worker.pending.count() != 0) {
    worker.drop(worker.pending.pop().packet, DropDirection::local, DropReason::shutting_down);
  }
  worker.reassembler.clear(DropReason::shutting_down);
  settle(worker);
}

}  // namespace culvert::dataplane
