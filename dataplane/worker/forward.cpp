// Route → neighbour → Ethernet header → the port's transmit queue (RFC 1812 §5.2).
#include <cstring>

#include <rte_mbuf.h>

#include "dataplane/worker/decapsulate.hpp"
#include "dataplane/worker/sizes.hpp"
#include "dataplane/worker/stages.hpp"
#include "wire/ethernet.hpp"

namespace culvert::dataplane {
namespace {

/// The packet as it stands at `ip` is what a punt shows the main thread.
void punt_as_is(WorkerState& worker, Burst& burst, std::uint32_t position, PuntedPacket what) {
  burst.header[position].total_bytes = burst.ip_bytes[position];
  punt_ip(worker, burst, position, what);
}

/// What fits a link needs no large buffer, and a device may keep what it has sent for long: the
/// few there are stay with the workers. False: the packet ended.
bool leave_large_buffer(WorkerState& worker, Burst& burst, std::uint32_t position) {
  rte_mbuf* const large = burst.packets[position];
  if (large->pool != worker.context.large_pool) [[likely]]
    return true;
  rte_mbuf* const usual = rte_pktmbuf_alloc(worker.context.pool);
  const std::uint16_t bytes = burst.ip_bytes[position];
  if (usual == nullptr || rte_pktmbuf_tailroom(usual) < bytes) {
    rte_pktmbuf_free(usual);
    worker.drop(large, direction_of(burst.origin[position]), DropReason::no_buffer);
    return false;
  }
  std::uint8_t* const ip = rte_pktmbuf_mtod(usual, std::uint8_t*);
  std::memcpy(ip, burst.ip[position], bytes);
  usual->data_len = bytes;
  usual->pkt_len = bytes;
  burst.packets[position] = usual;
  burst.ip[position] = ip;
  worker.give_back(large);
  return true;
}

/// Puts the prepared header in front and queues the frame.
void emit(WorkerState& worker, Burst& burst, std::uint32_t position, const Adjacency& adjacency) {
  rte_mbuf* const packet = burst.packets[position];
  std::uint8_t* const frame = burst.ip[position] - wire::ethernet::kHeaderBytes;
  if (frame < static_cast<const std::uint8_t*>(packet->buf_addr)) [[unlikely]] {
    worker.drop(packet, direction_of(burst.origin[position]), DropReason::no_headroom);
    return;
  }
  std::memcpy(frame, adjacency.ethernet.data(), wire::ethernet::kHeaderBytes);
  set_data(packet, frame,
           static_cast<std::uint16_t>(burst.ip_bytes[position] + wire::ethernet::kHeaderBytes));
  enqueue(worker, adjacency.port, packet);
}

/// IPv6 is cut by its source only (RFC 8200 §4.5), which for what we made is us.
bool is_cut_here(const Burst& burst, std::uint32_t position) {
  const std::uint8_t* const ip = burst.ip[position];
  return may_be_cut(ip) ||
         ((ip[0] >> 4U) == 6 && burst.origin[position] == PacketOrigin::originated);
}

bool is_too_big(const WorkerState& worker, const Burst& burst, std::uint32_t position,
                AdjacencyIndex next_hop) {
  return burst.ip_bytes[position] > (*worker.tables.adjacencies)[next_hop].mtu();
}

/// What the next hop allows. Pieces that it is cut into, if it is, go on as `like` says.
void send_to(WorkerState& worker, Burst& burst, std::uint32_t position, const PendingPacket& like) {
  const Adjacency& adjacency = (*worker.tables.adjacencies)[like.next_hop];
  // Acquire pairs with the release in Adjacencies::resolve: the header is complete.
  const AdjacencyKind kind = adjacency.kind.load(std::memory_order_acquire);
  switch (kind) {
    case AdjacencyKind::resolved:
    case AdjacencyKind::glean:
    case AdjacencyKind::incomplete:
      if (const std::uint16_t mtu = adjacency.mtu(); burst.ip_bytes[position] > mtu) [[unlikely]] {
        if (is_cut_here(burst, position)) {
          return cut_packet(worker, burst, position, burst.ip_bytes[position], mtu, like);
        }
        return punt_as_is(worker, burst, position,
                          {.reason = PuntReason::packet_too_big, .mtu = mtu});
      }
      if (!leave_large_buffer(worker, burst, position)) [[unlikely]]
        return;
      if (kind == AdjacencyKind::resolved) [[likely]] {
        return emit(worker, burst, position, adjacency);
      }
      return punt_as_is(worker, burst, position,
                        {.reason = PuntReason::resolve_neighbor,
                         .next_hop = adjacency.next_hop,
                         .link = adjacency.port,
                         .policies = worker.policy_generation});
    case AdjacencyKind::drop:
      return punt_as_is(worker, burst, position, {.reason = PuntReason::no_route});
    case AdjacencyKind::broadcast:
      // Silently: "An ICMP error message MUST NOT be sent as the result of receiving … a packet
      // destined to an IP broadcast or IP multicast address" (RFC 1812 §4.3.2.7, RFC 1122 §3.2.2).
      worker.drop(burst.packets[position], direction_of(burst.origin[position]),
                  DropReason::destination_multicast);
      return;
    case AdjacencyKind::local:
      // What we make, or seal, for one of our own addresses has nowhere to go.
      worker.drop(burst.packets[position], direction_of(burst.origin[position]),
                  DropReason::no_route);
      return;
  }
}

}  // namespace

// What comes behind one that was cut goes on behind its pieces, as it is; or, if it is too large as
// well, in pieces of its own.
void forward(WorkerState& worker, Burst& burst) {
  std::uint32_t pending = worker.pending.count();
  const auto send_or_wait = [&](std::uint32_t position, const PendingPacket& like) {
    if (worker.pending.count() != pending && !is_too_big(worker, burst, position, like.next_hop) &&
        wait_for_pieces(worker, burst, position, burst.ip_bytes[position], like)) [[unlikely]] {
      return;
    }
    send_to(worker, burst, position, like);
  };
  for (const std::uint32_t position : burst.sealed) {
    // Sealed by us: it is ours now, whoever's packet is inside. An error about it is nobody's.
    burst.origin[position] = PacketOrigin::originated;
    send_or_wait(position, {.step = NextStep::send,
                            .origin = PacketOrigin::originated,
                            .received_on = burst.received_on[position],
                            .next_hop = burst.next_hop[position]});
  }
  pending = worker.pending.count();
  for (const std::uint32_t position : burst.route) {
    burst.ip_bytes[position] = burst.header[position].total_bytes;
    const std::uint8_t* const ip = burst.ip[position];
    const AdjacencyIndex next_hop =
        (ip[0] >> 4U) == 4
            ? worker.tables.fib->lookup_v4(wire::load_u32(ip + wire::ipv4::kDestination))
            : worker.tables.fib->lookup_v6(ip + wire::ipv6::kDestination);
    send_or_wait(position, {.step = NextStep::route,
                            .origin = burst.origin[position],
                            .received_on = burst.received_on[position],
                            .next_hop = next_hop});
  }
  burst.sealed.clear();
  burst.route.clear();
}

}  // namespace culvert::dataplane
