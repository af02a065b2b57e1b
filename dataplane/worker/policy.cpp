// Which way a packet goes by policy (RFC 4301 §5.1, §5.2): to us, protected, as it is, or nowhere.
#include <cstring>

#include "dataplane/tables/return_flow.hpp"
#include "dataplane/worker/decapsulate.hpp"
#include "dataplane/worker/sizes.hpp"
#include "dataplane/worker/stages.hpp"
#include "wire/icmp.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

/// Multicast and broadcast are not forwarded (RFC 1812 §5.3.4, RFC 4291 §2.7).
bool is_multicast(const wire::IpAddress& address) {
  return address.is_v4() ? address.bytes[0] >= 224 : address.bytes[0] == 0xff;
}
/// Loopback, unspecified and "this network": of no packet on a wire is it the source (RFC 1122
/// §3.2.1.3, RFC 4291 §2.5.2, §2.5.3) or the destination ("a router SHOULD NOT forward", RFC 1812
/// §5.3.7; of ::1, "must never be forwarded by an IPv6 router", RFC 4291 §2.5.3).
bool is_on_no_wire(const wire::IpAddress& address) {
  if (address.is_v4()) return address.bytes[0] == 127 || address.bytes[0] == 0;
  std::uint8_t high = 0;
  for (std::size_t i = 0; i < 15; ++i) high |= address.bytes[i];
  return high == 0 && address.bytes[15] <= 1;
}

/// "Routers must not forward any packets with Link-Local source or destination addresses to other
/// links" (RFC 4291 §2.5.6); "a router which receives a packet with an IPv4 Link-Local source or
/// destination address MUST NOT forward the packet" (RFC 3927 §2.7).
bool is_for_one_link(const wire::IpAddress& address) {
  if (address.is_v4()) return address.bytes[0] == 169 && address.bytes[1] == 254;
  return address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0U) == 0x80;
}

bool is_ike(const FlowKey& key, std::uint16_t our_port) {
  return key.protocol == wire::protocol::kUdp && key.ports_known &&
         (our_port == wire::udp::kIkePort || our_port == wire::udp::kNatTraversalPort);
}

/// What the main thread hears of ESP on its way: that a packet is too big, or does not get through.
bool is_about_our_packets(const FlowKey& key) {
  if (!key.ports_known) return false;
  const auto type = static_cast<std::uint8_t>(key.destination_port >> 8U);
  if (key.protocol == wire::protocol::kIcmp) return type == wire::icmp::kUnreachable;
  return key.protocol == wire::protocol::kIcmpv6 &&
         (type == wire::icmpv6::kPacketTooBig || type == wire::icmpv6::kUnreachable);
}

CachedFlow dropped(DropReason reason) {
  CachedFlow flow;
  flow.decision = FlowDecision::drop;
  flow.reason = reason;
  return flow;
}

/// Local delivery: refused only by what policy says of it by name, and IKE never is. Nor is what
/// routers say of our ESP for coming in clear: they have no SA with us, and it is believed of an SA
/// when it names that and a number (RFC 4301 §8.2.1).
CachedFlow decide_local(const SpdSnapshot& policies, const FlowKey& key, PacketOrigin origin) {
  const SpdSnapshot::Match match = policies.find(key, origin);
  const bool is_for_ike = is_ike(key, key.destination_port);
  SlotIndex outbound = kNoSlot;
  const Verdict verdict = policies.verdict(match, outbound);
  if (!is_for_ike && verdict == Verdict::discard) return dropped(DropReason::policy_discard);
  if (!is_for_ike && verdict == Verdict::cleartext_violation && !is_about_our_packets(key)) {
    return dropped(DropReason::cleartext_violates_policy);
  }
  CachedFlow flow;
  flow.decision = FlowDecision::local;
  // A fragment is asked again when it is whole; what comes in clear for all that is no packet of
  // the policy that protects.
  if (verdict != Verdict::unclear && verdict != Verdict::cleartext_violation) flow.match = match;
  return flow;
}

