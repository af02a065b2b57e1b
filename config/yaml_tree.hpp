// YAML text as a tree whose every value and key knows its place in the file. The only file that
// sees the YAML library; its exceptions stop here.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.hpp"

namespace culvert::config {

/// One value of the file.
struct Node {
  enum class Kind : std::uint8_t { null, scalar, list, map };
  struct Entry;

  Kind kind = Kind::null;
  Location location;
  std::string text;            ///< scalar: as written, quotes and escapes resolved
  bool quoted = false;         ///< scalar: stood in quotes, its text begins one column later
  std::vector<Node> items;     ///< list
  std::vector<Entry> entries;  ///< map, in file order, keys not yet checked for duplicates
};
struct Node::Entry {
  std::string key;
  Location location;  ///< of the key
  Node value;         ///< an empty value stands where its key stands
};

/// Why a text is not a tree: where, what stands there, what may stand there, what to write.
struct YamlError {
  Location location;
  std::string found, expected, advice;
};

/// Reads one document. Refuses what a configuration never needs and what could make the reader
/// slow or its memory large: aliases and anchors, tags, several documents, keys that are not
/// words, more than limits::kDepth levels, limits::kNodes values or limits::kFileBytes bytes,
/// control characters, tabs in the indentation, text that is not UTF-8. Never throws.
std::expected<Node, YamlError> parse_yaml(std::string_view text);

}  // namespace culvert::config
