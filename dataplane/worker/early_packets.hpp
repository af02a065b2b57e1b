// ESP that came before its SA. A responder may send on an SA from the moment its response is on the
// way (RFC 7296 §2.8), some do even earlier: its packets overtake the response that lets us install
// the SA. Their SPI is one that we gave out and nobody else can know, so they wait for it, in
// order, bounded in number and time. Worker-local; pure: time comes in.
#pragma once

#include <array>
#include <cassert>
#include <cstdint>
#include <span>

#include "dataplane/tables/ids.hpp"

struct rte_mbuf;

namespace culvert::dataplane {

/// A whole Ethernet frame.
struct EarlyPacket {
  rte_mbuf* packet = nullptr;
  PortId received_on{};
};

/// What waits for one SA.
class EarlyQueue {
 public:
  static constexpr std::uint32_t kCapacity = 64;

  [[nodiscard]] bool is_empty() const { return count_ == 0; }
  [[nodiscard]] bool is_full() const { return count_ == kCapacity; }
  [[nodiscard]] std::uint32_t spi() const { return spi_; }  ///< host order
  [[nodiscard]] std::uint64_t since() const { return since_; }
  [[nodiscard]] std::span<const EarlyPacket> packets() const {
    return std::span(packets_).first(count_);
  }

 private:
  friend class EarlyPackets;
  std::uint32_t spi_ = 0;
  std::uint32_t count_ = 0;
  std::uint64_t since_ = 0;  ///< when its first packet came, in TSC cycles
  std::array<EarlyPacket, kCapacity> packets_;
};

class EarlyPackets {
 public:
  /// SAs whose packets can wait at once: a negotiation is early for some milliseconds.
  static constexpr std::uint32_t kSas = 8;

  [[nodiscard]] std::uint32_t count() const { return count_; }
  /// False: no room, it is still the caller's.
  [[nodiscard]] bool hold(std::uint32_t spi, const EarlyPacket& packet, std::uint64_t now) {
    EarlyQueue* const queue = queue_for(spi);
    if (queue == nullptr || queue->is_full()) return false;
    if (queue->is_empty()) {
      queue->spi_ = spi;
      queue->since_ = now;
    }
    queue->packets_[queue->count_++] = packet;
    ++count_;
    return true;
  }
  [[nodiscard]] std::span<const EarlyQueue> queues() const { return queues_; }
  /// What waited there is the caller's; it was copied before.
  void clear(const EarlyQueue& queue) {
    EarlyQueue& mine = queues_[static_cast<std::size_t>(&queue - queues_.data())];
    assert(count_ >= mine.count_);
    count_ -= mine.count_;
    mine.count_ = 0;
  }

 private:
  /// The queue of this SPI, else an empty one, else none.
  EarlyQueue* queue_for(std::uint32_t spi) {
    EarlyQueue* vacant = nullptr;
    for (EarlyQueue& queue : queues_) {
      if (queue.is_empty()) {
        if (vacant == nullptr) vacant = &queue;
      } else if (queue.spi_ == spi) {
        return &queue;
      }
    }
    return vacant;
  }

  std::array<EarlyQueue, kSas> queues_;
  std::uint32_t count_ = 0;  ///< packets in all
};

}  // namespace culvert::dataplane
