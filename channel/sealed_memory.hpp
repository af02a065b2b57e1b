// What the two memories between the daemons share. Only .cpp files of this room include this.
#pragma once

#include <cerrno>
#include <cstring>
#include <expected>
#include <string>

#include <fcntl.h>

namespace culvert::channel {

/// Against shrinking, growing and further seals: a page that is mapped can never vanish (SIGBUS).
inline constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

/// A sentence about a system call that failed just now.
inline std::unexpected<std::string> failed(const char* memory, const char* call) {
  return std::unexpected(std::string(memory) + ": " + call + ": " + std::strerror(errno));
}

}  // namespace culvert::channel
