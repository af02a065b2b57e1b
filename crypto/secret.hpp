// Memory for keys: wiped when it ends, left out of core dumps, compared in constant time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
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

/// Sets up pages for keys that are locked and in no dump, with guard pages around; before the first
/// key, once in a process. False when the pages could not be locked (no CAP_IPC_LOCK and a small
/// RLIMIT_MEMLOCK): keys are still kept apart and wiped, but may be swapped out.
bool lock_key_memory();

/// From those pages, or from the heap without `lock_key_memory` or when they are full. Throws
/// std::bad_alloc.
void* allocate_key_memory(std::size_t size);
/// Wipes it first.
void free_key_memory(void* memory, std::size_t size) noexcept;

/// For std::vector: every buffer that it had is wiped.
template <typename T>
struct KeyAllocator {
  using value_type = T;
  KeyAllocator() = default;
  template <typename U>
  explicit KeyAllocator(const KeyAllocator<U>& /*other*/) {}
  T* allocate(std::size_t count) { return static_cast<T*>(allocate_key_memory(count * sizeof(T))); }
  void deallocate(T* memory, std::size_t count) noexcept {
    free_key_memory(memory, count * sizeof(T));
  }
  friend bool operator==(const KeyAllocator&, const KeyAllocator&) { return true; }
};

/// Secret bytes of variable length. Move-only in spirit: a copy is explicit (`clone`).
class SecretBytes {
 public:
  SecretBytes() = default;
  explicit SecretBytes(std::size_t size) : bytes_(size) {}
  explicit SecretBytes(Bytes source) : bytes_(source.begin(), source.end()) {}
  SecretBytes(SecretBytes&&) noexcept = default;
  SecretBytes& operator=(SecretBytes&& other) noexcept {
    if (this != &other) bytes_ = std::move(other.bytes_);
    return *this;
  }
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes() = default;

  [[nodiscard]] SecretBytes clone() const { return SecretBytes(view()); }
  [[nodiscard]] Bytes view() const { return bytes_; }
  [[nodiscard]] MutableBytes span() { return bytes_; }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] bool empty() const { return bytes_.empty(); }

 private:
  std::vector<std::uint8_t, KeyAllocator<std::uint8_t>> bytes_;
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
