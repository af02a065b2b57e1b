// Loads and stores of network-order integers at any address. For code that has checked its bounds;
// untrusted lengths go through cursor.hpp.
#pragma once

#include <cstdint>
#include <cstring>

#include "wire/cursor.hpp"

namespace culvert::wire {

/// The bytes at `from` as a value of type T, as they lie in memory.
template <typename T>
[[nodiscard]] inline T load_raw(const std::uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
template <typename T>
inline void store_raw(std::uint8_t* to, const T& value) {
  std::memcpy(to, &value, sizeof(value));
}

[[nodiscard]] inline std::uint16_t load_u16(const std::uint8_t* from) {
  return Be16::from_raw(load_raw<std::uint16_t>(from)).host();
}
[[nodiscard]] inline std::uint32_t load_u32(const std::uint8_t* from) {
  return Be32::from_raw(load_raw<std::uint32_t>(from)).host();
}
[[nodiscard]] inline std::uint64_t load_u64(const std::uint8_t* from) {
  return Be64::from_raw(load_raw<std::uint64_t>(from)).host();
}
inline void store_u16(std::uint8_t* to, std::uint16_t host_value) {
  store_raw(to, Be16{host_value}.raw());
}
inline void store_u32(std::uint8_t* to, std::uint32_t host_value) {
  store_raw(to, Be32{host_value}.raw());
}
inline void store_u64(std::uint8_t* to, std::uint64_t host_value) {
  store_raw(to, Be64{host_value}.raw());
}

}  // namespace culvert::wire
