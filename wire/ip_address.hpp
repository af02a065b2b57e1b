// IP addresses, prefixes and ranges of both families; text in and out.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "wire/cursor.hpp"

namespace culvert::wire {

enum class Family : std::uint8_t { v4 = 4, v6 = 6 };

/// An IPv4 or IPv6 address. Bytes in network order; an IPv4 address uses the first four and the
/// rest are zero. Trivially copyable: it crosses the channel as it is.
struct IpAddress {
  Family family = Family::v4;
  std::array<std::uint8_t, 16> bytes{};

  [[nodiscard]] constexpr bool is_v4() const { return family == Family::v4; }
  [[nodiscard]] constexpr std::size_t size() const { return is_v4() ? 4 : 16; }  ///< bytes
  [[nodiscard]] Bytes view() const { return Bytes(bytes.data(), size()); }
  [[nodiscard]] bool is_unspecified() const { return *this == IpAddress{family, {}}; }
  friend constexpr auto operator<=>(const IpAddress&, const IpAddress&) = default;

  static IpAddress v4(std::uint32_t host_order);
  static IpAddress v4(Bytes four_bytes);      ///< precondition: 4 bytes
  static IpAddress v6(Bytes sixteen_bytes);   ///< precondition: 16 bytes
  /// Host-order value of an IPv4 address. Precondition: is_v4().
  [[nodiscard]] std::uint32_t v4_host() const;
  static std::optional<IpAddress> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
};

/// The smallest and largest address of a family.
IpAddress lowest(Family family);
IpAddress highest(Family family);

/// A CIDR prefix. `address` keeps its host bits when parsed as an interface address.
struct Prefix {
  IpAddress address;
  std::uint8_t length = 0;  ///< bits, 0..32 or 0..128

  friend constexpr auto operator<=>(const Prefix&, const Prefix&) = default;
  /// "10.1.0.0/24"; a bare address is a host prefix.
  static std::optional<Prefix> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] IpAddress first() const;  ///< lowest address inside
  [[nodiscard]] IpAddress last() const;   ///< highest address inside
  [[nodiscard]] bool contains(const IpAddress& candidate) const;
  [[nodiscard]] bool has_host_bits() const { return first() != address; }
};

/// Where a datagram came from or goes to. Port in host order.
struct Endpoint {
  IpAddress address;
  std::uint16_t port = 0;

  friend constexpr auto operator<=>(const Endpoint&, const Endpoint&) = default;
  [[nodiscard]] std::string to_string() const;  ///< "192.0.2.1:500", "[2001:db8::1]:4500"
};

}  // namespace culvert::wire
