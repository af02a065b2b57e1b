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
  bool unclear = false;  ///< the packet may be of it, and does not show it
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

/// How much a packet says of its protocol: in IPv6 a later fragment may name an extension header in
/// its place (RFC 8200 §4.5), and whoever forges one writes what he likes, for only the first one's
/// counts there.
enum class Protocol : std::uint8_t { shown, hidden, unbelieved };

[[nodiscard]] inline Protocol protocol_of(const dataplane::FlowKey& flow, bool must_be_proven) {
  if (flow.ports_known || flow.source.is_v4()) return Protocol::shown;
  if (must_be_proven) return Protocol::unbelieved;
  const bool is_extension =
      flow.protocol == 0 || flow.protocol == 43 || flow.protocol == 44 || flow.protocol == 60;
  return is_extension ? Protocol::hidden : Protocol::shown;
}

/// Whether the packet, which does not show its ports, could have such that the pair takes it.
[[nodiscard]] inline bool pair_may_take(const wire::TrafficSelector& source,
                                        const wire::TrafficSelector& destination,
                                        const dataplane::FlowKey& flow, Protocol seen) {
  const auto any_port = [](const wire::TrafficSelector& selector) {
    return selector.port_first == 0 && selector.port_last == 65535;
  };
  const auto opaque = [](const wire::TrafficSelector& selector) {
    return selector.port_first == 65535 && selector.port_last == 0;
  };
  wire::TrafficSelector from = source, to = destination;
  const bool one_hidden = opaque(from) || opaque(to);
  for (wire::TrafficSelector* const side : {&from, &to}) {
    const bool asks = !any_port(*side) && !opaque(*side);
    // Ports are a protocol's; a packet has both of them or none.
    if (asks && (side->protocol == 0 || one_hidden)) return false;
    side->port_first = 0;
    side->port_last = 65535;
  }
  if (seen == Protocol::shown) {
    return selector_takes(from, flow.source, flow.protocol, std::nullopt) &&
           selector_takes(to, flow.destination, flow.protocol, std::nullopt);
  }
  // Whose protocol is not known: it could be the one that both ask for.
  if (from.protocol != 0 && to.protocol != 0 && from.protocol != to.protocol) return false;
  if (from.protocol == 0 && to.protocol == 0) return false;
  from.protocol = to.protocol = 0;
  return selector_takes(from, flow.source, 0, std::nullopt) &&
         selector_takes(to, flow.destination, 0, std::nullopt);
}

/// RFC 4301 §4.4.1.1: "If the SA requires a port value other than ANY or OPAQUE, an arriving
/// fragment without ports MUST be discarded." So with what is to be discarded itself; §7.4 has
/// bypass follow the first fragment.
[[nodiscard]] inline bool any_pair_may_take(const std::vector<wire::TrafficSelector>& sources,
                                            const std::vector<wire::TrafficSelector>& destinations,
                                            const dataplane::FlowKey& flow, bool must_be_proven) {
  if (flow.ports_known) return false;
  const Protocol seen = protocol_of(flow, must_be_proven);
  for (const auto& source : sources) {
    for (const auto& destination : destinations) {
      if (pair_may_take(source, destination, flow, seen)) return true;
    }
  }
  return false;
}

/// The first policy that takes the packet, or that must be sure that it is not for it. A protect
/// policy's reverse counts for what came in clear only: what was decrypted, or is ours, has nothing
/// to prove there. `shown_only`: what a packet does not show stops it nowhere.
[[nodiscard]] inline std::optional<PolicyHit> first_policy(
    const std::vector<dataplane::PolicyEntry>& policies, const dataplane::FlowKey& flow,
    dataplane::PacketOrigin origin, bool shown_only = false) {
  for (std::size_t index = 0; index < policies.size(); ++index) {
    const dataplane::PolicyEntry& policy = policies[index];
    const bool protects = policy.action == dataplane::PolicyAction::protect;
    const bool stops = policy.action != dataplane::PolicyAction::bypass && !shown_only;
    if (any_pair_takes(policy.local, policy.remote, flow)) return PolicyHit{index, false};
    if (stops && any_pair_may_take(policy.local, policy.remote, flow, false)) {
      return PolicyHit{index, false, true};
    }
    if (protects && origin != dataplane::PacketOrigin::clear) continue;
    if (any_pair_takes(policy.remote, policy.local, flow)) return PolicyHit{index, true};
    if (stops && any_pair_may_take(policy.remote, policy.local, flow, protects)) {
      return PolicyHit{index, true, true};
    }
  }
  return std::nullopt;
}

}  // namespace culvert::model