/// The long way, once a flow and snapshot: addresses, local delivery, the ordered policies.
CachedFlow decide_flow(const WorkerState& worker, const SpdSnapshot& policies, const FlowKey& key,
                       PacketOrigin origin) {
  if (origin != PacketOrigin::originated) {
    // Multicast is no source either (RFC 1122 §3.2.1.3, RFC 4291 §2.7).
    if (is_on_no_wire(key.source) || is_multicast(key.source)) {
      return dropped(DropReason::source_address_invalid);
    }
    if (is_multicast(key.destination)) return dropped(DropReason::destination_multicast);
    if (is_on_no_wire(key.destination)) return dropped(DropReason::destination_address_invalid);
    const Fib& fib = *worker.tables.fib;
    // A network's own and its broadcast address are no host's (RFC 1812 §5.3.7), and routers "MUST
    // default to blocking receipt and blocking forwarding of network-prefix-directed broadcasts"
    // (RFC 2644 §3).
    const AdjacencyIndex back = fib.lookup(key.source);
    if (back == Adjacencies::kLocal || back == Adjacencies::kBroadcast) {
      return dropped(DropReason::source_address_invalid);
    }
    const AdjacencyIndex on = fib.lookup(key.destination);
    if (on == Adjacencies::kBroadcast) return dropped(DropReason::destination_multicast);
    if (on == Adjacencies::kLocal) {
      return decide_local(policies, key, origin);
    }
    if (is_for_one_link(key.source) || is_for_one_link(key.destination)) {
      return dropped(DropReason::link_local_address);
    }
  }
  CachedFlow flow;
  // Our own IKE passes every policy: it is what makes the SAs (RFC 4301 §4.4.1).
  const bool is_our_ike = origin == PacketOrigin::originated && is_ike(key, key.source_port);
  if (!is_our_ike) flow.match = policies.find(key, origin);
  return flow;
}

CachedFlow look_up(WorkerState& worker, const SpdSnapshot& policies, const std::uint8_t* ip,
                   const wire::IpHeader& header, const wire::Ports& ports, PacketOrigin origin) {
  const std::uint64_t tail = flow_tail(ports, header.protocol, origin);
  const std::uint64_t generation = policies.generation();
  const auto through = [&](auto& cache, const auto& key) {
    auto* const known = cache.find(key);
    if (known != nullptr && known->generation == generation) [[likely]]
      return known->flow;
    const FlowKey flow = flow_key(ip, header, ports);
    // With many shapes of policies a search costs tens of microseconds: a burst of such packets
    // after each change would take milliseconds.
    if (known != nullptr && policies.stays(flow, origin, known->generation, generation)) {
      known->generation = generation;
      return known->flow;
    }
    worker.pace.count_search();
    return *cache.insert(key, generation, decide_flow(worker, policies, flow, origin));
  };
  if ((ip[0] >> 4U) == 4) [[likely]] {
    return through(worker.flows_v4,
                   FlowV4{{wire::load_raw<std::uint64_t>(ip + wire::ipv4::kSource), tail}});
  }
  FlowV6 key;
  std::memcpy(key.words, ip + wire::ipv6::kSource, 32);
  key.words[4] = tail;
  return through(worker.flows_v6, key);
}

CachedFlow look_up(WorkerState& worker, const SpdSnapshot& policies, const Burst& burst,
                   std::uint32_t position) {
  const std::uint8_t* const ip = burst.ip[position];
  const wire::IpHeader& header = burst.header[position];
  const wire::Ports ports = wire::read_ports(wire::Bytes(ip, header.total_bytes), header);
  return look_up(worker, policies, ip, header, ports, burst.origin[position]);
}

