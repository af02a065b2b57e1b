#include "dataplane/tables/adjacency.hpp"

#include <algorithm>

namespace culvert::dataplane {

Adjacencies::Adjacencies(std::uint32_t capacity)
    : capacity_(capacity), table_(std::make_unique<Adjacency[]>(capacity)) {
  free_.reserve(capacity);
  for (std::uint32_t index = capacity; index > raw(kWithdrawn) + 1; --index) {
    free_.push_back(AdjacencyIndex{index - 1});
  }
  table_[raw(kLocal)].kind.store(AdjacencyKind::local, std::memory_order_relaxed);
  table_[raw(kBroadcast)].kind.store(AdjacencyKind::broadcast, std::memory_order_relaxed);
}

std::optional<AdjacencyIndex> Adjacencies::take() {
  if (free_.empty()) return std::nullopt;
  const AdjacencyIndex index = free_.back();
  free_.pop_back();
  return index;
}

std::optional<AdjacencyIndex> Adjacencies::add_glean(PortId port, std::uint16_t mtu) {
  const auto index = take();
  if (!index) return std::nullopt;
  Adjacency& adjacency = table_[raw(*index)];
  adjacency.port = port;
  adjacency.link_mtu.store(mtu, std::memory_order_relaxed);
  adjacency.next_hop = {};
  // Release: a worker that finds the index in the FIB sees the fields.
  adjacency.kind.store(AdjacencyKind::glean, std::memory_order_release);
  return index;
}

std::optional<AdjacencyIndex> Adjacencies::add_neighbor(PortId port,
                                                        const wire::IpAddress& next_hop,
                                                        std::uint16_t mtu) {
  const auto index = take();
  if (!index) return std::nullopt;
  Adjacency& adjacency = table_[raw(*index)];
  adjacency.port = port;
  adjacency.link_mtu.store(mtu, std::memory_order_relaxed);
  adjacency.next_hop = next_hop;
  adjacency.kind.store(AdjacencyKind::incomplete, std::memory_order_release);
  return index;
}

void Adjacencies::resolve(AdjacencyIndex index, const MacAddress& destination,
                          const MacAddress& source) {
  Adjacency& adjacency = table_[raw(index)];
  const std::uint16_t ethertype = adjacency.next_hop.is_v4() ? 0x0800 : 0x86dd;
  std::ranges::copy(destination, adjacency.ethernet.begin());
  std::ranges::copy(source, adjacency.ethernet.begin() + 6);
  adjacency.ethernet[12] = static_cast<std::uint8_t>(ethertype >> 8);
  adjacency.ethernet[13] = static_cast<std::uint8_t>(ethertype);
  // Pairs with the acquire load in the forward stage: the header is complete before it is used.
  adjacency.kind.store(AdjacencyKind::resolved, std::memory_order_release);
}

void Adjacencies::unresolve(AdjacencyIndex index) {
  table_[raw(index)].kind.store(AdjacencyKind::incomplete, std::memory_order_release);
}

void Adjacencies::set_mtu(AdjacencyIndex index, std::uint16_t mtu) {
  table_[raw(index)].link_mtu.store(mtu, std::memory_order_relaxed);
}

void Adjacencies::release(AdjacencyIndex index) {
  table_[raw(index)].kind.store(AdjacencyKind::drop, std::memory_order_relaxed);
  free_.push_back(index);
}

}  // namespace culvert::dataplane
