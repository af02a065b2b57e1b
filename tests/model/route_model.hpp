// Longest prefix match by looking at every route, bit by bit.
#pragma once

#include <cstring>
#include <map>

#include "dataplane/tables/adjacency.hpp"
#include "wire/ip_address.hpp"

namespace culvert::model {

class RouteModel {
 public:
  void add(const wire::Prefix& prefix, dataplane::AdjacencyIndex to) {
    routes_[{prefix.first(), prefix.length}] = to;
  }
  void remove(const wire::Prefix& prefix) { routes_.erase({prefix.first(), prefix.length}); }
  [[nodiscard]] std::size_t size() const { return routes_.size(); }

  [[nodiscard]] dataplane::AdjacencyIndex lookup(const wire::IpAddress& address) const {
    int longest = -1;
    dataplane::AdjacencyIndex found = dataplane::Adjacencies::kDrop;
    for (const auto& [prefix, to] : routes_) {
      if (prefix.length > longest && is_inside(address, prefix)) {
        longest = prefix.length;
        found = to;
      }
    }
    return found;
  }

 private:
  static bool is_inside(const wire::IpAddress& address, const wire::Prefix& prefix) {
    if (address.family != prefix.address.family) return false;
    // Octet by octet, then bit by bit; by bits alone it was half of its test's time.
    const unsigned octets = prefix.length / 8U;
    if (std::memcmp(address.bytes.data(), prefix.address.bytes.data(), octets) != 0) return false;
    for (unsigned bit = octets * 8; bit < prefix.length; ++bit) {
      const unsigned mask = 0x80U >> (bit % 8U);
      if ((address.bytes[octets] & mask) != (prefix.address.bytes[octets] & mask)) return false;
    }
    return true;
  }

  std::map<wire::Prefix, dataplane::AdjacencyIndex> routes_;
};

}  // namespace culvert::model
