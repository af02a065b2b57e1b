// The channel's memory: made and sealed by the server, checked and mapped by the client.
#pragma once

#include <expected>
#include <string>
#include <utility>

#include "channel/layout.hpp"

namespace culvert::channel {

/// Owns a file descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();
  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] bool valid() const { return number_ >= 0; }
  void reset() { *this = Descriptor(); }

 private:
  int number_ = -1;
};

/// A mapping of the whole memory, left out of core dumps and of forked children.
class Mapping {
 public:
  /// A fresh zeroed memfd with its header, sealed against shrinking, growing and further seals: a
  /// page that is mapped can then never vanish (SIGBUS) under either end.
  static std::expected<Mapping, std::string> create();
  /// Maps what a server passed, if its seals, size and header are exactly ours. The error is a
  /// sentence.
  static std::expected<Mapping, std::string> open(Descriptor file);

  Mapping(Mapping&& other) noexcept
      : file_(std::move(other.file_)), memory_(std::exchange(other.memory_, nullptr)) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping();

  [[nodiscard]] Memory& memory() const { return *memory_; }
  [[nodiscard]] int file() const { return file_.number(); }

 private:
  Mapping(Descriptor file, Memory* memory) : file_(std::move(file)), memory_(memory) {}
  static std::expected<Mapping, std::string> map(Descriptor file);

  Descriptor file_;
  Memory* memory_;
};

}  // namespace culvert::channel
