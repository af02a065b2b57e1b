// Pre-shared keys and manual keys from their files. What was read is wiped on every way out.
#include <openssl/evp.h>

#include "config/config.hpp"
#include "config/file_bytes.hpp"
#include "config/limits.hpp"

namespace culvert::config {
namespace {

using Secret = std::expected<crypto::SecretBytes, std::string>;

crypto::SecretBytes prefix_of(const crypto::SecretBytes& bytes, std::size_t size) {
  return crypto::SecretBytes(bytes.view().first(size));
}

/// Bytes without one newline at the end (CR LF counts as one).
std::size_t without_newline(crypto::Bytes bytes) {
  std::size_t size = bytes.size();
  if (size > 0 && bytes[size - 1] == '\n') --size;
  if (size > 0 && size < bytes.size() && bytes[size - 1] == '\r') --size;
  return size;
}

int hex_digit(std::uint8_t character) {
  if (character >= '0' && character <= '9') return character - '0';
  if (character >= 'a' && character <= 'f') return character - 'a' + 10;
  if (character >= 'A' && character <= 'F') return character - 'A' + 10;
  return -1;
}

Secret decode_hex(crypto::Bytes digits, const std::filesystem::path& file) {
  if (digits.empty() || digits.size() % 2 != 0) {
    return std::unexpected(file.string() + " holds an odd number of hex digits, or none");
  }
  crypto::SecretBytes bytes(digits.size() / 2);
  for (std::size_t index = 0; index < bytes.size(); ++index) {
    const int high = hex_digit(digits[2 * index]);
    const int low = hex_digit(digits[2 * index + 1]);
    if (high < 0 || low < 0) {
      return std::unexpected(file.string() + " holds a character that is no hex digit");
    }
    bytes.span()[index] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return bytes;
}

Secret decode_base64(crypto::Bytes text, const std::filesystem::path& file) {
  if (text.empty() || text.size() % 4 != 0) {
    return std::unexpected(file.string() + " holds base64 of a wrong length");
  }
  crypto::SecretBytes bytes(text.size() / 4 * 3);
  const int size = EVP_DecodeBlock(bytes.span().data(), text.data(), static_cast<int>(text.size()));
  if (size < 0) return std::unexpected(file.string() + " holds a character that is not base64");
  std::size_t padding = 0;
  while (padding < 2 && text[text.size() - 1 - padding] == '=') ++padding;
  return prefix_of(bytes, static_cast<std::size_t>(size) - padding);
}

bool begins_with(crypto::Bytes bytes, char first, char second) {
  return bytes.size() >= 2 && bytes[0] == static_cast<std::uint8_t>(first) &&
         bytes[1] == static_cast<std::uint8_t>(second);
}

}  // namespace

std::expected<crypto::SecretBytes, std::string> read_psk(const std::filesystem::path& file) {
  auto content = read_bytes(file, limits::kSecretBytes);
  if (!content) return content;
  const crypto::Bytes text = content->view().first(without_newline(content->view()));
  if (text.empty()) return std::unexpected(file.string() + " is empty");
  if (begins_with(text, '0', 'x')) return decode_hex(text.subspan(2), file);
  if (begins_with(text, '0', 's')) return decode_base64(text.subspan(2), file);
  return crypto::SecretBytes(text);
}

std::expected<crypto::SecretBytes, std::string> read_key(const std::filesystem::path& file) {
  auto content = read_bytes(file, limits::kSecretBytes);
  if (!content) return content;
  crypto::Bytes text = content->view().first(without_newline(content->view()));
  if (begins_with(text, '0', 'x')) text = text.subspan(2);
  return decode_hex(text, file);
}

}  // namespace culvert::config
