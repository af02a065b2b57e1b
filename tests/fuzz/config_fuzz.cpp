// Any bytes as a configuration file: a Config without errors, or errors with places.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/config.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto result = culvert::config::load_text(text, "fuzz.yaml");
  bool error = false;
  for (const auto& diagnostic : result.diagnostics) {
    error = error || diagnostic.severity == culvert::config::Severity::error;
    if (diagnostic.location.line == 0 || diagnostic.to_string().empty()) std::abort();
  }
  if (result.ok() == error) std::abort();
  return 0;
}
