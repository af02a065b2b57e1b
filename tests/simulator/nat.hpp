// A NAT between gateways of a World: who is behind it has other addresses outside.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>

#include "tests/simulator/world.hpp"

namespace culvert::simulation {

/// Address and port translation in front of some gateways.
class Nat {
 public:
  /// From inside: another source. From outside: whom it is for; false where nobody has sent.
  bool translate(Flying& datagram, bool from_inside) {
    if (!from_inside) {
      const auto known = inside_.find(datagram.remote.port);
      if (known != inside_.end()) datagram.remote = known->second;
      return known != inside_.end();
    }
    auto known = std::ranges::find_if(
        inside_, [&](const auto& entry) { return entry.second == datagram.local; });
    if (known == inside_.end()) known = inside_.emplace(next_port_++, datagram.local).first;
    datagram.local = {outside_, known->first};
    return true;
  }
  void forget() { inside_.clear(); }
  [[nodiscard]] const wire::IpAddress& outside() const { return outside_; }
  [[nodiscard]] bool is_open(const wire::Endpoint& outside) const {
    return outside.address == outside_ && inside_.contains(outside.port);
  }

 private:
  wire::IpAddress outside_ = *wire::IpAddress::parse("198.51.100.7");
  std::map<std::uint16_t, wire::Endpoint> inside_;  ///< by the port outside
  std::uint16_t next_port_ = 40000;
};

}  // namespace culvert::simulation
