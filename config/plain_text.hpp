// Whether bytes are text that a YAML reader should see at all.
#pragma once

#include <optional>
#include <string_view>

#include "config/yaml_tree.hpp"

namespace culvert::config {

/// The first thing that keeps `text` from being plain UTF-8 text of bounded size: a control
/// character, a malformed UTF-8 sequence (RFC 3629), a tab in the indentation; nullopt when none.
std::optional<YamlError> find_foreign_byte(std::string_view text);

}  // namespace culvert::config
