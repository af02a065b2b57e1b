#include "cli/unreachable.hpp"

#include <spdlog/fmt/fmt.h>

#include "cli/json_text.hpp"
#include "cli/render.hpp"

namespace culvert::cli {

using nlohmann::json;

json unreachable_now(const json& child) {
  const json& said = member(child, "unreachable");
  if (!said.is_object()) return nullptr;
  const json& last_received = member(member(child, "in"), "last_packet_seconds");
  const double age = number(said, "age_seconds");
  const bool is_silent_since = !last_received.is_number() || last_received.get<double>() > age;
  return age <= kSaidLatelySeconds || is_silent_since ? said : json(nullptr);
}

std::string said_of_esp(const json& unreachable) {
  return fmt::format("{} says of {} to {}: {}", text(unreachable, "from"),
                     is_true(unreachable, "udp_encapsulation") ? "ESP in UDP" : "ESP",
                     text(unreachable, "to"), text(unreachable, "meaning"));
}

std::string render_unreachable(const json& unreachable, const char* indent, bool is_told_above) {
  if (!unreachable.is_object()) return "";
  std::string lines = fmt::format(
      "{}{}, {} ago, {} message(s) in all\n", indent, said_of_esp(unreachable),
      human_duration(member(unreachable, "age_seconds")), text(unreachable, "messages"));
  if (!is_told_above) {
    lines += fmt::format("{}  what to do: {}\n", indent, text(unreachable, "remedy"));
  }
  return lines;
}

}  // namespace culvert::cli
