// The last packet that came out of an SA and was not for it, kept for whoever asks why a tunnel
// that is up carries nothing. The SA's worker writes it, main reads it at any time; neither waits.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <optional>

#include "dataplane/tables/flow_key.hpp"

namespace culvert::dataplane {

struct RefusedPacket {
  FlowKey flow;
  std::uint64_t tsc = 0;  ///< when
};

class LastRefusal {
 public:
  /// Single writer: the SA's worker.
  void record(const RefusedPacket& packet) {
    const Words words = to_words(packet);
    const std::uint64_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    for (std::size_t at = 0; at < words.size(); ++at) {
      // Release pairs with the acquire in `read`: who sees a word sees the odd version before it.
      words_[at].store(words[at], std::memory_order_release);
    }
    // Release pairs with the acquire in `read`: all words before the even version.
    version_.store(version + 2, std::memory_order_release);
  }

  /// nullopt: never one; or the worker wrote each time that it was looked at, which a look a moment
  /// later finds over.
  [[nodiscard]] std::optional<RefusedPacket> read() const {
    constexpr int kLooks = 64;
    for (int look = 0; look < kLooks; ++look) {
      // Acquire pairs with the release of the even version in `record`.
      const std::uint64_t before = version_.load(std::memory_order_acquire);
      if (before == 0) return std::nullopt;
      if (before % 2 != 0) continue;
      Words words;
      for (std::size_t at = 0; at < words.size(); ++at) {
        // Acquire pairs with the release of the word in `record`.
        words[at] = words_[at].load(std::memory_order_acquire);
      }
      if (version_.load(std::memory_order_relaxed) == before) return from_words(words);
    }
    return std::nullopt;
  }

 private:
  using Words = std::array<std::uint64_t, 6>;

  static Words to_words(const RefusedPacket& packet) {
    const FlowKey& flow = packet.flow;
    Words words{};
    std::memcpy(&words[0], flow.source.bytes.data(), 16);
    std::memcpy(&words[2], flow.destination.bytes.data(), 16);
    words[4] = std::uint64_t{flow.source_port} << 48U |
               std::uint64_t{flow.destination_port} << 32U | std::uint64_t{flow.protocol} << 16U |
               std::uint64_t{flow.ports_known} << 8U |
               static_cast<std::uint64_t>(flow.source.family);
    words[5] = packet.tsc;
    return words;
  }
  static RefusedPacket from_words(const Words& words) {
    RefusedPacket packet;
    FlowKey& flow = packet.flow;
    std::memcpy(flow.source.bytes.data(), &words[0], 16);
    std::memcpy(flow.destination.bytes.data(), &words[2], 16);
    flow.source_port = static_cast<std::uint16_t>(words[4] >> 48U);
    flow.destination_port = static_cast<std::uint16_t>(words[4] >> 32U);
    flow.protocol = static_cast<std::uint8_t>(words[4] >> 16U);
    flow.ports_known = (words[4] >> 8U & 1U) != 0;
    flow.source.family = flow.destination.family = static_cast<wire::Family>(words[4] & 0xffU);
    packet.tsc = words[5];
    return packet;
  }

  std::atomic<std::uint64_t> version_{0};  ///< 0: never written; odd: being written
  std::array<std::atomic<std::uint64_t>, std::tuple_size_v<Words>> words_{};
};

}  // namespace culvert::dataplane
