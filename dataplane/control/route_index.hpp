// The longest of many prefixes that an address lies in, for the main thread, which asks on behalf
// of peers: the time it takes does not follow from how many routes there are. Pure; workers have
// the FIB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "wire/ip_address.hpp"

namespace culvert::dataplane::control {

class RouteIndex {
 public:
  RouteIndex() = default;
  /// Without host bits. Of equal ones the first is found.
  explicit RouteIndex(const std::vector<wire::Prefix>& networks);

  /// Its place among the networks; nullopt: the address lies in none.
  [[nodiscard]] std::optional<std::size_t> find(const wire::IpAddress& address) const;

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Entry {
    wire::Prefix network;
    std::uint32_t place = 0;
    std::uint32_t around = kNone;  ///< the smallest entry that contains this one
  };
  /// By first address, shorter ones first: what contains an entry stands before it.
  std::vector<Entry> entries_;
};

}  // namespace culvert::dataplane::control