/// "When a packet is forwarded, a router MUST decrement the TTL" (RFC 1812 §5.3.1); inside of a
/// tunnel too, once a gateway (RFC 4301 §5.1.2.1). False: it has run out; the main thread tells the
/// sender.
bool may_go_on(WorkerState& worker, Burst& burst, std::uint32_t position) {
  if (burst.origin[position] == PacketOrigin::originated) return true;
  const std::uint8_t* const ip = burst.ip[position];
  const bool is_v4 = (ip[0] >> 4U) == 4;
  const std::uint8_t hops = ip[is_v4 ? wire::ipv4::kTtl : wire::ipv6::kHopLimit];
  if (hops > 1) [[likely]]
    return true;
  punt_ip(worker, burst, position, {.reason = PuntReason::ttl_exceeded});
  return false;
}

void count_hop(Burst& burst, std::uint32_t position) {
  if (burst.origin[position] == PacketOrigin::originated) return;
  std::uint8_t* const ip = burst.ip[position];
  if ((ip[0] >> 4U) == 4) [[likely]] {
    wire::decrement_ttl(ip);
  } else {
    --ip[wire::ipv6::kHopLimit];
  }
}

/// What no policy names: clear transit by default_policy; what was decrypted passed its SA's
/// selectors; what we made answers somebody, but not in clear whoever asked encrypted: it has what
/// he said in it (RFC 4301 §5.1: what matches no policy is discarded).
bool may_pass_unnamed(const SpdSnapshot& policies, const Burst& burst, std::uint32_t position) {
  if (burst.origin[position] == PacketOrigin::clear) {
    return policies.default_policy() == config::PolicyAction::bypass;
  }
  return !burst.is_answer_to_encrypted(position);
}

/// "Prior to performing AH or ESP processing, any IP fragments … are reassembled" (RFC 4301 §5.2):
/// policy looks at what they become, and not when that is ESP.
bool is_asked_when_whole(const wire::IpHeader& header, DropReason reason) {
  return header.is_fragment &&
         (reason == DropReason::policy_discard || reason == DropReason::cleartext_violates_policy);
}

/// Whether the next hop towards an address is on that port's link.
bool is_behind(const WorkerState& worker, PortId port, const wire::IpAddress& address) {
  const Adjacency& next_hop = (*worker.tables.adjacencies)[worker.tables.fib->lookup(address)];
  switch (next_hop.kind.load(std::memory_order_acquire)) {
    case AdjacencyKind::resolved:
    case AdjacencyKind::incomplete:
    case AdjacencyKind::glean:
      return next_hop.port == port;
    case AdjacencyKind::local:
    case AdjacencyKind::broadcast:
    case AdjacencyKind::drop:
      return false;
  }
  return false;
}

/// "an IPsec implementation MUST map the message to the SA that would carry the return traffic
/// associated with the packet that triggered the ICMP error message. […] If no such SA exists, no
/// SA will be created" (RFC 4301 §6.2), and it goes nowhere: it quotes what must not be seen. By
/// the quotation, so that nothing of it is remembered of the error's own flow. False: it is no
/// error about protected traffic, or one in transit about what transport mode protects, whose hosts
/// are the gateways; or it does not come from where the traffic that it is about went to. Out of a
/// tunnel none does: what it quotes is what its peer likes, and would lead it into the tunnels of
/// others.
bool goes_as_return_traffic(WorkerState& worker, const SpdSnapshot& policies, Burst& burst,
                            std::uint32_t position) {
  const wire::IpHeader& header = burst.header[position];
  const PacketOrigin origin = burst.origin[position];
  if (origin == PacketOrigin::tunnel) return false;
  const auto flow = return_flow(wire::Bytes(burst.ip[position], header.total_bytes), header);
  if (!flow) return false;
  const bool is_ours = origin == PacketOrigin::originated;
  if (!is_ours && !is_behind(worker, burst.received_on[position], flow->source)) return false;
  // As if it were ours: which policy protects it, and not what may come in clear.
  const SpdSnapshot::Match match = policies.find(*flow, PacketOrigin::originated);
  SlotIndex outbound = kNoSlot;
  const Verdict verdict = policies.verdict(match, outbound);
  // It may be about protected traffic; that of ours which no policy names would leave in clear.
  if (verdict == Verdict::trap || (is_ours && verdict == Verdict::unclear)) {
    worker.drop(burst.packets[position], direction_of(burst.origin[position]), DropReason::no_sa);
    return true;
  }
  if (verdict != Verdict::protect ||
      (!is_ours && !worker.tables.sad->outbound(outbound)->is_tunnel)) {
    return false;
  }
  if (!may_go_on(worker, burst, position)) return true;
  policies.count(match, worker.context.id, 1);
  burst.outbound[position] = outbound;
  count_hop(burst, position);
  burst.protect.push(position);
  return true;
}

