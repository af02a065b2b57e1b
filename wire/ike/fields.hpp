// A payload's fields read one after another. The first failure is remembered and later reads yield
// nothing, so that a parser reads as the list of fields in the RFC's figure.
#pragma once

#include <utility>
#include <vector>

#include "wire/cursor.hpp"

namespace culvert::wire::ike {

class Fields {
 public:
  explicit Fields(Reader reader) : reader_(reader) {}

  std::uint8_t u8(std::string_view field) { return take(reader_.u8(field)); }
  std::uint16_t u16(std::string_view field) { return take(reader_.u16(field)); }
  std::uint32_t u32(std::string_view field) { return take(reader_.u32(field)); }
  std::uint64_t u64(std::string_view field) { return take(reader_.u64(field)); }
  /// Reserved bytes: whatever stands there is ignored on receipt (RFC 7296 §3.1).
  void reserved(std::size_t count) {
    if (ok()) take(reader_.skip(count, "reserved"));
  }
  /// The next `count` bytes where they are.
  Bytes view(std::size_t count, std::string_view field) {
    return ok() ? take(reader_.bytes(count, field)) : Bytes{};
  }
  std::vector<std::uint8_t> bytes(std::size_t count, std::string_view field) {
    const Bytes seen = view(count, field);
    return {seen.begin(), seen.end()};
  }
  /// Everything that is left.
  std::vector<std::uint8_t> rest(std::string_view field) { return bytes(remaining(), field); }
  /// The fields of a substructure of `count` bytes; failed when they are not there.
  Fields sub(std::size_t count, std::string_view field) {
    Fields part{Reader{Bytes{}}};
    auto reader = reader_.sub(count, field);
    if (ok() && reader) {
      part.reader_ = *reader;
    } else {
      if (ok()) fail(reader.error());
      part.fail(error_);
    }
    return part;
  }

  /// Refuses a value that was read; the first refusal counts.
  void refuse(std::string_view field, std::string_view problem) {
    if (ok()) fail(reader_.invalid(field, problem));
  }
  void require(bool holds, std::string_view field, std::string_view problem) {
    if (!holds) refuse(field, problem);
  }
  /// Takes over a substructure's failure.
  void join(const Fields& part) {
    if (ok() && !part.ok()) fail(part.error_);
  }

  [[nodiscard]] bool ok() const { return !failed_; }
  [[nodiscard]] std::size_t remaining() const { return reader_.remaining(); }
  [[nodiscard]] std::size_t offset() const { return reader_.offset(); }

  /// The value, if every field was there and nothing is left over.
  template <typename T>
  [[nodiscard]] Parsed<T> finish(T value, std::string_view structure) {
    require(remaining() == 0, structure, "trailing bytes");
    if (failed_) return std::unexpected(error_);
    return value;
  }

 private:
  void fail(const ParseError& error) {
    error_ = error;
    failed_ = true;
  }
  template <typename T>
  T take(Parsed<T> parsed) {
    if (failed_) return T{};
    if (parsed) return *parsed;
    fail(parsed.error());
    return T{};
  }

  Reader reader_;
  // Not an optional: g++ 12 then warns of uninitialised members.
  ParseError error_;
  bool failed_ = false;
};

}  // namespace culvert::wire::ike
