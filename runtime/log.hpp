// Structured log events on stderr, one line each:
//   2026-01-31T12:00:00.123456Z info sa_installed connection=branch spi=0xc0000101 note="two words"
// Values are escaped, so that text from a peer can neither start a line nor a key of its own.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace culvert::runtime {

enum class Level : std::uint8_t { debug, info, warning, error };

/// The word that stands in the line: "debug", "info", "warning", "error".
std::string_view to_string(Level level);

/// A value rendered for a log line, not yet escaped.
class LogValue {
 public:
  LogValue(bool value) : text_(value ? "true" : "false") {}
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  LogValue(T value) : text_(std::to_string(value)) {}
  LogValue(double value);
  LogValue(const char* value) : text_(value) {}
  LogValue(std::string_view value) : text_(value) {}
  LogValue(std::string value) : text_(std::move(value)) {}
  [[nodiscard]] std::string_view text() const { return text_; }

 private:
  std::string text_;
};

struct LogField {
  std::string_view key;  ///< ours: a literal in snake_case
  LogValue value;
};

/// Writes one event. `event` is a literal in snake_case: what happened, not a sentence. Any thread.
void log(Level level, std::string_view event, std::initializer_list<LogField> fields = {});
/// The same with fields that were gathered at run time.
void log_fields(Level level, std::string_view event, std::span<const LogField> fields);

/// Events below `level` are not written. The default is info.
void set_log_level(Level level);
[[nodiscard]] bool log_enabled(Level level);

/// The line's part behind the timestamp: `level event key=value …`, without a newline.
std::string format_event(Level level, std::string_view event,
                         std::initializer_list<LogField> fields);
/// The same with fields that were gathered at run time.
std::string format_event_fields(Level level, std::string_view event,
                                std::span<const LogField> fields);

/// A value as it stands behind `key=`: bare when it is a plain word, else in double quotes with
/// `\"`, `\\`, `\n`, `\r`, `\t` and `\xNN` for every other control byte and for bytes that are not
/// UTF-8. Never contains a newline, an escape sequence or an unescaped quote.
std::string logfmt_value(std::string_view untrusted);

}  // namespace culvert::runtime
