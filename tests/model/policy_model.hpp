// The ordered security policy database as RFC 4301 §4.4.1 and §5 tell it: every policy is looked at
// in turn, every pair of selectors in full.
#pragma once

#include <cstring>
#include <optional>
#include <vector>

#include "dataplane/tables/spd.hpp"

namespace culvert::model {

/// Which policy of the list, and which way round.
struct PolicyHit {
  std::size_t index = 0;
  bool reverse = false;
  friend bool operator==(const PolicyHit&, const PolicyHit&) = default;
};

/// Of one family, as numbers; written to be quick without an optimizer too.
[[nodiscard]] inline bool is_less(const wire::IpAddress& a, const wire::IpAddress& b) {
  return std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) < 0;
}

[[nodiscard]] inline bool selector_takes(const wire::TrafficSelector& selector,
                                         const wire::IpAddress& address, std::uint8_t protocol,
                                         std::optional<std::uint16_t> port) {
  if (selector.first.family != address.family) return false;
  if (is_less(address, selector.first) || is_less(selector.last, address)) return false;
  if (selector.protocol != 0 && selector.protocol != protocol) return false;
  const bool wants_any = selector.port_first == 0 && selector.port_last == 65535;
  const bool wants_opaque = selector.port_first == 65535 && selector.port_last == 0;
  if (wants_any) return true;                  // ANY: "matches any value, or OPAQUE"
  if (wants_opaque) return !port.has_value();  // OPAQUE: the field is not available
  return port.has_value() && *port >= selector.port_first && *port <= selector.port_last;
}

[[nodiscard]] inline bool any_pair_takes(const std::vector<wire::TrafficSelector>& sources,
                                         const std::vector<wire::TrafficSelector>& destinations,
                                         const dataplane::FlowKey& flow) {
  const auto known = [&](std::uint16_t port) {
    return flow.ports_known ? std::optional(port) : std::nullopt;
  };
  for (const auto& source : sources) {
    for (const auto& destination : destinations) {
      if (selector_takes(source, flow.source, flow.protocol, known(flow.source_port)) &&
          selector_takes(destination, flow.destination, flow.protocol,
                         known(flow.destination_port))) {
        return true;
      }
    }
  }
  return false;
}

/// The first policy that takes the packet. A protect policy's reverse counts for what came in clear
/// only: what was decrypted, or is ours, has nothing to prove there.
[[nodiscard]] inline std::optional<PolicyHit> first_policy(
    const std::vector<dataplane::PolicyEntry>& policies, const dataplane::FlowKey& flow,
    dataplane::PacketOrigin origin) {
  for (std::size_t index = 0; index < policies.size(); ++index) {
    const dataplane::PolicyEntry& policy = policies[index];
    if (any_pair_takes(policy.local, policy.remote, flow)) return PolicyHit{index, false};
    const bool reverse_counts = policy.action != dataplane::PolicyAction::protect ||
                                origin == dataplane::PacketOrigin::clear;
    if (reverse_counts && any_pair_takes(policy.remote, policy.local, flow)) {
      return PolicyHit{index, true};
    }
  }
  return std::nullopt;
}

}  // namespace culvert::model
