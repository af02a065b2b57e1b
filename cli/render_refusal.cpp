#include <spdlog/fmt/fmt.h>

#include "cli/json_text.hpp"
#include "cli/render.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;

/// ", port 4000 -> 53", ", type 3 code 1"; "" when the packet shows neither.
std::string ports_of(const json& seen) {
  if (member(seen, "source_port").is_number()) {
    return fmt::format(", port {} -> {}", text(seen, "source_port"),
                       text(seen, "destination_port"));
  }
  if (member(seen, "icmp_type").is_number()) {
    return fmt::format(", type {} code {}", text(seen, "icmp_type"), text(seen, "icmp_code"));
  }
  return "";
}

}  // namespace

std::string render_refusal(const json& refusal, const char* indent) {
  if (!refusal.is_object()) return "";
  const json& seen = member(refusal, "seen");
  const json& expected = member(refusal, "expected");
  return fmt::format("{}refused {} ago: {} {} -> {}{}\n{}  agreed upon: {} -> {}\n", indent,
                     human_duration(member(refusal, "age_seconds")), text(seen, "protocol"),
                     text(seen, "source"), text(seen, "destination"), ports_of(seen), indent,
                     text(expected, "source"), text(expected, "destination"));
}

}  // namespace culvert::cli
