// Bytes written as hex in tests (spaces and newlines group them), and addresses as text.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "wire/cursor.hpp"
#include "wire/ip_address.hpp"

namespace culvert::wire {

inline std::vector<std::uint8_t> from_hex(std::string_view text) {
  std::vector<std::uint8_t> bytes;
  unsigned value = 0;
  unsigned digits = 0;
  for (const char character : text) {
    if (character == ' ' || character == '\n') continue;
    const auto digit = std::string_view("0123456789abcdef").find(character);
    if (digit == std::string_view::npos) throw std::invalid_argument("not hex");
    value = value << 4U | static_cast<unsigned>(digit);
    if (++digits % 2 == 0) {
      bytes.push_back(static_cast<std::uint8_t>(value));
      value = 0;
    }
  }
  if (digits % 2 != 0) throw std::invalid_argument("half a byte");
  return bytes;
}

inline IpAddress address(std::string_view text) { return IpAddress::parse(text).value(); }

inline std::string to_hex(Bytes bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += "0123456789abcdef"[byte >> 4U];
    text += "0123456789abcdef"[byte & 0xfU];
  }
  return text;
}

}  // namespace culvert::wire
