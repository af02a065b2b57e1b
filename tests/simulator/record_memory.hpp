// What a data plane holds for the key daemon's records. Large and mostly never written, so it is
// only taken when somebody looks, and a copy takes what was written.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "crypto/secret.hpp"
#include "ike/daemon/checkpoint.hpp"

namespace culvert::simulation {

class RecordMemory {
 public:
  RecordMemory() = default;
  explicit RecordMemory(std::size_t size) : size_(size) {}
  RecordMemory(const RecordMemory& other) : size_(other.size_) { write(0, other.written()); }
  RecordMemory& operator=(const RecordMemory& other) {
    if (octets_ == nullptr || size_ != other.size_) return *this = RecordMemory(other);
    if (this == &other) return *this;
    std::ranges::fill(bytes().first(real_), std::uint8_t{0});
    real_ = ike::Checkpoint::kHeaderBytes;
    write(0, other.written());
    return *this;
  }
  RecordMemory(RecordMemory&&) = default;
  RecordMemory& operator=(RecordMemory&&) = default;
  ~RecordMemory() = default;

  /// All of it; zeros before anybody writes. make_real() comes before a write beyond the header.
  [[nodiscard]] crypto::MutableBytes bytes() {
    if (octets_ == nullptr) {
      octets_.reset(static_cast<std::uint8_t*>(std::calloc(size_, 1)));
      if (octets_ == nullptr) throw std::bad_alloc();
    }
    return {octets_.get(), size_};
  }
  bool make_real(std::size_t size) {
    if (size > size_) return false;
    real_ = std::max(real_, size);
    return true;
  }
  void write(std::size_t offset, crypto::Bytes octets) {
    if (octets.empty()) return;
    make_real(offset + octets.size());
    std::ranges::copy(octets, bytes().subspan(offset).begin());
  }

 private:
  struct Free {
    void operator()(std::uint8_t* octets) const { std::free(octets); }
  };

  [[nodiscard]] crypto::Bytes written() const {
    if (octets_ == nullptr) return {};
    return {octets_.get(), real_};
  }

  std::size_t size_ = 0;
  std::size_t real_ = ike::Checkpoint::kHeaderBytes;
  std::unique_ptr<std::uint8_t, Free> octets_;
};

}  // namespace culvert::simulation
