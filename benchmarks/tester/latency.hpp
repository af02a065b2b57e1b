// How long packets took, kept in constant memory: bounds are exact to 1/32.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace culvert::benchmarks {

class Latencies {
 public:
  void add(std::uint64_t cycles) {
    ++counts_[cell_of(cycles)];
    ++total_;
    most_ = std::max(most_, cycles);
  }
  [[nodiscard]] std::uint64_t total() const { return total_; }
  [[nodiscard]] std::uint64_t most() const { return most_; }
  /// So many of the packets, 0 to 1, took no longer. 0 when there are none.
  [[nodiscard]] std::uint64_t percentile(double share) const {
    const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(total_) + 0.5);
    std::uint64_t seen = 0;
    for (std::size_t cell = 0; cell < counts_.size(); ++cell) {
      seen += counts_[cell];
      if (seen >= std::max<std::uint64_t>(wanted, 1)) return std::min(last_of(cell), most_);
    }
    return most_;
  }

 private:
  /// A power of two is divided into so many cells; what is below has a cell for each value.
  static constexpr unsigned kDivideBits = 5;
  static constexpr std::size_t kDivide = std::size_t{1} << kDivideBits;

  static std::size_t cell_of(std::uint64_t value) {
    if (value < kDivide) return static_cast<std::size_t>(value);
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - 1 - kDivideBits;
    return kDivide * (shift + 1) + static_cast<std::size_t>((value >> shift) - kDivide);
  }
  static std::uint64_t last_of(std::size_t cell) {
    if (cell < kDivide) return cell;
    const std::size_t shift = cell / kDivide - 1;
    return ((cell % kDivide + kDivide + 1) << shift) - 1;
  }

  std::array<std::uint64_t, kDivide * (64 - kDivideBits + 1)> counts_{};
  std::uint64_t total_ = 0, most_ = 0;
};

}  // namespace culvert::benchmarks
