// Bytes from hex text and addresses from text, for the tests of control and ports.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "wire/ip_address.hpp"

namespace culvert::test {

inline std::vector<std::uint8_t> from_hex(std::string_view text) {
  const auto nibble = [](char c) {
    return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
  };
  std::vector<std::uint8_t> bytes;
  for (std::size_t at = 0; at + 1 < text.size(); at += 2) {
    bytes.push_back(static_cast<std::uint8_t>(nibble(text[at]) << 4U | nibble(text[at + 1])));
  }
  return bytes;
}

inline wire::IpAddress address(std::string_view text) {
  const auto parsed = wire::IpAddress::parse(text);
  if (!parsed) throw std::invalid_argument("not an address: " + std::string(text));
  return *parsed;
}

inline wire::Prefix prefix(std::string_view text) {
  const auto parsed = wire::Prefix::parse(text);
  if (!parsed) throw std::invalid_argument("not a prefix: " + std::string(text));
  return *parsed;
}

}  // namespace culvert::test
