// A short name for the configuration in force: equal for equal files, so that two daemons or two
// gateways can be compared at a glance.
#pragma once

#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <spdlog/fmt/fmt.h>

namespace culvert::config {

/// FNV-1a over the text, 16 hex digits. Not a cryptographic promise.
inline std::string version_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return fmt::format("{:016x}", hash);
}

inline std::string config_version(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  return version_of(text);
}

}  // namespace culvert::config
