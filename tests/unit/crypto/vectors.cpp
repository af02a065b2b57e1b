#include "vectors.hpp"

#include <charconv>
#include <fstream>

#include <catch2/catch.hpp>

namespace culvert::crypto::test {

Buffer from_hex(std::string_view text) {
  REQUIRE(text.size() % 2 == 0);
  Buffer out(text.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const char* digits = text.data() + 2 * i;
    const auto [end, error] = std::from_chars(digits, digits + 2, out[i], 16);
    REQUIRE((error == std::errc{} && end == digits + 2));
  }
  return out;
}

Buffer copy(Bytes bytes) { return Buffer(bytes.begin(), bytes.end()); }

std::string Vector::text(const std::string& name) const {
  const auto field = fields_.find(name);
  INFO("the vector lacks " << name);
  REQUIRE(field != fields_.end());
  return field->second;
}

std::vector<Vector> read_vectors(const std::string& file) {
  std::ifstream in(std::string(CULVERT_VECTORS) + "/" + file);
  REQUIRE(in.good());
  std::vector<Vector> records;
  Vector record;
  const auto finish_record = [&] {
    if (!record.empty()) records.push_back(std::exchange(record, Vector()));
  };
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('#')) continue;
    if (line.empty()) {
      finish_record();
      continue;
    }
    const std::size_t equals = line.find(" =");
    REQUIRE(equals != std::string::npos);
    record.set(line.substr(0, equals), equals + 3 <= line.size() ? line.substr(equals + 3) : "");
  }
  finish_record();
  REQUIRE_FALSE(records.empty());
  return records;
}

void ScriptedRandom::fill(MutableBytes out) {
  REQUIRE(script_.size() - used_ >= out.size());
  std::copy_n(script_.begin() + static_cast<std::ptrdiff_t>(used_), out.size(), out.begin());
  used_ += out.size();
}

}  // namespace culvert::crypto::test
