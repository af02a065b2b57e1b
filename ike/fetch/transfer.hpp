// One HTTP transfer, by libcurl: bounded in bytes and time, http only, no proxy, no credentials.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "ike/fetch/frames.hpp"

namespace culvert::ike::fetch {

/// Once, while the process still may read what the libraries want to read.
[[nodiscard]] bool prepare_transfers();

/// Waits for the answer's body. The error is a sentence: "HTTP status 404", "Connection refused".
[[nodiscard]] std::expected<std::vector<std::uint8_t>, std::string> transfer(
    const Request& request);

}  // namespace culvert::ike::fetch
