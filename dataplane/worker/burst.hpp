// A burst on its way through the stages: what is known of each packet, and which stage each is for.
// Worker-local; a stage reads one list, and each of its packets leaves on another list, punted or
// dropped with a reason.
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <span>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/spd.hpp"
#include "wire/ip.hpp"

struct rte_mbuf;

namespace culvert::dataplane {

/// Positions in a burst, in order of arrival at a stage.
class PacketList {
 public:
  void push(std::uint32_t position) {
    assert(size_ < kBurstPackets);
    positions_[size_++] = static_cast<std::uint8_t>(position);
  }
  void clear() { size_ = 0; }
  /// In order of arrival in the burst, whichever way each has come here.
  void sort() {
    const auto all = std::span(positions_).first(size_);
    if (!std::ranges::is_sorted(all)) [[unlikely]]
      std::ranges::sort(all);
  }
  /// Keeps the first `size`.
  void shrink(std::uint32_t size) { size_ = size; }
  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] std::uint8_t& operator[](std::uint32_t index) { return positions_[index]; }
  [[nodiscard]] std::uint8_t operator[](std::uint32_t index) const { return positions_[index]; }
  [[nodiscard]] const std::uint8_t* begin() const { return positions_.data(); }
  [[nodiscard]] const std::uint8_t* end() const { return positions_.data() + size_; }

 private:
  std::array<std::uint8_t, kBurstPackets> positions_;
  std::uint32_t size_ = 0;
};

/// Which way a packet was going, for the counters of drops.
[[nodiscard]] inline DropDirection direction_of(PacketOrigin origin) {
  return origin == PacketOrigin::tunnel ? DropDirection::in : DropDirection::out;
}

struct Burst {
  std::uint32_t count = 0;
  bool is_from_one_port = false;  ///< all of `received_on` are known to be the same
  bool is_of_dummies = false;     ///< all of `protect` are sealed as dummies
  std::uint64_t tsc = 0;          ///< when it was received; what SAs remember as their last packet
  /// SAs a packet of which was cut before it was sealed, by slot; other SAs may share a bit.
  std::uint64_t cut_for = 0;
  /// A bit a position: what is originated answers what was decrypted.
  std::uint64_t answers_encrypted = 0;
  static_assert(kBurstPackets <= 64);
  // By position, valid from the stage that is named on.
  std::array<rte_mbuf*, kBurstPackets> packets;        ///< rx
  std::array<PortId, kBurstPackets> received_on;       ///< rx
  std::array<std::uint8_t*, kBurstPackets> ip;         ///< classify: the IP header as it is now
  std::array<wire::IpHeader, kBurstPackets> header;    ///< classify: of the packet at `ip`
  std::array<PacketOrigin, kBurstPackets> origin;      ///< classify
  std::array<SlotIndex, kBurstPackets> outbound;       ///< policy: protect
  std::array<AdjacencyIndex, kBurstPackets> next_hop;  ///< outbound, forward
  std::array<std::uint16_t, kBurstPackets> ip_bytes;   ///< outbound, forward: length to send

  // Which stage comes next.
  PacketList encrypted;  ///< classify → inbound: ESP, plain or in UDP
  PacketList undecided;  ///< classify, inbound, local → policy
  PacketList ours;       ///< policy → local: for one of our addresses
  PacketList protect;    ///< policy → outbound
  PacketList route;      ///< policy → forward: leaves as it is
  PacketList sealed;     ///< outbound → forward: `next_hop` is known

  void note_answer_to_encrypted(std::uint32_t position) {
    answers_encrypted |= std::uint64_t{1} << position;
  }
  [[nodiscard]] bool is_answer_to_encrypted(std::uint32_t position) const {
    return (answers_encrypted >> position & 1U) != 0;
  }
  /// No packet waits for a stage behind inbound.
  [[nodiscard]] bool is_over() const {
    return (undecided.size() | ours.size() | protect.size() | route.size() | sealed.size()) == 0;
  }
  void clear_lists() {
    is_from_one_port = false;
    is_of_dummies = false;
    cut_for = 0;
    answers_encrypted = 0;
    encrypted.clear();
    undecided.clear();
    ours.clear();
    protect.clear();
    route.clear();
    sealed.clear();
  }
};

}  // namespace culvert::dataplane
