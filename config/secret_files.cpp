// Pre-shared keys and manual keys from their files. What was read is wiped on every way out.
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.hpp"
#include "config/limits.hpp"

namespace culvert::config {
namespace {

using Secret = std::expected<crypto::SecretBytes, std::string>;

/// A file descriptor that closes itself.
struct Descriptor {
  explicit Descriptor(int descriptor) : number(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  int number;
};

crypto::SecretBytes prefix_of(const crypto::SecretBytes& bytes, std::size_t size) {
  return crypto::SecretBytes(bytes.view().first(size));
}

/// The whole of a small regular file.
Secret read_small_file(const std::filesystem::path& file) {
  // O_NONBLOCK: a FIFO in the secret's place must not hold a daemon up.
  const Descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (opened.number < 0)
    return std::unexpected("cannot open " + file.string() + ": " + std::strerror(errno));
  struct stat status{};
  if (::fstat(opened.number, &status) != 0 || !S_ISREG(status.st_mode)) {
    return std::unexpected(file.string() + " is not a regular file");
  }
  crypto::SecretBytes buffer(limits::kSecretBytes + 1);
  std::size_t size = 0;
  while (size < buffer.size()) {
    const ssize_t got = ::read(opened.number, buffer.span().data() + size, buffer.size() - size);
    if (got < 0)
      return std::unexpected("cannot read " + file.string() + ": " + std::strerror(errno));
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > limits::kSecretBytes) {
    return std::unexpected(file.string() + " is larger than " +
                           std::to_string(limits::kSecretBytes) + " bytes");
  }
  return prefix_of(buffer, size);
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
  return bytes.size() >= 2 && bytes[0] == first && bytes[1] == second;
}

}  // namespace

std::expected<crypto::SecretBytes, std::string> read_psk(const std::filesystem::path& file) {
  auto content = read_small_file(file);
  if (!content) return content;
  const crypto::Bytes text = content->view().first(without_newline(content->view()));
  if (text.empty()) return std::unexpected(file.string() + " is empty");
  if (begins_with(text, '0', 'x')) return decode_hex(text.subspan(2), file);
  if (begins_with(text, '0', 's')) return decode_base64(text.subspan(2), file);
  return crypto::SecretBytes(text);
}

std::expected<crypto::SecretBytes, std::string> read_key(const std::filesystem::path& file) {
  auto content = read_small_file(file);
  if (!content) return content;
  crypto::Bytes text = content->view().first(without_newline(content->view()));
  if (begins_with(text, '0', 'x')) text = text.subspan(2);
  return decode_hex(text, file);
}

}  // namespace culvert::config
