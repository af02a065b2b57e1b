// Where a route leads: the Ethernet header to put in front, or why there is none.
// RCU-read by workers; single writer: main.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "dataplane/tables/ids.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane {

using MacAddress = std::array<std::uint8_t, 6>;

enum class AdjacencyKind : std::uint8_t {
  drop,        ///< no route
  local,       ///< one of our own addresses
  broadcast,   ///< a connected network's own or its broadcast address: nobody's
  glean,       ///< a connected network: the destination itself has to be resolved
  incomplete,  ///< a neighbour whose MAC is asked for
  resolved,    ///< `ethernet` is complete
};

/// One cache line. The header is written before `kind` becomes `resolved` (release), and read after
/// `kind` was read (acquire); a MAC that changes gets a new adjacency. The MTU alone changes in
/// place.
struct alignas(64) Adjacency {
  std::atomic<AdjacencyKind> kind{AdjacencyKind::drop};
  PortId port{};
  std::atomic<std::uint16_t> link_mtu{0};
  std::array<std::uint8_t, 14>
      ethernet{};            ///< destination, source, ethertype of `next_hop`'s family
  wire::IpAddress next_hop;  ///< the neighbour; glean: unspecified

  /// Bytes of IP packet. Twice read it may be two values.
  [[nodiscard]] std::uint16_t mtu() const {
    // Relaxed: a worker that hears of it a burst later cuts, or refuses, a burst more or less.
    return link_mtu.load(std::memory_order_relaxed);
  }
};
static_assert(sizeof(Adjacency) == 64);

class Adjacencies {
 public:
  /// Index 0 is the drop adjacency, 1 the local one, 2 the one of broadcast addresses, 3 that of
  /// routes that lead nowhere for a moment: a drop, too, which no shorter route steps in for.
  static constexpr AdjacencyIndex kDrop{0};
  static constexpr AdjacencyIndex kLocal{1};
  static constexpr AdjacencyIndex kBroadcast{2};
  static constexpr AdjacencyIndex kWithdrawn{3};

  explicit Adjacencies(std::uint32_t capacity);

  [[nodiscard]] const Adjacency& operator[](AdjacencyIndex index) const {
    return table_[raw(index)];
  }

  /// nullopt when all are in use.
  std::optional<AdjacencyIndex> add_glean(PortId port, std::uint16_t mtu);
  /// An incomplete neighbour.
  std::optional<AdjacencyIndex> add_neighbor(PortId port, const wire::IpAddress& next_hop,
                                             std::uint16_t mtu);
  /// incomplete → resolved. `source` is our MAC.
  void resolve(AdjacencyIndex index, const MacAddress& destination, const MacAddress& source);
  /// resolved → incomplete, for as long as the neighbour is asked for again.
  void unresolve(AdjacencyIndex index);
  /// The link has another MTU. What a worker remembers of flows over it is out of date then
  /// (Reclaimer::outdate).
  void set_mtu(AdjacencyIndex index, std::uint16_t mtu);
  /// The index may be reused; call after the FIB no longer names it and a grace period has passed.
  void release(AdjacencyIndex index);

 private:
  std::optional<AdjacencyIndex> take();
  std::uint32_t capacity_;
  std::unique_ptr<Adjacency[]> table_;
  std::vector<AdjacencyIndex> free_;
};

}  // namespace culvert::dataplane
