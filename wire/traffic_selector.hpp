// Traffic selectors: which packets an SA or policy is for (RFC 4301 §4.4.1.1, RFC 7296 §3.13.1).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/ip_address.hpp"

namespace culvert::wire {

/// One side's selector: address range, protocol and port range. Ports in host order.
/// ICMP type and code stand in the port fields as RFC 7296 §3.13.1 puts them (type << 8 | code).
/// OPAQUE ports are first = 65535, last = 0 (RFC 7296 §3.13.1). Trivially copyable.
struct TrafficSelector {
  IpAddress first;
  IpAddress last;
  std::uint16_t port_first = 0;
  std::uint16_t port_last = 65535;
  std::uint8_t protocol = 0;  ///< 0: any

  friend constexpr auto operator<=>(const TrafficSelector&, const TrafficSelector&) = default;

  static TrafficSelector of(const Prefix& prefix);
  static TrafficSelector everything(Family family);

  [[nodiscard]] bool any_protocol() const { return protocol == 0; }
  /// Whether the port fields hold ICMP types and codes.
  [[nodiscard]] bool is_icmp() const;
  [[nodiscard]] bool any_port() const { return port_first == 0 && port_last == 65535; }
  [[nodiscard]] bool opaque_port() const { return port_first == 65535 && port_last == 0; }
  [[nodiscard]] bool contains(const IpAddress& address) const;
  /// Whether a packet's side matches. `port` is ignored for protocols that have none.
  [[nodiscard]] bool matches(const IpAddress& address, std::uint8_t packet_protocol,
                             std::uint16_t port) const;
  /// Whether every packet that `inner` matches is matched by this one too.
  [[nodiscard]] bool covers(const TrafficSelector& inner) const;
  [[nodiscard]] bool overlaps(const TrafficSelector& other) const;
  /// The packets both match; nullopt when there are none (RFC 7296 §2.9, narrowing).
  [[nodiscard]] std::optional<TrafficSelector> intersect(const TrafficSelector& other) const;

  /// "10.2.0.0/24", "10.2.0.0/24[tcp/443]", "10.2.0.4-10.2.0.9[udp/5000-6000]", "10.0.0.0/8[icmp]",
  /// "2001:db8::/32[58]" (as swanctl.conf writes them). ICMP by type, and code where one is meant:
  /// "[icmp/8]", "[icmp/3.4]", "[icmpv6/128-129]", and for what a peer may narrow to,
  /// "[icmp/3.1-3.4]".
  static std::optional<TrafficSelector> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
};

/// Every pair intersected, duplicates and covered ones removed; empty when nothing is common.
std::vector<TrafficSelector> narrow(const std::vector<TrafficSelector>& proposed,
                                    const std::vector<TrafficSelector>& configured);
/// Whether every one of `inner` lies in one of `outer`, and there is one.
[[nodiscard]] bool covers(const std::vector<TrafficSelector>& outer,
                          const std::vector<TrafficSelector>& inner);
std::string to_string(const std::vector<TrafficSelector>& selectors);
/// Whether a packet may match both, one by its source and one by its destination: it has one
/// protocol, one ICMP message, and its ports are known or not (RFC 4301 §4.4.1.1). Any addresses of
/// one family will do.
[[nodiscard]] bool may_be_of_one_packet(const TrafficSelector& one, const TrafficSelector& other);

/// IP protocol numbers we name (IANA).
namespace protocol {
inline constexpr std::uint8_t kIcmp = 1, kIpv4 = 4, kTcp = 6, kUdp = 17, kIpv6 = 41, kEsp = 50,
                              kIcmpv6 = 58, kNoNextHeader = 59, kSctp = 132;
/// "tcp" → 6; numbers in decimal pass through; nullopt for what is neither.
std::optional<std::uint8_t> parse(std::string_view name);
std::string to_string(std::uint8_t number);
/// Whether its header has ports, or ICMP's type and code, that selectors may name. Others are
/// selected as a whole, Mobility Headers too (docs/compliance/rfc4301.md).
[[nodiscard]] bool has_ports(std::uint8_t number);
}  // namespace protocol

inline bool TrafficSelector::is_icmp() const {
  return protocol == protocol::kIcmp || protocol == protocol::kIcmpv6;
}

}  // namespace culvert::wire
