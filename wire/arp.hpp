// ARP for IPv4 over Ethernet (RFC 826): the 28 bytes behind the Ethernet header.
#pragma once

#include <array>
#include <cstdint>

#include "wire/cursor.hpp"
#include "wire/ip_address.hpp"

namespace culvert::wire {

/// An IEEE 802 address, in transmission order.
using MacAddress = std::array<std::uint8_t, 6>;
/// Broadcast or multicast: the lowest bit of the first octet says "group" (IEEE 802-2014 §8.2.2).
[[nodiscard]] constexpr bool is_group(const MacAddress& mac) { return (mac.front() & 1U) != 0; }

inline constexpr std::size_t kArpBytes = 28;

struct ArpMessage {
  enum class Operation : std::uint16_t { request = 1, reply = 2 };
  Operation operation = Operation::request;
  MacAddress sender_mac{};
  IpAddress sender;  ///< IPv4; unspecified in a probe (RFC 5227 §2.1.1)
  MacAddress target_mac{};
  IpAddress target;  ///< IPv4

  friend bool operator==(const ArpMessage&, const ArpMessage&) = default;
};

/// What follows an Ethernet header of type 0x0806; padding behind it is ignored. Other hardware or
/// protocol types and operations are errors, and so is a sender that claims to be a group.
Parsed<ArpMessage> parse_arp(Bytes message);
/// Appends the 28 bytes.
void build_arp(Writer& writer, const ArpMessage& message);

}  // namespace culvert::wire