/// Whether an error in clear, which no policy names, is about traffic that one protects: "An ICMP
/// message received on the unprotected side is unauthenticated, and its processing may result in
/// denial or degradation of service" (RFC 4301 §6.1.1), of that traffic. What answers the packet
/// that it quotes must not come in clear; nor may, then, what speaks of it, whoever it is for: a
/// host has addresses of more than one network. One that does not show what it quotes, cut off or
/// in a later fragment, is taken for such: no router cuts an error (RFC 1812 §4.3.2.3, RFC 4443
/// §2.4 c).
bool is_error_about_protected(const SpdSnapshot& policies, const Burst& burst,
                              std::uint32_t position) {
  const wire::IpHeader& header = burst.header[position];
  const wire::Bytes packet(burst.ip[position], header.total_bytes);
  if (burst.origin[position] != PacketOrigin::clear || !wire::begins_as_icmp_error(packet, header))
      [[likely]] {
    return false;
  }
  const auto quoted = wire::read_quoted(packet, header);
  if (!quoted) return true;
  const SpdSnapshot::Match match = policies.find(answer_to(*quoted), PacketOrigin::clear);
  SlotIndex outbound = kNoSlot;
  const Verdict verdict = policies.verdict(match, outbound);
  return verdict == Verdict::cleartext_violation || verdict == Verdict::unclear;
}

std::expected<FragmentPlace, DropReason> fragment_at(const Burst& burst, std::uint32_t position) {
  return place_of({burst.packets[position], burst.ip[position], burst.header[position],
                   burst.origin[position]});
}

/// Whether what a first fragment met is what its later ones are to meet, of which `met` is what
/// they meet by themselves: nothing that they show to be of stands in front of it. They do not
/// follow it into an SA for ports: "If the SA requires a port value other than ANY or OPAQUE, an
/// arriving fragment without ports MUST be discarded" (RFC 4301 §4.4.1.1).
bool speaks_for_later(WorkerState& worker, const SpdSnapshot& policies,
                      const SpdSnapshot::Match& first, const FlowKey& later,
                      const SpdSnapshot::Match& met, PacketOrigin origin) {
  if (met.unclear) worker.pace.count_search();
  const SpdSnapshot::Match shown = met.unclear ? policies.find_shown(later, origin) : met;
  SlotIndex outbound = kNoSlot;
  const Verdict verdict = policies.verdict(first, outbound);
  if (verdict == Verdict::protect || verdict == Verdict::trap) return shown.entry == first.entry;
  if (shown.entry == SpdSnapshot::kNoEntry) return true;
  return first.entry != SpdSnapshot::kNoEntry && !policies.is_before(shown, first);
}

/// Makes what a first fragment met that of today's policies. As with what flow caches remember: a
/// change that its flow does not meet is none, and after any other its policy is searched for
/// again. False: it does not speak for a later one any more.
bool still_speaks(WorkerState& worker, const SpdSnapshot& policies, std::uint64_t generation,
                  const FlowKey& later, const SpdSnapshot::Match& met, PacketOrigin origin,
                  FragmentBypass& first) {
  if (first.generation == generation) [[likely]]
    return true;
  if (!policies.stays(first.flow, origin, first.generation, generation)) {
    worker.pace.count_search();
    first.policy = policies.find(first.flow, origin);
  }
  first.generation = generation;
  return speaks_for_later(worker, policies, first.policy, later, met, origin);
}

