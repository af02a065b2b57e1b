#include "config/plain_text.hpp"

#include <array>
#include <cstdint>

#include "config/limits.hpp"

namespace culvert::config {
namespace {

std::string byte_name(unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  return {'b', 'y', 't', 'e', ' ', '0', 'x', kDigits[byte >> 4U], kDigits[byte & 0xfU]};
}

/// Bytes of the UTF-8 sequence that starts at `at`; 0 when it is malformed (RFC 3629 §4).
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
  const unsigned char lead = byte(at);
  const std::size_t length = lead < 0x80   ? 1
                             : lead < 0xc2 ? 0
                             : lead < 0xe0 ? 2
                             : lead < 0xf0 ? 3
                                           : 4;
  if (length == 0 || lead > 0xf4 || at + length > text.size()) return 0;
  for (std::size_t index = at + 1; index < at + length; ++index) {
    if ((byte(index) & 0xc0U) != 0x80) return 0;
  }
  // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte.
  if (lead == 0xe0 && byte(at + 1) < 0xa0) return 0;
  if (lead == 0xed && byte(at + 1) > 0x9f) return 0;
  if (lead == 0xf0 && byte(at + 1) < 0x90) return 0;
  if (lead == 0xf4 && byte(at + 1) > 0x8f) return 0;
  return length;
}

bool is_control(unsigned char byte) {
  return (byte < 0x20 && byte != '\n' && byte != '\r' && byte != '\t') || byte == 0x7f;
}

}  // namespace

std::optional<YamlError> find_foreign_byte(std::string_view text) {
  if (text.size() > limits::kFileBytes) {
    return YamlError{{1, 1},
                     std::to_string(text.size()) + " bytes",
                     "at most " + std::to_string(limits::kFileBytes) + " bytes",
                     "split the gateway or check that this is the right file"};
  }
  Location at{1, 1};
  bool in_indentation = true;
  for (std::size_t index = 0; index < text.size();) {
    const auto byte = static_cast<unsigned char>(text[index]);
    const std::size_t length = sequence_length(text, index);
    if (length == 0) {
      return YamlError{at, byte_name(byte), "UTF-8 text", "save the file as UTF-8"};
    }
    if (is_control(byte)) {
      return YamlError{at, byte_name(byte), "text without control characters",
                       "check that this is a YAML file"};
    }
    if (byte == '\t' && in_indentation) {
      return YamlError{at, "a tab in the indentation", "spaces (YAML 1.2 §6.1)",
                       "replace each tab by two spaces"};
    }
    if (byte == '\n') {
      at = {at.line + 1, 1};
      in_indentation = true;
    } else {
      at.column += static_cast<std::uint32_t>(length);
      in_indentation = in_indentation && byte == ' ';
    }
    index += length;
  }
  return std::nullopt;
}

}  // namespace culvert::config
