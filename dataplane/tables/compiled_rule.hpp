// A rule of a policy and a packet as they are compared: addresses as numbers. Pure.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

#include "dataplane/tables/flow_key.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::dataplane {

/// Where a policy stands in the order: by section, then by place in it.
struct PolicyRank {
  std::uint64_t section = 0;
  std::uint64_t place = 0;
  friend constexpr auto operator<=>(const PolicyRank&, const PolicyRank&) = default;
};

/// One pair of selectors of a policy, in one direction.
struct PolicyRule {
  wire::TrafficSelector source, destination;
  PolicyRank rank;
  std::uint32_t entry = 0;     ///< among rules of one rank the lower one is first
  bool reverse = false;        ///< comes behind the same entry's other direction
  bool in_clear_only = false;  ///< only packets that were received unprotected meet it
  /// A later fragment that may be of it goes no further: what is of it must not pass otherwise.
  bool must_be_ruled_out = false;
};

/// A rule as it is compared, addresses as numbers.
template <typename Address>
struct CompiledRule {
  Address source_first, source_last, destination_first, destination_last;
  std::uint16_t source_port_first, source_port_last;  ///< first > last: no port that is known
  std::uint16_t destination_port_first, destination_port_last;
  std::uint8_t source_protocol, destination_protocol;  ///< 0: any
  bool reverse : 1;
  bool in_clear_only : 1;
  bool takes_unknown_ports : 1;
  std::uint32_t entry;
  friend bool operator==(const CompiledRule&, const CompiledRule&) = default;
};

/// A packet as it is compared.
template <typename Address>
struct CompiledFlow {
  Address source, destination;
  std::uint16_t source_port, destination_port;
  std::uint8_t protocol;
  bool ports_known;
};

template <typename Address>
Address number_of(const wire::IpAddress& address) {
  Address number = 0;
  for (std::size_t index = 0; index < sizeof(Address); ++index) {
    number = static_cast<Address>(number << 8U) | address.bytes[index];
  }
  return number;
}

struct PortRange {
  std::uint16_t first, last;
};
inline constexpr PortRange kNoPort{65535, 0};

/// Ports are of a protocol: a selector of any protocol with ports is met by none that is known.
inline PortRange known_ports(const wire::TrafficSelector& selector) {
  if (selector.any_protocol() && !selector.any_port()) return kNoPort;
  return {selector.port_first, selector.port_last};
}
/// A packet whose ports cannot be known (a fragment but the first) meets only selectors that want
/// none, or OPAQUE (RFC 4301 §4.4.1.2, §7).
inline bool takes_unknown_port(const wire::TrafficSelector& selector) {
  return selector.any_port() || selector.opaque_port();
}

template <typename Address>
CompiledRule<Address> compiled(const PolicyRule& rule) {
  const PortRange source = known_ports(rule.source);
  const PortRange destination = known_ports(rule.destination);
  CompiledRule<Address> made{};
  made.source_first = number_of<Address>(rule.source.first);
  made.source_last = number_of<Address>(rule.source.last);
  made.destination_first = number_of<Address>(rule.destination.first);
  made.destination_last = number_of<Address>(rule.destination.last);
  made.source_port_first = source.first;
  made.source_port_last = source.last;
  made.destination_port_first = destination.first;
  made.destination_port_last = destination.last;
  made.source_protocol = rule.source.protocol;
  made.destination_protocol = rule.destination.protocol;
  made.reverse = rule.reverse;
  made.in_clear_only = rule.in_clear_only;
  made.takes_unknown_ports =
      takes_unknown_port(rule.source) && takes_unknown_port(rule.destination);
  made.entry = rule.entry;
  return made;
}

template <typename Address>
CompiledFlow<Address> compiled(const FlowKey& flow) {
  return {number_of<Address>(flow.source),
          number_of<Address>(flow.destination),
          flow.source_port,
          flow.destination_port,
          flow.protocol,
          flow.ports_known};
}

inline bool within(auto value, auto first, auto last) { return first <= value && value <= last; }

/// Whether the rule is about these addresses, and such a packet.
template <typename Address>
bool is_between(const CompiledRule<Address>& rule, const CompiledFlow<Address>& flow,
                bool in_clear) {
  if (rule.in_clear_only && !in_clear) return false;
  return within(flow.source, rule.source_first, rule.source_last) &&
         within(flow.destination, rule.destination_first, rule.destination_last);
}

template <typename Address>
bool is_met(const CompiledRule<Address>& rule, const CompiledFlow<Address>& flow, bool in_clear) {
  const auto is_of = [&](std::uint8_t protocol) {
    return protocol == 0 || protocol == flow.protocol;
  };
  if (!is_between(rule, flow, in_clear) || !is_of(rule.source_protocol) ||
      !is_of(rule.destination_protocol)) {
    return false;
  }
  if (!flow.ports_known) return rule.takes_unknown_ports;
  return within(flow.source_port, rule.source_port_first, rule.source_port_last) &&
         within(flow.destination_port, rule.destination_port_first, rule.destination_port_last);
}

}  // namespace culvert::dataplane
