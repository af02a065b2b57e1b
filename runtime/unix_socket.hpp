// A listening Unix socket that replaces a dead daemon's and never a living one's.
#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include <sys/types.h>
#include <sys/un.h>

namespace culvert::runtime {

/// The address of `path`; the error says that it is too long (107 bytes).
[[nodiscard]] std::expected<sockaddr_un, std::string> unix_address(
    const std::filesystem::path& path);

/// A non-blocking listening stream socket at `path` with exactly `mode`, owned by `owner`. Changes
/// the process's umask for a moment: before other threads make files.
[[nodiscard]] std::expected<int, std::string> listen_unix(const std::filesystem::path& path,
                                                          mode_t mode, uid_t owner);

}  // namespace culvert::runtime
