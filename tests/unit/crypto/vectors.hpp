// What the tests of this room share: published vectors from tests/vectors, bytes from hexadecimal,
// and a Random that yields what a vector prescribes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/ike/ike_crypto.hpp"

namespace culvert::crypto::test {

using Buffer = std::vector<std::uint8_t>;

Buffer from_hex(std::string_view text);
Buffer copy(Bytes bytes);

/// One record: what stands at a name, as text or as bytes. A name that is missing fails the test.
class Vector {
 public:
  [[nodiscard]] std::string text(const std::string& name) const;
  [[nodiscard]] Buffer bytes(const std::string& name) const { return from_hex(text(name)); }
  void set(const std::string& name, std::string value) { fields_[name] = std::move(value); }
  [[nodiscard]] bool empty() const { return fields_.empty(); }

 private:
  std::map<std::string, std::string> fields_;
};

/// All records of a file of tests/vectors, at least one.
std::vector<Vector> read_vectors(const std::string& file);

/// Yields the given bytes, each once; asking for more fails the test.
class ScriptedRandom final : public ike::Random {
 public:
  explicit ScriptedRandom(Buffer script) : script_(std::move(script)) {}
  void fill(MutableBytes out) override;

 private:
  Buffer script_;
  std::size_t used_ = 0;
};

}  // namespace culvert::crypto::test
