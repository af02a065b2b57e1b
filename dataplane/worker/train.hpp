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

/// What of a header is alike in all frames of a train: of IPv4 version and traffic class, flags,
/// TTL and protocol.
template <typename Family>
class LikeHeader {
 public:
  explicit LikeHeader(const std::uint8_t* ip)
      : first_(wire::load_raw<std::uint16_t>(ip)),
        fragment_(wire::load_raw<std::uint32_t>(ip + wire::ipv4::kFragment)) {}
  [[nodiscard]] bool has(const std::uint8_t* ip) const {
    return wire::load_raw<std::uint32_t>(ip + wire::ipv4::kFragment) == fragment_ &&
           wire::load_raw<std::uint16_t>(ip) == first_;
  }

 private:
  std::uint16_t first_;
  std::uint32_t fragment_;
};
/// Of IPv6 version and traffic class, next header and hop limit: flow labels may be of what is
/// inside (RFC 6438 §2).
template <>
class LikeHeader<Ipv6> {
 public:
  explicit LikeHeader(const std::uint8_t* ip) : first_(wire::load_raw<std::uint64_t>(ip)) {}
  [[nodiscard]] bool has(const std::uint8_t* ip) const {
    constexpr std::uint64_t kAlike = wire::Be64{0xfff000000000ffffU}.raw();
    return ((wire::load_raw<std::uint64_t>(ip) ^ first_) & kAlike) == 0;
  }

 private:
  std::uint64_t first_;
};

/// Like a frame with ESP that arrived, all that may differ from packet to packet of a flow aside.
template <typename Family>
class Train {
 public:
  /// Of a frame that is sound, at its IP header.
  explicit Train(const std::uint8_t* ip)
      : header_(ip), spi_(wire::load_raw<std::uint32_t>(ip + Family::kHeaderBytes)) {}

  /// Whether a frame begins alike, long enough for ESP of a plain SA: its header, and what would be
  /// the SPI. Nothing else is known of it then.
  [[nodiscard]] bool may_go_on_with(const rte_mbuf* packet) const {
    constexpr std::size_t kInFrontOfEsp = wire::ethernet::kHeaderBytes + Family::kHeaderBytes;
    const std::uint8_t* const ip =
        rte_pktmbuf_mtod_offset(packet, const std::uint8_t*, wire::ethernet::kHeaderBytes);
    return packet->data_len >= kInFrontOfEsp + kLeastPlainEsp &&
           wire::load_raw<std::uint32_t>(ip + Family::kHeaderBytes) == spi_ && header_.has(ip);
  }

 private:
  LikeHeader<Family> header_;
  std::uint32_t spi_;
};

/// Whether a frame came for the MAC that a train's first came for, with the same in it. `to`: where
/// that one's destination and eight bytes begin; from whom it comes does not matter.
template <std::uint16_t kEthertype>
[[nodiscard]] std::uint64_t frame_difference(const std::uint8_t* ip, std::uint64_t to) {
  constexpr std::uint16_t kRaw = wire::Be16{kEthertype}.raw();
  // The MAC is in the lower six bytes.
  return (wire::load_raw<std::uint64_t>(ip - wire::ethernet::kHeaderBytes) ^ to) << 16U |
         (wire::load_raw<std::uint16_t>(ip - 2) ^ kRaw);
}

/// Tells whether a frame with which a train goes on has a sound header for the same SA: what
/// `may_go_on_with` did not look at.
template <typename Family>
class SoundAsFirst {
 public:
  /// Of the train's first, at its IP header.
  explicit SoundAsFirst(const std::uint8_t* ip)
      : to_(wire::load_raw<std::uint64_t>(ip - wire::ethernet::kHeaderBytes)),
        addresses_(Ipv4::addresses(ip)),
        sum_(kMostSum - sum_of(ip)) {}

  [[nodiscard]] bool has(const std::uint8_t* ip) const {
    const std::uint64_t differs =
        frame_difference<wire::ethernet::kIpv4>(ip, to_) | (Ipv4::addresses(ip) ^ addresses_);
    return differs == 0 && wire::is_zero_in_ones_complement(sum_of(ip) + sum_);
  }
  /// Whether it has a sound header of its own, for the same MAC.
  [[nodiscard]] bool has_alone(const std::uint8_t* ip) const {
    return frame_difference<wire::ethernet::kIpv4>(ip, to_) == 0 &&
           wire::plain_ipv4_checksum_is_right(ip);
  }

 private:
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
/// IPv6 has no checksum.
template <>
class SoundAsFirst<Ipv6> {
 public:
  explicit SoundAsFirst(const std::uint8_t* ip)
      : to_(wire::load_raw<std::uint64_t>(ip - wire::ethernet::kHeaderBytes)),
        addresses_{Ipv6::addresses(ip)} {}

  [[nodiscard]] bool has(const std::uint8_t* ip) const {
    return (frame_difference<wire::ethernet::kIpv6>(ip, to_) |
            KnownFlowKeyV6{Ipv6::addresses(ip)}.difference_from(addresses_)) == 0;
  }
  [[nodiscard]] bool has_alone(const std::uint8_t* ip) const {
    return frame_difference<wire::ethernet::kIpv6>(ip, to_) == 0;
  }

 private:
  std::uint64_t to_;
  KnownFlowKeyV6 addresses_;
};

}  // namespace culvert::dataplane
