// Packets in the main thread's hands: made, held, sent through a worker, delivered or dropped. Each
// ends counted, as a worker's do: received + originated = sent + delivered + dropped.
#pragma once

#include <cstdint>
#include <memory>

#include "channel/messages.hpp"
#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/tables.hpp"
#include "dataplane/worker/punt.hpp"
#include "wire/arp.hpp"
#include "wire/cursor.hpp"

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;

namespace culvert::dataplane::control {

struct ReturnToPool {
  void operator()(rte_mbuf* packet) const;
};
/// One packet; its data starts at the IP header unless said otherwise.
using Packet = std::unique_ptr<rte_mbuf, ReturnToPool>;

/// The packet's bytes. Packets that reach the main thread are in one segment.
[[nodiscard]] wire::MutableBytes bytes_of(const Packet& packet);

inline constexpr std::uint16_t kEtherTypeIpv4 = 0x0800;
inline constexpr std::uint16_t kEtherTypeArp = 0x0806;
inline constexpr std::uint16_t kEtherTypeIpv6 = 0x86dd;

/// Where frames leave: an Ethernet header's variable parts.
struct Link {
  PortId port{};
  wire::MacAddress destination{};
  std::uint16_t ether_type = kEtherTypeIpv4;
};

class Packets {
 public:
  /// `inject`: the ring to the first worker, the one that serves every port: what the main thread
  /// sends is little, and stays in order.
  Packets(Tables& tables, rte_mempool* pool, rte_ring* inject);

  /// A packet of ours holding `bytes`; null, and counted as `no_buffer`, when the pool is empty or
  /// they do not fit a buffer.
  [[nodiscard]] Packet make(wire::Bytes bytes);
  /// Puts the Ethernet header in front and sends.
  void transmit(Packet packet, const Link& link);
  /// Sends an IP packet of ours the way local traffic goes: policy, then route.
  void originate(Packet packet);
  /// The same of what answers a packet that was decrypted: it leaves by a policy that names it, or
  /// not at all.
  void answer_encrypted(Packet packet);
  /// An IP packet that was held, as it came in, meets policy and route again.
  void resume(Packet packet, const PuntedPacket& origin);
  /// An IP packet without contents goes through an outbound SA as a dummy (RFC 4303 §2.6).
  void seal_dummy(Packet packet, SlotIndex outbound, channel::SaId sa);
  /// Bytes of the largest packet that `make` makes and an SA can seal.
  [[nodiscard]] std::size_t most_bytes() const;
  void deliver(Packet packet);
  void drop(Packet packet, DropDirection direction, DropReason reason);
  /// A packet of ours that was due and is not made: as if it had been, and was dropped.
  void suppress(DropReason reason);

  [[nodiscard]] const wire::MacAddress& mac(PortId port) const {
    return tables_.ports[raw(port)].mac;
  }
  /// Whether it is a configured peer's address.
  [[nodiscard]] bool is_peer(const wire::IpAddress& address) const {
    return tables_.peers.contains(address);
  }
  [[nodiscard]] std::uint16_t mtu(PortId port) const { return tables_.ports[raw(port)].mtu; }

 private:
  void inject(Packet packet, const InjectedPacket& how);

  Tables& tables_;
  rte_mempool* pool_;
  rte_ring* inject_;
};

}  // namespace culvert::dataplane::control
