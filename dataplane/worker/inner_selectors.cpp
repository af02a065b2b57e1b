#include "dataplane/worker/inner_selectors.hpp"

#include "dataplane/tables/return_flow.hpp"

namespace culvert::dataplane {
namespace {

bool is_taken(const SaDetails& details, const FlowKey& flow) {
  return selectors_match(details, flow.source, flow.destination, flow.protocol,
                         {flow.source_port, flow.destination_port, flow.ports_known});
}

/// Where later fragments may begin, in bytes: what stands before can hold ports, and the flags of
/// TCP (RFC 1858 §3, which calls it TMIN). A path that cuts packets at 8 bytes does not exist.
constexpr unsigned kLeastFragmentOffset = 16;

/// "Receivers MUST perform a minimum offset check on IPv4 (non-initial) fragments to protect
/// against overlapping fragment attacks when SAs of this type [OPAQUE ports] are employed." (RFC
/// 4301 §7.2). "Because such checks cannot be performed on IPv6", its receivers refuse all overlaps
/// (RFC 8200 §4.5).
bool may_overwrite_ports(const Decapsulated& packet) {
  if (packet.header.has_upper_header || !wire::is_v4(packet.ip)) return false;
  const unsigned offset =
      8U * (wire::load_u16(packet.ip + wire::ipv4::kFragment) & wire::ipv4::kOffsetMask);
  return offset < kLeastFragmentOffset;
}

/// RFC 4301 §6.2 lets the administrator have errors checked where the selectors take them by their
/// header, too: such an error's header decides nothing.
bool is_checked_error(const SaDetails& details, const Decapsulated& packet, wire::Bytes bytes) {
  return details.headers.icmp_errors == config::IcmpErrors::check &&
         wire::begins_as_icmp_error(bytes, packet.header);
}

std::optional<DropReason> reason_to_refuse(const SaDetails& details, const Decapsulated& packet,
                                           wire::Bytes bytes, const FlowKey& flow) {
  if (!is_checked_error(details, packet, bytes) && is_taken(details, flow)) {
    if (details.selects_opaque && may_overwrite_ports(packet)) {
      return DropReason::inner_fragment_offset;
    }
    return std::nullopt;
  }
  // RFC 4301 §6.2: "the receiver MUST process the received message in a special fashion.
  // Specifically, the receiver must extract the header of the triggering packet from the ICMP
  // payload, and reverse fields […] to determine if the packet is consistent with the selectors".
  const auto answer = return_flow(bytes, packet.header);
  if (answer && is_taken(details, *answer)) return std::nullopt;
  return DropReason::inner_selector_mismatch;
}

}  // namespace

std::optional<DropReason> refused_by_any_selectors(const InboundSa& sa, const Decapsulated& packet,
                                                   std::uint64_t tsc) {
  InboundDetails& details = *sa.details;
  const wire::Bytes bytes(packet.ip, packet.header.total_bytes);
  const FlowKey flow = flow_key(packet.ip, packet.header, wire::read_ports(bytes, packet.header));
  const auto refused = reason_to_refuse(details, packet, bytes, flow);
  if (refused == DropReason::inner_selector_mismatch) details.last_refusal.record({flow, tsc});
  return refused;
}

}  // namespace culvert::dataplane
