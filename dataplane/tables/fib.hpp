// Destination → adjacency: IPv4 by DPDK's LPM, IPv6 by route_trie. Neighbours stand in it as host
// routes, so that one lookup yields the Ethernet header. RCU-read by workers; single writer: main.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>

#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/reclaimer.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane {

class Fib {
 public:
  /// `max_routes`: of each family, neighbours included. The IPv4 table, DPDK's, is on `numa_node`
  /// where that has the memory, anywhere else.
  static std::expected<std::unique_ptr<Fib>, std::string> create(
      std::uint32_t max_routes, Reclaimer& reclaimer,
      std::optional<std::uint32_t> numa_node = std::nullopt);
  virtual ~Fib() = default;

  /// Adds or replaces. The error is a sentence (table full).
  virtual std::expected<void, std::string> add(const wire::Prefix& prefix,
                                               AdjacencyIndex adjacency) = 0;
  virtual void remove(const wire::Prefix& prefix) = 0;

  /// Longest match, Adjacencies::kDrop when nothing matches. `address` in host order.
  [[nodiscard]] virtual AdjacencyIndex lookup_v4(std::uint32_t address) const = 0;
  /// `address`: 16 bytes.
  [[nodiscard]] virtual AdjacencyIndex lookup_v6(const std::uint8_t* address) const = 0;
  [[nodiscard]] AdjacencyIndex lookup(const wire::IpAddress& address) const {
    return address.is_v4() ? lookup_v4(address.v4_host()) : lookup_v6(address.bytes.data());
  }
};

}  // namespace culvert::dataplane
