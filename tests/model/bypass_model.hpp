// Fragments in transit whose first one showed by its ports which way they go (RFC 4301 §7.4). How
// many are known, and for how long, from docs/reference/configuration.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>

#include "tests/model/fragment_model.hpp"
#include "tests/model/policy_model.hpp"

namespace culvert::model {

class BypassModel {
 public:
  static constexpr std::size_t kPackets = 256;
  static constexpr std::uint64_t kMilliseconds = 2000;

  /// Whether some packet's time is over about then.
  [[nodiscard]] bool ends_about(std::uint64_t milliseconds, std::uint64_t within) const {
    return std::ranges::any_of(packets_, [&](const Packet& packet) {
      const std::uint64_t end = packet.began + kMilliseconds;
      return !packet.is_over && end < milliseconds + within && milliseconds < end + within;
    });
  }
  /// A first fragment, whatever becomes of it: nothing is known of its packet yet.
  void begins(const Fragment& first) {
    for (Packet& packet : packets_) packet.is_over |= packet.of == first.of;
  }
  /// What a first one was, and what it met: `policy`, of those of `version`.
  struct First {
    dataplane::FlowKey flow;
    std::optional<PolicyHit> policy;
    std::uint64_t version = 0;
  };
  /// It went on.
  void passed(const Fragment& fragment, const First& first, std::uint64_t now) {
    packets_.push_back({fragment.of, first, fragment.payload.size(), now});
    if (packets_.size() > kPackets) packets_.pop_front();
  }
  /// What is known of the first of a later one. `holds`: whether it is so by the policies of today,
  /// or is made so; else it is known no more.
  std::optional<First> first_of(const Fragment& later, std::uint64_t now,
                                const std::function<bool(First&)>& holds) {
    const auto packet = std::ranges::find_if(packets_, [&](const Packet& one) {
      return !one.is_over && one.of == later.of && now - one.began < kMilliseconds;
    });
    if (packet == packets_.end() || later.offset < packet->first_bytes) return std::nullopt;
    if (!holds(packet->first)) {
      packet->is_over = true;
      return std::nullopt;
    }
    const std::size_t end = later.offset + later.payload.size();
    packet->seen += later.payload.size();
    if (!later.more) packet->total = end;
    packet->is_over = packet->total && packet->seen >= *packet->total;
    return packet->first;
  }

 private:
  struct Packet {
    ByteString of;
    First first;
    std::size_t first_bytes;
    std::uint64_t began;
    std::size_t seen = first_bytes;
    std::optional<std::size_t> total = {};
    bool is_over = false;
  };
  std::deque<Packet> packets_;  ///< those that are over keep their place
};

}  // namespace culvert::model
