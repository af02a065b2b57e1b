// InstallSa requests for tests, and the key material they carry.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "channel/messages.hpp"

namespace culvert::test {

inline wire::IpAddress address(std::string_view text) {
  return wire::IpAddress::parse(text).value();
}
inline channel::SelectorSet selectors(std::initializer_list<std::string_view> texts) {
  channel::SelectorSet set;
  for (const std::string_view text : texts) {
    set.items[set.count++] = wire::TrafficSelector::parse(text).value();
  }
  return set;
}

/// Cipher key and salt: bytes that count up from `first`.
inline std::vector<std::uint8_t> keymat(std::uint16_t key_bits, std::uint8_t first) {
  std::vector<std::uint8_t> bytes(key_bits / 8U + 4U);
  for (std::uint8_t& byte : bytes) byte = first++;
  return bytes;
}

inline channel::InstallSa sa_request(std::uint64_t id, channel::Direction direction,
                                     std::uint32_t spi, std::uint16_t key_bits = 128,
                                     std::uint8_t first_key_byte = 1) {
  channel::InstallSa request;
  request.sa = channel::SaId{id};
  request.direction = direction;
  request.spi = channel::Spi{spi};
  request.suite = {crypto::Encryption::aes_gcm_16, key_bits, crypto::Integrity::none};
  request.replay_window = 64;
  request.local = {address("198.51.100.1"), 0};
  request.remote = {address("203.0.113.7"), 0};
  request.local_selectors = selectors({"10.1.0.0/24"});
  request.remote_selectors = selectors({"10.2.0.0/24"});
  static_cast<void>(request.key.assign(keymat(key_bits, first_key_byte)));
  return request;
}

}  // namespace culvert::test
