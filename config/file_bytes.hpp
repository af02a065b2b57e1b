// The whole of a file that may hold a secret: bounded, wiped when it ends.
#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include "crypto/secret.hpp"

namespace culvert::config {

/// The error is a sentence: not there, no regular file, larger than `most` bytes.
[[nodiscard]] std::expected<crypto::SecretBytes, std::string> read_bytes(
    const std::filesystem::path& file, std::size_t most);

}  // namespace culvert::config
