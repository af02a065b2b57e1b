// Frames of one SA one after another: what they have in common is looked at once.
#pragma once

#include <cstddef>
#include <cstdint>

#include <rte_mbuf.h>

#include "dataplane/worker/stages.hpp"
#include "wire/ethernet.hpp"
#include "wire/ip.hpp"
#include "wire/unaligned.hpp"

namespace culvert::dataplane {

/// Of a frame with IPv4 without options, in front of ESP.
inline constexpr std::uint32_t kInFrontOfEsp =
    wire::ethernet::kHeaderBytes + wire::ipv4::kHeaderBytes;

/// Like a frame with ESP that arrived, all that may differ from packet to packet of a flow aside.
class Train {
 public:
  /// Of a frame that is sound, at its IP header.
  explicit Train(const std::uint8_t* ip)
      : first_(wire::load_raw<std::uint16_t>(ip)),
        fragment_(wire::load_raw<std::uint32_t>(ip + wire::ipv4::kFragment)),
        spi_(wire::load_raw<std::uint32_t>(ip + wire::ipv4::kHeaderBytes)) {}

  /// Whether a frame begins alike, long enough for ESP of a plain SA: version and traffic class,
  /// flags, TTL and protocol, and what would be the SPI. Nothing else is known of it then.
  [[nodiscard]] bool may_go_on_with(const rte_mbuf* packet) const {
    const std::uint8_t* const ip =
        rte_pktmbuf_mtod_offset(packet, const std::uint8_t*, wire::ethernet::kHeaderBytes);
    return packet->data_len >= kInFrontOfEsp + kLeastPlainEsp &&
           wire::load_raw<std::uint32_t>(ip + wire::ipv4::kHeaderBytes) == spi_ &&
           wire::load_raw<std::uint32_t>(ip + wire::ipv4::kFragment) == fragment_ &&
           wire::load_raw<std::uint16_t>(ip) == first_;
  }

 private:
  std::uint16_t first_;
  std::uint32_t fragment_, spi_;
};

/// Tells whether a frame with which a train goes on has a sound header for the same SA: what
/// `may_go_on_with` did not look at.
class SoundAsFirst {
 public:
  /// Of the train's first, at its IP header.
  explicit SoundAsFirst(const std::uint8_t* ip)
      : to_(wire::load_raw<std::uint64_t>(ip - wire::ethernet::kHeaderBytes)),
        addresses_(wire::load_raw<std::uint64_t>(ip + wire::ipv4::kSource)),
        sum_(kMostSum - sum_of(ip)) {}

  [[nodiscard]] bool has(const std::uint8_t* ip) const {
    // The MAC it is for, in the lower six bytes: from whom it comes does not matter.
    const std::uint64_t differs =
        (wire::load_raw<std::uint64_t>(ip - wire::ethernet::kHeaderBytes) ^ to_) << 16U |
        (wire::load_raw<std::uint16_t>(ip - 2) ^ kEthertype) |
        (wire::load_raw<std::uint64_t>(ip + wire::ipv4::kSource) ^ addresses_);
    return differs == 0 && wire::is_zero_in_ones_complement(sum_of(ip) + sum_);
  }

 private:
  static constexpr std::uint16_t kEthertype = wire::Be16{wire::ethernet::kIpv4}.raw();
  /// A multiple of 0xffff that no sum exceeds.
  static constexpr std::uint64_t kMostSum = std::uint64_t{0x10002} * 0xffff;

  /// Total length, identification and checksum, in ones' complement and not folded: in whatever
  /// order of bytes, and 32 bits count as their halves do (RFC 1071 §2).
  static std::uint64_t sum_of(const std::uint8_t* ip) {
    return std::uint64_t{wire::load_raw<std::uint32_t>(ip + wire::ipv4::kTotalLength)} +
           wire::load_raw<std::uint16_t>(ip + wire::ipv4::kChecksum);
  }
  std::uint64_t to_, addresses_, sum_;
};

}  // namespace culvert::dataplane
