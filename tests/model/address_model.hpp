// Addresses that are no host's, or not beyond a link: what a router forwards neither from nor to.
#pragma once

#include <algorithm>
#include <vector>

#include "tests/model/ip_model.hpp"

namespace culvert::model {

inline bool is_for_a_group(const wire::IpAddress& address) {
  return address.is_v4() ? address.bytes[0] >= 224 : address.bytes[0] == 0xff;
}
/// RFC 1122 §3.2.1.3; RFC 4291 §2.5.2, §2.5.3: "::" and "::1". "Must never be forwarded by an IPv6
/// router", whether a packet comes from there or goes there; for IPv4, RFC 1812 §5.3.7.
inline bool is_on_no_wire(const wire::IpAddress& address) {
  if (address == parsed("::") || address == parsed("::1")) return true;
  return address.is_v4() && (address.bytes[0] == 127 || address.bytes[0] == 0);
}

/// RFC 1122 §3.2.1.3: "{ <Network-number>, -1 }", and "{ <Network-number>, 0 }" as it once was;
/// RFC 3021: networks of two addresses have none.
inline bool is_broadcast(const std::vector<wire::Prefix>& networks,
                         const wire::IpAddress& address) {
  return std::ranges::any_of(networks, [&](const wire::Prefix& network) {
    return address.is_v4() && network.address.is_v4() && network.length < 31 &&
           (address == network.first() || address == network.last());
  });
}
/// RFC 4291 §2.4, RFC 3927 §2.1.
inline bool is_of_one_link(const wire::IpAddress& address) {
  static const wire::Prefix v4 = wire::Prefix::parse("169.254.0.0/16").value(),
                            v6 = wire::Prefix::parse("fe80::/10").value();
  return (address.is_v4() ? v4 : v6).contains(address);
}

}  // namespace culvert::model
