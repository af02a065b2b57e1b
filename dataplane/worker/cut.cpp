// Packets that do not fit are cut (RFC 791 §3.2, RFC 4301 §8).
#include <algorithm>
#include <cstring>

#include <rte_mbuf.h>

#include "dataplane/worker/fragment.hpp"
#include "dataplane/worker/sizes.hpp"
#include "wire/ethernet.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint32_t kMostFragments = 128;  ///< 64 KiB in pieces of 576
constexpr std::uint16_t kIpv6LeastMtu = 1280;  ///< RFC 8200 §5

/// Whether the packet may be cut once it is sealed: we are the outer packet's source. RFC 4301
/// §8.2.1 of an IPv4 packet without DF: "SHOULD fragment (before or after encryption per its
/// configuration) … SHOULD NOT send a PMTU ICMP message". `df: clear` is that of any packet;
/// `df: set` is for routers, which are to say what they do not pass, and takes nothing away here.
/// Pieces have DF clear all the same: what has it "is not to be internet fragmented under any
/// circumstances" (RFC 791 §2.3), so that some firewalls drop pieces with it; to whoever puts them
/// together it is nothing that one was cut again; and what the path takes is learnt from the SA's
/// packets that fit. In transport mode the header is the packet's own: `df` is of a tunnel's.
bool may_cut_sealed(const OutboundSa& sa, bool may_cut_inside) {
  return may_cut_inside || (sa.is_tunnel && sa.details->headers.df == config::DontFragment::clear);
}

bool may_cut_before(const OutboundSa& sa) {
  // Transport mode is for whole packets (RFC 4303 §3.1.1); later fragments have no ports that
  // selectors could match (RFC 4301 §7).
  return sa.is_tunnel && !sa.details->selects_ports;
}
bool cuts_before(const OutboundSa& sa) {
  return may_cut_before(sa) &&
         sa.details->headers.fragmentation == config::FragmentationOrder::before;
}

/// RFC 2473 §7.1: IPv6 inside is promised 1280 bytes, whatever the tunnel has to do for it.
bool is_promised(const std::uint8_t* ip, const wire::IpHeader& header) {
  return !wire::is_v4(ip) && header.total_bytes <= kIpv6LeastMtu;
}
/// IPv6 is cut by its source alone (RFC 8200 §4.5): what is ours we cut, for no router behind the
/// tunnel may.
bool is_our_v6(const Burst& burst, std::uint32_t position) {
  return !wire::is_v4(burst.ip[position]) && burst.origin[position] == PacketOrigin::originated;
}

/// A sealed packet's identification follows its SA's numbers; another SA to the same peer may have
/// sent the same one, and pieces are told apart by it. RFC 6864 §4.3: "Sources emitting non-atomic
/// datagrams MUST NOT repeat IPv4 ID values within one MDL for a given source address/destination
/// address/protocol tuple."
void name_anew(WorkerState& worker, std::uint8_t* ip) {
  if ((ip[0] >> 4U) != 4) return;
  wire::store_u16(ip + wire::ipv4::kIdentification,
                  static_cast<std::uint16_t>(worker.next_identification()));
  wire::write_ipv4_checksum(ip, std::size_t{ip[0] & 15U} * 4);
}

}  // namespace

void cut_packet(WorkerState& worker, Burst& burst, std::uint32_t position, std::uint16_t bytes,
                std::uint16_t mtu, PendingPacket like) {
  rte_mbuf* const packet = burst.packets[position];
  const DropDirection direction = direction_of(burst.origin[position]);
  const wire::Bytes whole(burst.ip[position], bytes);
  const auto cut = cut_for(whole, mtu, worker.next_identification());
  if (!cut || cut->count > kMostFragments) {
    return worker.drop(packet, direction, DropReason::packet_too_big);
  }
  std::array<rte_mbuf*, kMostFragments> fragments;
  if (!worker.pending.has_room(cut->count) ||
      rte_pktmbuf_alloc_bulk(worker.context.pool, fragments.data(), cut->count) != 0) {
    return worker.drop(packet, direction, DropReason::no_buffer);
  }
  for (std::uint16_t index = 0; index < cut->count; ++index) {
    rte_mbuf* const fragment = fragments[index];
    const wire::MutableBytes room(rte_pktmbuf_mtod(fragment, std::uint8_t*),
                                  rte_pktmbuf_tailroom(fragment));
    const std::size_t most = cut->step + std::max(cut->first_bytes, cut->later_bytes);
    if (room.size() < most) {  // only with an MTU beyond the ports'
      rte_pktmbuf_free_bulk(fragments.data() + index, static_cast<unsigned>(cut->count - index));
      return worker.drop(packet, direction, DropReason::no_headroom);
    }
    const std::size_t length = write_fragment(whole, *cut, index, room);
    fragment->data_len = static_cast<std::uint16_t>(length);
    fragment->pkt_len = static_cast<std::uint32_t>(length);
    like.packet = fragment;
    worker.pending.push(like);
  }
  // One packet became several: each of them ends counted.
  worker.counters.originated.add(std::uint64_t{cut->count} - 1);
  worker.counters.fragments_made.add(cut->count);
  worker.give_back(packet);
}

