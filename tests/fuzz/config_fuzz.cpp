// Any bytes as a configuration file: a Config without errors, or errors with places.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "config/config.hpp"

namespace {

/// What is read is printed as what would be read again.
void check_printing(const std::vector<culvert::wire::TrafficSelector>& selectors) {
  for (const auto& one : selectors) {
    if (culvert::wire::TrafficSelector::parse(one.to_string()) != one) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto result = culvert::config::load_text(text, "fuzz.yaml");
  bool error = false;
  for (const auto& diagnostic : result.diagnostics) {
    error = error || diagnostic.severity == culvert::config::Severity::error;
    if (diagnostic.location.line == 0 || diagnostic.to_string().empty()) std::abort();
  }
  if (result.ok() == error) std::abort();
  if (!result.ok()) return 0;
  for (const auto& connection : result.config->connections) {
    for (const auto& child : connection.children) {
      check_printing(child.local_ts);
      check_printing(child.remote_ts);
    }
  }
  return 0;
}
