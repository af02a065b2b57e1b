#include "dataplane/tables/sa.hpp"

#include <algorithm>

namespace culvert::dataplane {
namespace {

/// Whether one side's selectors take an address. Ports that are not known match only selectors that
/// ask for none (RFC 4301 §7.2: OPAQUE, ANY).
bool any_matches(const std::vector<wire::TrafficSelector>& selectors,
                 const wire::IpAddress& address, std::uint8_t protocol, std::uint16_t port,
                 bool port_is_known) {
  return std::ranges::any_of(selectors, [&](const wire::TrafficSelector& selector) {
    if (!port_is_known) {
      return (selector.any_port() || selector.opaque_port()) && selector.contains(address) &&
             (selector.any_protocol() || selector.protocol == protocol);
    }
    return selector.matches(address, protocol, port);
  });
}

}  // namespace

bool selectors_match(const SaDetails& details, const wire::IpAddress& source,
                     const wire::IpAddress& destination, std::uint8_t protocol,
                     const wire::Ports& ports) {
  return any_matches(details.remote, source, protocol, ports.source, ports.known) &&
         any_matches(details.local, destination, protocol, ports.destination, ports.known);
}

SequenceBlock reserve_sequence(OutboundSa& sa, std::uint32_t count, SharedAdd add) {
  // Never beyond the limit, not even for a moment: with ESN, that would cycle the counter.
  std::uint64_t last = sa.sequence.load(std::memory_order_acquire);
  std::uint32_t given = 0;
  do {
    const std::uint64_t limit = sa.sequence_limit.load(std::memory_order_relaxed);
    if (last >= limit) return {};
    given = static_cast<std::uint32_t>(std::min<std::uint64_t>(count, limit - last));
  } while (!add.step(sa.sequence, last, last + given));
  return {last + 1, given};
}

DropReason drop_reason_of(StopCause cause) {
  return cause == StopCause::sequence ? DropReason::sequence_exhausted : DropReason::sa_expired;
}

}  // namespace culvert::dataplane
