// One question over a daemon's control socket (docs/reference/control-protocol.md). Blocking, with
// a timeout.
#pragma once

#include <chrono>
#include <expected>
#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace culvert::runtime {

/// Why there is no result. `code` is the daemon's, or one of ours: "not_running" (no socket, or
/// nobody behind it), "permission_denied", "timeout", "disconnected", "bad_answer", "system".
struct ControlError {
  std::string code;
  std::string message;  ///< a sentence for the operator
};

/// Sends one request and waits for the `result` of its answer. `timeout`: how long the daemon may
/// be silent; a long answer comes in parts.
[[nodiscard]] std::expected<nlohmann::json, ControlError> control_request(
    const std::filesystem::path& socket, std::string_view verb, const nlohmann::json& args,
    std::chrono::milliseconds timeout);

}  // namespace culvert::runtime
