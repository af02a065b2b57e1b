#include "runtime/log.hpp"

#include <algorithm>
#include <cctype>
#include <memory>

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace culvert::runtime {
namespace {

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warning:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

/// A logger of our own, not spdlog's default: a library that also uses spdlog keeps its lines.
spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("culvert",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_formatter(std::make_unique<spdlog::pattern_formatter>(
        "%Y-%m-%dT%H:%M:%S.%fZ %v", spdlog::pattern_time_type::utc));
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::debug);
    // A full disk behind stderr must not end a gateway.
    made->set_error_handler([](const std::string&) {});
    return made;
  }();
  return *instance;
}

bool is_plain(char character) {
  const auto byte = static_cast<unsigned char>(character);
  return byte > 0x20 && byte < 0x7F && character != '"' && character != '\\' && character != '=';
}

/// Length of the well-formed UTF-8 sequence of printable meaning at `text`, 0 when there is none.
/// C1 controls (U+0080..U+009F) count as none: terminals act on them.
std::size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
  const unsigned char lead = byte(0);
  const std::size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2U
                             : (lead & 0xF0U) == 0xE0U      ? 3U
                             : lead >= 0xF0 && lead <= 0xF4 ? 4U
                                                            : 0U;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t index = 1; index < length; ++index) {
    if ((byte(index) & 0xC0U) != 0x80U) return 0;
  }
  const unsigned char second = byte(1);
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool surrogate = lead == 0xED && second >= 0xA0;
  const bool beyond = lead == 0xF4 && second >= 0x90;
  const bool c1_control = lead == 0xC2 && second < 0xA0;
  // U+2028/2029 end a line and U+202A..202E, U+2066..2069 turn the direction of what follows.
  const bool line_or_direction =
      lead == 0xE2 && ((second == 0x80 && byte(2) >= 0xA8 && byte(2) <= 0xAE) ||
                       (second == 0x81 && byte(2) >= 0xA6 && byte(2) <= 0xA9));
  return overlong || surrogate || beyond || c1_control || line_or_direction ? 0 : length;
}

void append_escaped(std::string& line, char character) {
  constexpr std::string_view kHex = "0123456789abcdef";
  switch (character) {
    case '"':
      line += "\\\"";
      return;
    case '\\':
      line += "\\\\";
      return;
    case '\n':
      line += "\\n";
      return;
    case '\r':
      line += "\\r";
      return;
    case '\t':
      line += "\\t";
      return;
  }
  const auto byte = static_cast<unsigned char>(character);
  if (byte >= 0x20 && byte < 0x7F) {
    line += character;
    return;
  }
  line += "\\x";
  line += kHex[byte >> 4U];
  line += kHex[byte & 0x0FU];
}

}  // namespace

std::string_view to_string(Level level) {
  switch (level) {
    case Level::debug:
      return "debug";
    case Level::info:
      return "info";
    case Level::warning:
      return "warning";
    case Level::error:
      return "error";
  }
  return "error";
}

LogValue::LogValue(double value) : text_(fmt::format("{:.6g}", value)) {}

std::string logfmt_value(std::string_view untrusted) {
  if (!untrusted.empty() && std::ranges::all_of(untrusted, is_plain)) return std::string(untrusted);
  std::string quoted = "\"";
  while (!untrusted.empty()) {
    const std::size_t length = utf8_sequence(untrusted);
    if (length != 0) {
      quoted += untrusted.substr(0, length);
    } else {
      append_escaped(quoted, untrusted.front());
    }
    untrusted.remove_prefix(std::max<std::size_t>(length, 1));
  }
  quoted += '"';
  return quoted;
}

std::string format_event_fields(Level level, std::string_view event,
                                std::span<const LogField> fields) {
  std::string line(to_string(level));
  line += ' ';
  line += event;
  for (const LogField& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    line += logfmt_value(field.value.text());
  }
  return line;
}

std::string format_event(Level level, std::string_view event,
                         std::initializer_list<LogField> fields) {
  return format_event_fields(level, event, std::span(fields.begin(), fields.size()));
}

void log(Level level, std::string_view event, std::initializer_list<LogField> fields) {
  log_fields(level, event, std::span(fields.begin(), fields.size()));
}

void log_fields(Level level, std::string_view event, std::span<const LogField> fields) {
  if (!log_enabled(level)) return;
  // Handed over as a finished string: braces in a peer's text are no format to spdlog.
  logger().log(spdlog_level(level),
               spdlog::string_view_t(format_event_fields(level, event, fields)));
}

void set_log_level(Level level) { logger().set_level(spdlog_level(level)); }

bool log_enabled(Level level) { return logger().should_log(spdlog_level(level)); }

}  // namespace culvert::runtime
