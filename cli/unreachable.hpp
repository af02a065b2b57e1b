// What routers, firewalls and hosts say of ESP that does not get through. Nobody has authenticated
// it: it explains a silence, and is a problem of its own never. Pure.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace culvert::cli {

/// What was said before this says nothing of now, unless nothing came in since.
inline constexpr double kSaidLatelySeconds = 300;

/// The data plane's `unreachable` of a child while it may still hold, else null.
nlohmann::json unreachable_now(const nlohmann::json& child);
/// "198.51.100.254 says of ESP to 203.0.113.7: communication administratively prohibited"
std::string said_of_esp(const nlohmann::json& unreachable);
/// The same with when and how often, and what to do where `is_told_above` is false; "" for null.
std::string render_unreachable(const nlohmann::json& unreachable, const char* indent,
                               bool is_told_above);

}  // namespace culvert::cli
