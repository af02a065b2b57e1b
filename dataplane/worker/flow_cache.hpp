// What policy said of a flow last time: one probe instead of the ordered search. Worker-local,
// direct mapped; an entry is valid for the snapshot generation it was made under.
#pragma once

#include <cstdint>
#include <memory>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/spd.hpp"

namespace culvert::dataplane {

/// What is remembered of a flow. Which SA an entry's traffic goes to is not: a rekey changes it.
enum class FlowDecision : std::uint8_t {
  by_policy,  ///< `match` in the snapshot
  local,      ///< for one of our addresses; policy allows it
  drop,       ///< `reason`
};
struct CachedFlow {
  FlowDecision decision = FlowDecision::by_policy;
  DropReason reason{};
  SpdSnapshot::Match match;
};

/// A flow's key in 16 bytes (IPv4) or 48 (IPv6), compared as words.
template <std::size_t kWords>
struct FlowWords {
  std::uint64_t words[kWords];
  friend bool operator==(const FlowWords&, const FlowWords&) = default;

  [[nodiscard]] std::uint64_t hash() const {
    std::uint64_t mixed = 0;
    for (const std::uint64_t word : words) {
      mixed = (mixed ^ word) * 0x9e3779b97f4a7c15ULL;
      mixed ^= mixed >> 29U;
    }
    return mixed;
  }
};
/// Source and destination; ports, protocol and what else decides (`flow_tail`).
using FlowV4 = FlowWords<2>;
using FlowV6 = FlowWords<5>;

[[nodiscard]] inline std::uint64_t flow_tail(const wire::Ports& ports, std::uint8_t protocol,
                                             PacketOrigin origin) {
  return std::uint64_t{ports.source} << 48U | std::uint64_t{ports.destination} << 32U |
         std::uint64_t{protocol} << 16U | std::uint64_t{ports.known} << 8U |
         static_cast<std::uint64_t>(origin);
}

template <typename Key, std::size_t kEntries>
class FlowCache {
  static_assert((kEntries & (kEntries - 1)) == 0);

 public:
  FlowCache() : entries_(std::make_unique<Entry[]>(kEntries)) {}

  /// nullptr when it is not known under this generation.
  [[nodiscard]] const CachedFlow* find(const Key& key, std::uint32_t generation) const {
    const Entry& entry = entries_[place_of(key)];
    return entry.generation == generation && entry.key == key ? &entry.flow : nullptr;
  }
  /// Replaces what stood there.
  const CachedFlow* insert(const Key& key, std::uint32_t generation, const CachedFlow& flow) {
    Entry& entry = entries_[place_of(key)];
    entry = {key, flow, generation};
    return &entry.flow;
  }

 private:
  struct Entry {
    Key key{};
    CachedFlow flow;
    std::uint32_t generation = 0;  ///< snapshots count from 1
  };
  static std::size_t place_of(const Key& key) { return (key.hash() >> 24U) & (kEntries - 1); }

  std::unique_ptr<Entry[]> entries_;
};

/// 40 bytes each: the common thousand flows stay in the second-level cache.
using FlowCacheV4 = FlowCache<FlowV4, 8192>;
using FlowCacheV6 = FlowCache<FlowV6, 2048>;

}  // namespace culvert::dataplane
