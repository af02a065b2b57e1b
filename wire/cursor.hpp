// Bounds-checked reading and writing of untrusted bytes, and big-endian integer types.
// The only way from received bytes to values; nothing here allocates or throws.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <span>
#include <string_view>
#include <type_traits>

namespace culvert::wire {

using Bytes = std::span<const std::uint8_t>;
using MutableBytes = std::span<std::uint8_t>;

/// An integer in network byte order. Converts only explicitly: `.host()` and `Be16{host_value}`.
template <typename T>
class BigEndian {
  static_assert(std::is_unsigned_v<T>);

 public:
  constexpr BigEndian() = default;
  constexpr explicit BigEndian(T host_value) : raw_(swap(host_value)) {}
  /// Wraps a value that is in network order already (as DPDK's headers hold it).
  static constexpr BigEndian from_raw(T network_value) {
    BigEndian result;
    result.raw_ = network_value;
    return result;
  }
  [[nodiscard]] constexpr T host() const { return swap(raw_); }
  [[nodiscard]] constexpr T raw() const { return raw_; }
  friend constexpr bool operator==(BigEndian, BigEndian) = default;

 private:
  static constexpr T swap(T value) {
    if constexpr (sizeof(T) == 1 || std::endian::native == std::endian::big) {
      return value;
    } else if constexpr (sizeof(T) == 2) {
      return __builtin_bswap16(value);
    } else if constexpr (sizeof(T) == 4) {
      return __builtin_bswap32(value);
    } else {
      return __builtin_bswap64(value);
    }
  }
  T raw_{};
};
using Be16 = BigEndian<std::uint16_t>;
using Be32 = BigEndian<std::uint32_t>;
using Be64 = BigEndian<std::uint64_t>;

/// Why a read failed: which field (a static string in the RFC's words), where, and what was short.
struct ParseError {
  std::string_view field;       ///< static storage
  std::string_view problem;     ///< static storage: "truncated", "length below header", …
  std::size_t offset = 0;       ///< bytes from the start of the buffer the reader was made on
  std::size_t needed = 0;       ///< bytes the field needs (0: not a length problem)
  std::size_t available = 0;    ///< bytes that were left
};

template <typename T>
using Parsed = std::expected<T, ParseError>;

/// A cursor over received bytes. Cannot run over the end; a failed read does not advance.
class Reader {
 public:
  explicit constexpr Reader(Bytes bytes, std::size_t base_offset = 0)
      : bytes_(bytes), base_(base_offset) {}

  [[nodiscard]] constexpr std::size_t remaining() const { return bytes_.size() - at_; }
  [[nodiscard]] constexpr std::size_t offset() const { return base_ + at_; }
  [[nodiscard]] constexpr bool empty() const { return at_ == bytes_.size(); }
  [[nodiscard]] constexpr Bytes rest() const { return bytes_.subspan(at_); }

  [[nodiscard]] Parsed<std::uint8_t> u8(std::string_view field) { return integer<std::uint8_t>(field); }
  [[nodiscard]] Parsed<std::uint16_t> u16(std::string_view field) { return integer<std::uint16_t>(field); }
  [[nodiscard]] Parsed<std::uint32_t> u32(std::string_view field) { return integer<std::uint32_t>(field); }
  [[nodiscard]] Parsed<std::uint64_t> u64(std::string_view field) { return integer<std::uint64_t>(field); }

  /// The next `count` bytes as a view into the buffer.
  [[nodiscard]] Parsed<Bytes> bytes(std::size_t count, std::string_view field) {
    if (count > remaining()) return std::unexpected(truncated(field, count));
    const Bytes view = bytes_.subspan(at_, count);
    at_ += count;
    return view;
  }
  /// A reader over the next `count` bytes; its offsets continue this reader's.
  [[nodiscard]] Parsed<Reader> sub(std::size_t count, std::string_view field) {
    const std::size_t start = offset();
    auto view = bytes(count, field);
    if (!view) return std::unexpected(view.error());
    return Reader(*view, start);
  }
  [[nodiscard]] Parsed<std::size_t> skip(std::size_t count, std::string_view field) {
    if (count > remaining()) return std::unexpected(truncated(field, count));
    at_ += count;
    return count;
  }
  [[nodiscard]] ParseError invalid(std::string_view field, std::string_view problem) const {
    return {field, problem, offset(), 0, remaining()};
  }

 private:
  [[nodiscard]] ParseError truncated(std::string_view field, std::size_t needed) const {
    return {field, "truncated", offset(), needed, remaining()};
  }
  template <typename T>
  Parsed<T> integer(std::string_view field) {
    if (sizeof(T) > remaining()) return std::unexpected(truncated(field, sizeof(T)));
    T raw{};
    std::memcpy(&raw, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return BigEndian<T>::from_raw(raw).host();
  }

  Bytes bytes_;
  std::size_t at_ = 0;
  std::size_t base_ = 0;
};

/// A cursor that fills a fixed buffer. A write that does not fit sets `overflowed()` and writes
/// nothing; check once at the end.
class Writer {
 public:
  explicit constexpr Writer(MutableBytes buffer) : buffer_(buffer) {}

  void u8(std::uint8_t value) { integer(value); }
  void u16(std::uint16_t value) { integer(value); }
  void u32(std::uint32_t value) { integer(value); }
  void u64(std::uint64_t value) { integer(value); }
  void bytes(Bytes source) {
    if (!fits(source.size())) return;
    if (!source.empty()) std::memcpy(buffer_.data() + at_, source.data(), source.size());
    at_ += source.size();
  }
  void zeros(std::size_t count) {
    if (!fits(count)) return;
    if (count != 0) std::memset(buffer_.data() + at_, 0, count);
    at_ += count;
  }
  /// Overwrites two bytes written before (a length field known only afterwards).
  void patch_u16(std::size_t position, std::uint16_t value) {
    if (at_ < sizeof(value) || position > at_ - sizeof(value)) {
      overflowed_ = true;
      return;
    }
    const std::uint16_t raw = Be16{value}.raw();
    std::memcpy(buffer_.data() + position, &raw, sizeof(raw));
  }
  [[nodiscard]] constexpr std::size_t size() const { return at_; }
  [[nodiscard]] constexpr bool overflowed() const { return overflowed_; }
  [[nodiscard]] Bytes written() const { return Bytes(buffer_.data(), at_); }

 private:
  bool fits(std::size_t count) {
    if (overflowed_ || count > buffer_.size() - at_) {
      overflowed_ = true;
      return false;
    }
    return true;
  }
  template <typename T>
  void integer(T value) {
    if (!fits(sizeof(T))) return;
    const T raw = BigEndian<T>{value}.raw();
    std::memcpy(buffer_.data() + at_, &raw, sizeof(T));
    at_ += sizeof(T);
  }

  MutableBytes buffer_;
  std::size_t at_ = 0;
  bool overflowed_ = false;
};

}  // namespace culvert::wire
