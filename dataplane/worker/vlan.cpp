// VLAN tags are taken off where frames come in and put on where they leave: between, each VLAN is a
// port like any other.
#include <rte_mbuf.h>

#include "dataplane/worker/stages.hpp"

namespace culvert::dataplane {
namespace {

/// Tags that the device, or the kernel in front of a packet socket, took off the frame already.
wire::vlan::Ids stripped_tags(const rte_mbuf* packet) {
  wire::vlan::Ids ids;
  if ((packet->ol_flags & RTE_MBUF_F_RX_QINQ_STRIPPED) != 0) ids.add(packet->vlan_tci_outer);
  if ((packet->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) ids.add(packet->vlan_tci);
  return ids;
}

/// The frame's tags, taken off it. nullopt: cut short, or more than any interface has.
std::optional<wire::vlan::Ids> take_tags(rte_mbuf* packet) {
  std::uint8_t* const frame = rte_pktmbuf_mtod(packet, std::uint8_t*);
  const auto tags = wire::vlan::read(wire::Bytes(frame, packet->data_len), stripped_tags(packet));
  if (!tags) return std::nullopt;
  if (tags->bytes != 0) {
    wire::vlan::remove(frame, tags->bytes);
    rte_pktmbuf_adj(packet, static_cast<std::uint16_t>(tags->bytes));
  }
  // Whoever gets the packet next must not find them a second time.
  packet->ol_flags &= ~(RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED | RTE_MBUF_F_RX_QINQ |
                        RTE_MBUF_F_RX_QINQ_STRIPPED);
  return tags->ids;
}

/// The port of these tags on the device of `polled`; kMaxPorts when there is none.
std::size_t port_of(const Tables& tables, PortId polled, const wire::vlan::Ids& ids) {
  const std::uint16_t device = tables.ports[raw(polled)].dpdk_port;
  for (std::size_t port = 0; port < tables.ports.size(); ++port) {
    const PortInfo& info = tables.ports[port];
    if (info.dpdk_port == device && info.vlan == ids && info.is_used) return port;
  }
  return kMaxPorts;
}

}  // namespace

void sort_tagged(WorkerState& worker, PortId polled, Burst& burst) {
  std::uint32_t kept = 0;
  wire::vlan::Ids last;
  std::size_t port = port_of(worker.tables, polled, last);
  for (std::uint32_t position = 0; position < burst.count; ++position) {
    rte_mbuf* const packet = burst.packets[position];
    const std::uint32_t bytes = packet->pkt_len;
    const auto ids = take_tags(packet);
    if (ids && *ids != last) {
      last = *ids;
      port = port_of(worker.tables, polled, last);
    }
    if (!ids || port == kMaxPorts) {
      // A frame too short for any header is the classifier's to name.
      const bool is_short = packet->data_len < wire::ethernet::kHeaderBytes;
      worker.drop(packet, DropDirection::in,
                  is_short ? DropReason::malformed_ethernet : DropReason::unknown_vlan);
      continue;
    }
    burst.packets[kept] = packet;
    burst.received_on[kept] = static_cast<PortId>(port);
    worker.counters.ports[port].received.add(1);
    worker.counters.ports[port].received_bytes.add(bytes);
    ++kept;
  }
  burst.count = kept;
}

bool take_priority_tag(rte_mbuf* packet) {
  const auto ids = take_tags(packet);
  return ids && !ids->any();
}

void add_tags(WorkerState& worker, PortId port) {
  const wire::vlan::Ids& ids = worker.tables.ports[raw(port)].vlan;
  const auto tag_bytes = static_cast<std::uint16_t>(ids.count() * wire::vlan::kTagBytes);
  TransmitQueue& queue = worker.transmit[raw(port)];
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < queue.count; ++i) {
    rte_mbuf* const packet = queue.frames[i];
    char* const room = rte_pktmbuf_prepend(packet, tag_bytes);
    if (room == nullptr) [[unlikely]] {
      queue.bytes -= packet->pkt_len;
      worker.drop(packet, DropDirection::out, DropReason::no_headroom);
      continue;
    }
    wire::vlan::insert(reinterpret_cast<std::uint8_t*>(room), ids);
    queue.bytes += tag_bytes;
    queue.frames[kept++] = packet;
  }
  queue.count = kept;
}

}  // namespace culvert::dataplane
