// The Internet checksum (RFC 1071), with the pseudo-headers of IPv4 and IPv6.
#pragma once

#include <cstdint>

#include "wire/ip_address.hpp"

namespace culvert::wire {

/// A running one's-complement sum over 16-bit words in network order. Pieces may be added in any
/// order, but each piece except the last must have an even length.
class ChecksumSum {
 public:
  constexpr void add(Bytes bytes) {
    std::size_t at = 0;
    for (; at + 1 < bytes.size(); at += 2) add(bytes[at], bytes[at + 1]);
    if (at < bytes.size()) add(bytes[at], 0);
  }
  constexpr void add_u16(std::uint16_t host_value) { sum_ += host_value; }
  constexpr void add_u32(std::uint32_t host_value) {
    sum_ += host_value >> 16U;
    sum_ += host_value & 0xffffU;
  }
  /// Addresses, upper-layer length (bytes) and protocol (RFC 768, RFC 8200 §8.1).
  void add_pseudo_header(const IpAddress& source, const IpAddress& destination,
                         std::uint8_t protocol, std::uint32_t length) {
    add(source.view());
    add(destination.view());
    add_u32(length);
    add_u16(protocol);
  }
  /// The checksum, host order; zero over data that holds its own correct checksum.
  [[nodiscard]] constexpr std::uint16_t finish() const {
    std::uint64_t folded = sum_;
    while ((folded >> 16U) != 0) folded = (folded & 0xffffU) + (folded >> 16U);
    return static_cast<std::uint16_t>(~folded & 0xffffU);
  }

 private:
  constexpr void add(std::uint8_t high, std::uint8_t low) {
    sum_ += static_cast<std::uint64_t>((high << 8) | low);
  }
  std::uint64_t sum_ = 0;
};

/// A checksum after one of the words under it has changed: HC' = ~(~HC + ~m + m') (RFC 1624 §3).
/// All in host order.
[[nodiscard]] constexpr std::uint16_t updated_checksum(std::uint16_t checksum, std::uint16_t before,
                                                       std::uint16_t after) {
  std::uint32_t sum = (0xffffU - checksum) + (0xffffU - before) + after;
  sum = (sum & 0xffffU) + (sum >> 16U);
  sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<std::uint16_t>(0xffffU - sum);
}

}  // namespace culvert::wire