bool wait_for_pieces(WorkerState& worker, const Burst& burst, std::uint32_t position,
                     std::uint16_t bytes, PendingPacket like) {
  if (!worker.pending.has_room(1)) return false;
  like.packet = burst.packets[position];
  set_data(like.packet, burst.ip[position], bytes);
  worker.pending.push(like);
  return true;
}

bool is_cut_before_seal(const Burst& burst, std::uint32_t position, const OutboundSa& sa) {
  const std::uint8_t* const ip = burst.ip[position];
  if (is_our_v6(burst, position)) {
    return may_cut_before(sa) && !is_promised(ip, burst.header[position]);
  }
  return may_be_cut(ip) && cuts_before(sa);
}

TooBig handle_too_big(WorkerState& worker, Burst& burst, std::uint32_t position,
                      const OutboundSa& sa, const OuterHeader& outer, std::uint16_t mtu) {
  // A piece of it would be no dummy any more. Its maker knows the smaller size by the next one.
  if (burst.is_of_dummies) {
    worker.drop(burst.packets[position], DropDirection::out, DropReason::packet_too_big);
    return TooBig::ended;
  }
  const std::uint8_t* const ip = burst.ip[position];
  const wire::IpHeader& header = burst.header[position];
  const bool is_v6 = (ip[0] >> 4U) == 6;
  const std::uint16_t inside = mtu_inside(sa, outer, header, mtu);
  const std::uint16_t told = is_v6 ? std::max(inside, kIpv6LeastMtu) : inside;
  if (is_cut_before_seal(burst, position, sa)) {
    const std::uint32_t pending = worker.pending.count();
    cut_packet(worker, burst, position, header.total_bytes, told,
               {.step = NextStep::protect,
                .origin = burst.origin[position],
                .received_on = burst.received_on[position],
                .outbound = burst.outbound[position]});
    if (worker.pending.count() != pending) burst.cut_for |= bit_of(burst.outbound[position]);
    return TooBig::ended;
  }
  if (is_promised(ip, header) || may_cut_sealed(sa, is_our_v6(burst, position) || may_be_cut(ip))) {
    return TooBig::cut_after_seal;
  }
  punt_ip(worker, burst, position, {.reason = PuntReason::packet_too_big, .mtu = told});
  return TooBig::ended;
}

void cut_sealed(WorkerState& worker, Burst& burst) {
  PacketList kept;
  std::uint64_t cut_for = 0;
  for (const std::uint32_t position : burst.sealed) {
    const std::uint16_t mtu = worker.oversize.mtu_of(position);
    const std::uint64_t bit = bit_of(burst.outbound[position]);
    const PendingPacket like{.step = NextStep::send,
                             .origin = PacketOrigin::originated,
                             .received_on = burst.received_on[position],
                             .next_hop = burst.next_hop[position]};
    if (mtu == 0) {
      const bool waits = (cut_for & bit) != 0 &&
                         wait_for_pieces(worker, burst, position, burst.ip_bytes[position], like);
      if (!waits) kept.push(position);
      continue;
    }
    cut_for |= bit;
    name_anew(worker, burst.ip[position]);
    cut_packet(worker, burst, position, burst.ip_bytes[position], mtu, like);
  }
  burst.sealed = kept;
  worker.oversize.clear();
}

}  // namespace culvert::dataplane
