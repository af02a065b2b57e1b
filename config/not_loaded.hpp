// What a daemon says where a file could not even be looked at.
#pragma once

#include <filesystem>
#include <string>

#include "config/config.hpp"

namespace culvert::config {

/// `why` is what load_file threw: there was no memory.
inline LoadResult not_loaded(const std::filesystem::path& file, const std::string& why) {
  Diagnostic diagnostic;
  diagnostic.file = file.string();
  diagnostic.location = {1, 1};
  diagnostic.found = "no way to load it (" + why + ")";
  diagnostic.expected = "a file that there is memory for";
  diagnostic.advice = "reload when there is some";
  return {std::nullopt, {std::move(diagnostic)}};
}

}  // namespace culvert::config