/// "All implementations MUST support stateful fragment checking to accommodate BYPASS traffic for
/// which a non-trivial port range is specified" (RFC 4301 §7.4): a later fragment is let pass by
/// the policy that its first one met, or because that one met none. What the fragment meets by
/// itself stands behind, or is unclear without the first, or it would not be remembered. So it is
/// protected by a policy without ports behind one with them. False: another worker knows, and goes
/// on with it.
bool follow_first(WorkerState& worker, const SpdSnapshot& policies, Burst& burst,
                  std::uint32_t position, std::uint64_t generation, CachedFlow& flow) {
  const PacketOrigin origin = burst.origin[position];
  // What is remembered under other policies goes on being told apart.
  const bool has_to = policies.lets_pass_by_first() || worker.bypassed.has_any();
  if (flow.decision != FlowDecision::by_policy || origin == PacketOrigin::originated || !has_to) {
    return true;
  }
  const auto place = fragment_at(burst, position);
  if (!place) return true;
  // All of a packet that came through an SA came to the worker that the SA belongs to.
  if (origin == PacketOrigin::clear &&
      !fragments_meet_here(worker, burst, position, DropDirection::out)) {
    return false;
  }
  if (place->offset == 0) {
    worker.bypassed.forget(*place);
    return true;
  }
  const FlowKey later = flow_key(burst.ip[position], burst.header[position], {0, 0, false});
  const auto policy = worker.bypassed.find(
      *place, worker.reassembler.time_at(burst.tsc), [&](FragmentBypass& first) {
        return still_speaks(worker, policies, generation, later, flow.match, origin, first);
      });
  if (policy) flow.match = *policy;
  return true;
}

/// A first fragment goes on by `policy`, or as what none names. Later ones that meet the same by
/// themselves need not be told; nor those that are of one in front of it, as by OPAQUE ports.
void remember_first(WorkerState& worker, const SpdSnapshot& policies, const Burst& burst,
                    std::uint32_t position, std::uint64_t generation,
                    const SpdSnapshot::Match& policy) {
  const PacketOrigin origin = burst.origin[position];
  if (origin == PacketOrigin::originated || !policies.lets_pass_by_first()) return;
  const auto place = fragment_at(burst, position);
  if (!place || place->offset != 0) return;
  const std::uint8_t* const ip = burst.ip[position];
  const wire::IpHeader& header = burst.header[position];
  // As the later ones will be looked up, or have been: a search for each packet would be too dear.
  wire::IpHeader shown = header;
  shown.protocol = place->next_header;
  const wire::Ports none{0, 0, false};
  const SpdSnapshot::Match met = look_up(worker, policies, ip, shown, none, origin).match;
  if (met.entry == policy.entry && !met.unclear) return;
  if (!speaks_for_later(worker, policies, policy, flow_key(ip, shown, none), met, origin)) return;
  const wire::Ports ports = wire::read_ports(wire::Bytes(ip, header.total_bytes), header);
  worker.bypassed.remember(*place, {flow_key(ip, header, ports), policy, generation},
                           worker.reassembler.time_at(burst.tsc));
}

