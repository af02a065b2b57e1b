// Values to octets and back. A record's fields are named once (record_fields.hpp) and go through
// either of these two; a reader that meets something impossible stops there and gives defaults.
// Integers little-endian of their own width; lengths 32 bits.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "config/limits.hpp"
#include "crypto/secret.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::ike {

class RecordWriter {
 public:
  static constexpr bool kReads = false;

  template <typename Number>
  void number(const Number& value) {
    static_assert(std::endian::native == std::endian::little);
    append<sizeof(value)>(&value);
  }
  template <std::size_t kBytes>
  void array(const std::array<std::uint8_t, kBytes>& value) {
    append<kBytes>(value.data());
  }
  template <typename Enum>
  void choice(const Enum& value, Enum /*last*/) {
    number(value);
  }
  void instant(const Instant& value) { number(value.count()); }
  void seconds(std::uint64_t value) { number(value); }
  void octets(crypto::Bytes value, std::size_t /*most*/) {
    number(static_cast<std::uint32_t>(value.size()));
    if (!value.empty()) append(value.data(), value.size());
  }
  void secret(const crypto::SecretBytes& value, std::size_t most) { octets(value.view(), most); }
  void text(const std::string& value, std::size_t most) {
    octets({reinterpret_cast<const std::uint8_t*>(value.data()), value.size()}, most);
  }
  void count(std::size_t items) { number(static_cast<std::uint32_t>(items)); }
  void require(bool) {}
  [[nodiscard]] static bool ok() { return true; }

  [[nodiscard]] crypto::SecretBytes take() const {
    return crypto::SecretBytes(buffer_.view().first(size_));
  }

 private:
  template <std::size_t kSize>
  void append(const void* bytes) {
    if (kSize > buffer_.size() - size_) make_room(kSize);
    std::memcpy(buffer_.span().data() + size_, bytes, kSize);
    size_ += kSize;
  }
  void append(const void* bytes, std::size_t size) {
    if (size > buffer_.size() - size_) make_room(size);
    std::memcpy(buffer_.span().data() + size_, bytes, size);
    size_ += size;
  }
  void make_room(std::size_t size) {
    crypto::SecretBytes larger(std::max(2 * buffer_.size(), size_ + size + kFirstBytes));
    std::ranges::copy(buffer_.view().first(size_), larger.span().begin());
    buffer_ = std::move(larger);  // wipes the smaller one
  }

  /// An IKE SA with a child and its last answer.
  static constexpr std::size_t kFirstBytes = 2048;

  crypto::SecretBytes buffer_;
  std::size_t size_ = 0;
};

class RecordReader {
 public:
  static constexpr bool kReads = true;

  explicit RecordReader(crypto::Bytes bytes) : left_(bytes) {}

  template <typename Number>
  void number(Number& value) {
    std::uint64_t read = 0;
    const crypto::Bytes bytes = take(sizeof(Number));
    for (std::size_t at = bytes.size(); at-- > 0;) read = read << 8U | bytes[at];
    if constexpr (std::is_same_v<Number, bool>) {
      require(read <= 1);
      value = read == 1;
    } else {
      value = static_cast<Number>(read);
    }
  }
  template <std::size_t kBytes>
  void array(std::array<std::uint8_t, kBytes>& value) {
    const crypto::Bytes bytes = take(kBytes);
    if (ok_) std::ranges::copy(bytes, value.begin());
  }
  template <typename Enum>
  void choice(Enum& value, Enum last) {
    std::underlying_type_t<Enum> read{};
    number(read);
    require(read <= static_cast<std::underlying_type_t<Enum>>(last));
    value = ok_ ? static_cast<Enum>(read) : Enum{};
  }
  void instant(Instant& value) {
    std::int64_t read = 0;
    number(read);
    // Either clock's day of judgment: sums with it must not overflow.
    require(read >= 0 && read < std::int64_t{1} << 61);
    value = Instant(ok_ ? read : 0);
  }
  /// A length of time that a configuration may ask for: sums with instants must not overflow.
  void seconds(std::uint64_t& value) {
    number(value);
    require(value <= static_cast<std::uint64_t>(config::limits::kTimeMax.count()));
  }
  void octets(std::vector<std::uint8_t>& value, std::size_t most) {
    const crypto::Bytes bytes = take(length(most));
    value.assign(bytes.begin(), bytes.end());
  }
  void secret(crypto::SecretBytes& value, std::size_t most) {
    value = crypto::SecretBytes(take(length(most)));
  }
  void text(std::string& value, std::size_t most) {
    const crypto::Bytes bytes = take(length(most));
    value.assign(bytes.begin(), bytes.end());
  }
  /// How many items follow; each takes an octet at least.
  [[nodiscard]] std::size_t count(std::size_t most) {
    const std::size_t items = length(most);
    require(items <= left_.size());
    return ok_ ? items : 0;
  }
  void require(bool holds) { ok_ = ok_ && holds; }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return left_.empty(); }

 private:
  [[nodiscard]] std::size_t length(std::size_t most) {
    std::uint32_t read = 0;
    number(read);
    require(read <= most);
    return ok_ ? read : 0;
  }
  [[nodiscard]] crypto::Bytes take(std::size_t bytes) {
    require(bytes <= left_.size());
    if (!ok_) return {};
    const crypto::Bytes taken = left_.first(bytes);
    left_ = left_.subspan(bytes);
    return taken;
  }

  crypto::Bytes left_;
  bool ok_ = true;
};

}  // namespace culvert::ike
