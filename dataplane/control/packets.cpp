#include "dataplane/control/packets.hpp"

#include <algorithm>
#include <cstring>

#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dataplane/worker/encapsulate.hpp"

namespace culvert::dataplane::control {

void ReturnToPool::operator()(rte_mbuf* packet) const { rte_pktmbuf_free(packet); }

wire::MutableBytes bytes_of(const Packet& packet) {
  return {rte_pktmbuf_mtod(packet.get(), std::uint8_t*), rte_pktmbuf_data_len(packet.get())};
}

Packets::Packets(Tables& tables, rte_mempool* pool, rte_ring* inject)
    : tables_(tables), pool_(pool), inject_(inject) {}

Packet Packets::make(wire::Bytes bytes) {
  Packet packet(rte_pktmbuf_alloc(pool_));
  if (!packet || bytes.size() > rte_pktmbuf_tailroom(packet.get())) {
    suppress(DropReason::no_buffer);
    return nullptr;
  }
  const auto length = static_cast<std::uint16_t>(bytes.size());
  std::memcpy(rte_pktmbuf_append(packet.get(), length), bytes.data(), bytes.size());
  tables_.main_counters().originated.add(1);
  return packet;
}

void Packets::transmit(Packet packet, const Link& link) {
  constexpr std::uint16_t kEthernetBytes = 14;
  char* const room = rte_pktmbuf_prepend(packet.get(), kEthernetBytes);
  if (room == nullptr) {
    drop(std::move(packet), DropDirection::out, DropReason::no_headroom);
    return;
  }
  wire::Writer header(bytes_of(packet).first(kEthernetBytes));
  header.bytes(link.destination);
  header.bytes(mac(link.port));
  header.u16(link.ether_type);
  inject(std::move(packet), {InjectKind::transmit, link.port, false});
}

void Packets::originate(Packet packet) {
  inject(std::move(packet), {InjectKind::outbound_local, PortId{0}, false});
}

void Packets::answer_encrypted(Packet packet) {
  inject(std::move(packet), {InjectKind::outbound_local, PortId{0}, true});
}

void Packets::resume(Packet packet, const PuntedPacket& origin) {
  if (origin.originated) {
    if (origin.from_tunnel) return answer_encrypted(std::move(packet));
    return originate(std::move(packet));
  }
  inject(std::move(packet), {InjectKind::outbound_transit, origin.received_on, origin.from_tunnel});
}

void Packets::seal_dummy(Packet packet, SlotIndex outbound, channel::SaId sa) {
  inject(std::move(packet), {InjectKind::dummy, PortId{0}, false, outbound, raw(sa)});
}

std::size_t Packets::most_bytes() const {
  return rte_pktmbuf_data_room_size(pool_) - RTE_PKTMBUF_HEADROOM - kMostBehindPacket;
}

void Packets::inject(Packet packet, const InjectedPacket& how) {
  injected(packet.get()) = how;
  if (rte_ring_sp_enqueue(inject_, packet.get()) != 0) {
    drop(std::move(packet), DropDirection::out, DropReason::tx_queue_full);
    return;
  }
  static_cast<void>(packet.release());  // the worker's now
}

void Packets::deliver(Packet packet) {
  tables_.main_counters().delivered.add(1);
  packet.reset();
}

void Packets::suppress(DropReason reason) {
  tables_.main_counters().originated.add(1);
  tables_.main_counters().drop(DropDirection::local, reason);
}

void Packets::drop(Packet packet, DropDirection direction, DropReason reason) {
  tables_.main_counters().drop(direction, reason);
  packet.reset();
}

}  // namespace culvert::dataplane::control
