// Memory that the data plane holds for the key daemon from one life of that to the next. Neither
// the data plane nor this file knows what stands in it: the key daemon's checkpoint, key material
// included. It is no file, is left out of core dumps, and its pages are locked where that is
// allowed, so that it reaches no disk.
#pragma once

#include <cstddef>
#include <expected>
#include <string>

#include "channel/mapping.hpp"
#include "crypto/secret.hpp"

namespace culvert::channel {

/// The data plane's hand on it.
class HeldMemory {
 public:
  /// `bytes` are promised, not taken: pages come as the key daemon uses them. A whole number of
  /// pages. Sealed in size, so that neither side can pull a page from under the other.
  static std::expected<HeldMemory, std::string> create(std::size_t bytes);
  HeldMemory(HeldMemory&& other) noexcept
      : file_(std::move(other.file_)),
        locked_(std::exchange(other.locked_, nullptr)),
        locked_bytes_(std::exchange(other.locked_bytes_, 0)) {}
  HeldMemory& operator=(HeldMemory&&) = delete;
  ~HeldMemory();

  [[nodiscard]] int file() const { return file_.number(); }
  /// Nobody has it mapped any more: keeps what is in use from being swapped out. Best effort.
  void lock();

 private:
  explicit HeldMemory(Descriptor file) : file_(std::move(file)) {}
  void unlock();

  Descriptor file_;
  void* locked_ = nullptr;
  std::size_t locked_bytes_ = 0;
};

/// The key daemon's.
class HeldMapping {
 public:
  /// Maps what the data plane passed, if it is sealed in size and large enough for `least` bytes.
  static std::expected<HeldMapping, std::string> open(const Descriptor& file, std::size_t least);
  HeldMapping(HeldMapping&& other) noexcept
      : file_(std::move(other.file_)),
        memory_(std::exchange(other.memory_, {})),
        real_(other.real_),
        locked_(other.locked_) {}
  HeldMapping& operator=(HeldMapping&&) = delete;
  ~HeldMapping();

  [[nodiscard]] crypto::MutableBytes memory() const { return memory_; }
  /// Sees to it that the pages below `end` exist, in whole pieces; false when the system has no
  /// memory for them (touching them would be a signal).
  [[nodiscard]] bool make_real(std::size_t end);
  /// Whether all pages so far are locked into memory.
  [[nodiscard]] bool locked() const { return locked_; }

 private:
  HeldMapping(Descriptor file, crypto::MutableBytes memory)
      : file_(std::move(file)), memory_(memory) {}

  Descriptor file_;
  crypto::MutableBytes memory_;
  std::size_t real_ = 0;
  bool locked_ = true;
};

}  // namespace culvert::channel
