// Memory for keys: wiped when it ends, left out of core dumps, compared in constant time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace culvert::crypto {

using Bytes = std::span<const std::uint8_t>;
using MutableBytes = std::span<std::uint8_t>;

/// Overwrites memory in a way the compiler may not remove.
void wipe(void* memory, std::size_t size) noexcept;

/// Whether two byte strings are equal, in time that depends only on their length. Strings of
/// different length are unequal at once.
[[nodiscard]] bool equal_constant_time(Bytes a, Bytes b) noexcept;

/// Excludes [memory, memory + size) from core dumps and fork (whole pages); best effort.
void exclude_from_dumps(void* memory, std::size_t size) noexcept;

/// Secret bytes of variable length. Move-only in spirit: a copy is explicit (`clone`).
class SecretBytes {
 public:
  SecretBytes() = default;
  explicit SecretBytes(std::size_t size);
  explicit SecretBytes(Bytes source);
  SecretBytes(SecretBytes&&) noexcept = default;
  SecretBytes& operator=(SecretBytes&&) noexcept;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes();

  [[nodiscard]] SecretBytes clone() const { return SecretBytes(view()); }
  [[nodiscard]] Bytes view() const { return bytes_; }
  [[nodiscard]] MutableBytes span() { return bytes_; }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] bool empty() const { return bytes_.empty(); }

 private:
  std::vector<std::uint8_t> bytes_;
};

/// Secret bytes of bounded length in place, trivially copyable so that they can cross the channel;
/// whoever holds one calls `wipe()` when done with it.
template <std::size_t kCapacity>
struct InlineSecret {
  std::array<std::uint8_t, kCapacity> bytes{};
  std::uint16_t length = 0;

  [[nodiscard]] Bytes view() const { return Bytes(bytes.data(), length <= kCapacity ? length : 0); }
  /// False when `source` does not fit.
  [[nodiscard]] bool assign(Bytes source) {
    if (source.size() > kCapacity) return false;
    if (!source.empty()) std::memcpy(bytes.data(), source.data(), source.size());
    length = static_cast<std::uint16_t>(source.size());
    return true;
  }
  void wipe() noexcept { crypto::wipe(this, sizeof(*this)); }
};

}  // namespace culvert::crypto
