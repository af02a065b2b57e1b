// TCP's announced segment size, lowered to what fits a tunnel. Where ICMP is lost on the way to the
// sender, this is what lets TCP pass (RFC 2923 §2.1).
#include <algorithm>
#include <optional>
#include <utility>

#include "dataplane/worker/decapsulate.hpp"
#include "dataplane/worker/sizes.hpp"
#include "wire/tcp.hpp"

namespace culvert::dataplane {
namespace {

constexpr std::uint16_t kLeastMss = 88;  ///< nothing honest is smaller; keeps the subtraction sane

/// The largest segment through an SA; nullopt when it does not clamp.
std::optional<std::uint16_t> segment_through(const WorkerState& worker, SlotIndex slot,
                                             const std::uint8_t* ip, const wire::IpHeader& header) {
  const OutboundSa* const sa = worker.tables.sad->outbound(slot);
  // Acquire pairs with the release in Sad::install.
  if (sa == nullptr || sa->stopped.load(std::memory_order_acquire)) return std::nullopt;
  if (!sa->details->headers.mss_clamp) return std::nullopt;
  const OuterHeader& outer = sa->outer();
  const AdjacencyIndex next_hop =
      worker.tables.fib->lookup(destination_of(sa->is_tunnel ? outer.bytes.data() : ip));
  const std::uint16_t path = path_mtu_of(*sa, (*worker.tables.adjacencies)[next_hop]);
  const std::size_t inside = mtu_inside(*sa, outer, header, path);
  const std::size_t headers = header.payload_offset + wire::tcp::kHeaderBytes;
  if (inside < headers + kLeastMss) return std::nullopt;
  return static_cast<std::uint16_t>(inside - headers);
}

/// The SA of the flow's other direction.
SlotIndex way_back(const SpdSnapshot& policies, const std::uint8_t* ip,
                   const wire::IpHeader& header) {
  const wire::Ports ports = wire::read_ports(wire::Bytes(ip, header.total_bytes), header);
  FlowKey back = flow_key(ip, header, ports);
  std::swap(back.source, back.destination);
  std::swap(back.source_port, back.destination_port);
  SlotIndex outbound = kNoSlot;
  const Verdict verdict = policies.verdict(policies.find(back, PacketOrigin::originated), outbound);
  return verdict == Verdict::protect ? outbound : kNoSlot;
}

}  // namespace

void clamp_syn(WorkerState& worker, const SpdSnapshot& policies, const Burst& burst,
               std::uint32_t position, SlotIndex outbound) {
  std::uint8_t* const ip = burst.ip[position];
  const wire::IpHeader& header = burst.header[position];
  std::optional<std::uint16_t> most;
  if (outbound != kNoSlot) most = segment_through(worker, outbound, ip, header);
  // Out of one tunnel, perhaps into another: the narrower of both.
  if (burst.origin[position] == PacketOrigin::tunnel) {
    const SlotIndex back = way_back(policies, ip, header);
    const auto other = back == kNoSlot ? std::nullopt : segment_through(worker, back, ip, header);
    if (other) most = std::min(*other, most.value_or(*other));
  }
  if (!most) return;
  const wire::MutableBytes segment(ip + header.payload_offset, header.payload_bytes());
  if (wire::tcp::clamp_mss(segment, *most)) worker.counters.mss_clamped.add(1);
}

}  // namespace culvert::dataplane
