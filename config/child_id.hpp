// What both daemons call a child, or the name of a manual SA, between them: derived from the names
// in the file, so that neither needs the other's file, and a place in a file means nothing
// (docs/decisions/0016).
#pragma once

#include <cstdint>
#include <string_view>

namespace culvert::config {

/// A connection's child, or a manual SA's name. The same names make the same identifier in every
/// file, process and release; of two names of one file `culvert check` sees that they differ in it.
enum class ChildId : std::uint64_t {};
/// A connection, in the key daemon's records.
enum class ConnectionId : std::uint64_t {};

inline constexpr std::uint64_t kFnvBasis = 0xcbf29ce484222325ULL;
/// FNV-1a, 64 bits. Against accidents, not against an adversary: who writes the file is the
/// operator.
constexpr std::uint64_t fnv1a(std::string_view text, std::uint64_t hash = kFnvBasis) {
  for (const char octet : text) {
    hash = (hash ^ static_cast<std::uint8_t>(octet)) * 0x100000001b3ULL;
  }
  return hash;
}

constexpr ConnectionId connection_id(std::string_view name) { return ConnectionId{fnv1a(name)}; }
/// No name holds the octet 0, which stands between the two.
constexpr ChildId child_id(std::string_view connection, std::string_view child) {
  using namespace std::string_view_literals;
  return ChildId{fnv1a(child, fnv1a("\0"sv, fnv1a(connection)))};
}
/// Stands for manual SAs where others have the name of their connection: no connection has it.
inline constexpr std::string_view kManualConnection = "manual";
/// Both directions of a manual SA are one. No connection has an empty name.
constexpr ChildId manual_id(std::string_view name) { return child_id({}, name); }

}  // namespace culvert::config