void decide_one(WorkerState& worker, const SpdSnapshot& policies, Burst& burst,
                std::uint32_t position) {
  const bool is_fragment = burst.header[position].is_fragment;
  // Before the search: what is remembered of its answer goes with a change that it has not seen.
  const std::uint64_t generation = policies.generation();
  // What we make in fragments is IKE, whose ports its later ones do not show either.
  const bool is_of_our_ike = is_fragment && burst.origin[position] == PacketOrigin::originated;
  CachedFlow flow;
  if (!is_of_our_ike) [[likely]]
    flow = look_up(worker, policies, burst, position);
  if (is_fragment && !follow_first(worker, policies, burst, position, generation, flow))
      [[unlikely]] {
    return;
  }
  const auto drop = [&](DropReason reason) {
    worker.drop(burst.packets[position], direction_of(burst.origin[position]), reason);
  };
  if (flow.decision == FlowDecision::drop) [[unlikely]] {
    if (is_asked_when_whole(burst.header[position], flow.reason)) return burst.ours.push(position);
    return drop(flow.reason);
  }
  // Of one for us that came in fragments, when it is whole.
  const bool is_local = flow.decision == FlowDecision::local;
  if (!flow.match.unclear && !(is_local && is_fragment)) [[likely]]
    policies.count(flow.match, worker.context.id, 1);
  if (is_local) [[unlikely]]
    return burst.ours.push(position);
  SlotIndex outbound = kNoSlot;
  switch (policies.verdict(flow.match, outbound)) {
    case Verdict::protect:
      if (!may_go_on(worker, burst, position)) return;
      if (is_fragment) [[unlikely]]
        remember_first(worker, policies, burst, position, generation, flow.match);
      burst.outbound[position] = outbound;
      if (is_tcp_syn(burst.ip[position], burst.header[position])) [[unlikely]]
        clamp_syn(worker, policies, burst, position, outbound);
      learn_flow(worker, burst, position, outbound,
                 policies.counter_of(flow.match, worker.context.id));
      count_hop(burst, position);
      return burst.protect.push(position);
    case Verdict::no_match:
      if (goes_as_return_traffic(worker, policies, burst, position)) [[unlikely]]
        return;
      if (!may_pass_unnamed(policies, burst, position)) {
        return drop(DropReason::no_policy_match);
      }
      if (is_error_about_protected(policies, burst, position)) [[unlikely]]
        return drop(DropReason::cleartext_violates_policy);
      [[fallthrough]];
    case Verdict::bypass:
      if (!may_go_on(worker, burst, position)) return;
      if (is_fragment) [[unlikely]]
        remember_first(worker, policies, burst, position, generation, flow.match);
      if (burst.origin[position] == PacketOrigin::tunnel &&
          is_tcp_syn(burst.ip[position], burst.header[position])) [[unlikely]] {
        clamp_syn(worker, policies, burst, position, kNoSlot);
      }
      learn_flow(worker, burst, position, kNoSlot,
                 policies.counter_of(flow.match, worker.context.id));
      count_hop(burst, position);
      return burst.route.push(position);
    case Verdict::discard:
      return drop(DropReason::policy_discard);
    case Verdict::cleartext_violation:
      return drop(DropReason::cleartext_violates_policy);
    case Verdict::unclear:
      // "If the SA requires a port value other than ANY or OPAQUE, an arriving fragment without
      // ports MUST be discarded" (RFC 4301 §4.4.1.1). What is whole is too short to have any.
      return drop(is_fragment ? DropReason::fragment_unsupported : DropReason::truncated_packet);
    case Verdict::trap:
      // Held as it came: its hop is counted when it goes on.
      if (!may_go_on(worker, burst, position)) return;
      if (is_fragment) [[unlikely]]
        remember_first(worker, policies, burst, position, generation, flow.match);
      return punt_ip(worker, burst, position,
                     {.reason = PuntReason::acquire, .child_id = policies.child_id(flow.match)});
  }
}

}  // namespace

void decide(WorkerState& worker, Burst& burst) {
  const SpdSnapshot& policies = *worker.policies;
  burst.undecided.sort();  // packets of one flow have come here by several ways
  const PacketList undecided = burst.undecided;
  burst.undecided.clear();
  for (const std::uint32_t position : undecided) decide_one(worker, policies, burst, position);
}

}  // namespace culvert::dataplane
