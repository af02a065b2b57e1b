// What the general stages decided of a flow, remembered for the short way (known_flows.hpp).
#include "dataplane/worker/decapsulate.hpp"
#include "dataplane/worker/encapsulate.hpp"
#include "dataplane/worker/sizes.hpp"
#include "dataplane/worker/stages.hpp"
#include "wire/tcp.hpp"

namespace culvert::dataplane {
namespace {

template <typename Family>
void learn(WorkerState& worker, const Burst& burst, std::uint32_t position, SlotIndex outbound,
           Counter* policy) {
  const wire::IpHeader header = burst.header[position];
  const PacketOrigin origin = burst.origin[position];
  const wire::PortsAt ports_at = wire::kPortsOfProtocol[header.protocol];
  // What has options or extension headers begins farther behind.
  const bool can_be_known = header.payload_offset == Family::kHeaderBytes && !header.is_fragment &&
                            may_be_known(ports_at) &&
                            header.total_bytes >= Family::kLeastKnownBytes &&
                            origin != PacketOrigin::originated;
  if (!can_be_known) return;
  const std::uint8_t* const ip = burst.ip[position];
  const std::uint8_t* leaving = ip;
  KnownFlowOf<typename Family::Key> flow;
  flow.key = Family::flow_key(ip, origin, header.protocol, ports_at);
  flow.era = worker.era_of_burst;
  flow.policy = policy != nullptr ? policy : &worker.unnamed;
  if (outbound != kNoSlot) {
    flow.sa = worker.tables.sad->outbound(outbound);
    // Acquire pairs with the release in Sad::install.
    if (flow.sa == nullptr || flow.sa->stopped.load(std::memory_order_acquire)) return;
    if (!flow.sa->is_plain) return;
    leaving = flow.sa->outer().bytes.data();
  }
  const AdjacencyIndex next_hop = worker.tables.fib->lookup(destination_of(leaving));
  flow.next_hop = &(*worker.tables.adjacencies)[next_hop];
  // Acquire pairs with the release in Adjacencies::add_neighbor: the kind before what it is of.
  if (flow.next_hop->kind.load(std::memory_order_acquire) == AdjacencyKind::drop) return;
  flow.port = flow.next_hop->port;
  // A SYN may announce less than it says (clamp_syn).
  flow.general_flags = header.protocol == wire::protocol::kTcp ? wire::tcp::kSyn : 0;
  const std::uint16_t mtu =
      flow.sa == nullptr ? flow.next_hop->mtu() : path_mtu_of(*flow.sa, *flow.next_hop);
  flow.max_bytes = flow.sa == nullptr ? mtu : mtu_inside(*flow.sa, flow.sa->outer(), header, mtu);
  worker.flows_of<Family>().learn(flow);
}

}  // namespace

void learn_flow(WorkerState& worker, const Burst& burst, std::uint32_t position, SlotIndex outbound,
                Counter* policy) {
  if (wire::is_v4(burst.ip[position])) {
    learn<Ipv4>(worker, burst, position, outbound, policy);
  } else {
    learn<Ipv6>(worker, burst, position, outbound, policy);
  }
}

}  // namespace culvert::dataplane
