// A value of the file on its way to a typed one: where it stands, how it is called, and what maps
// and lists contain. Every problem goes to the Diagnostics; nothing here throws or stops early.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/diagnostics.hpp"
#include "config/yaml_tree.hpp"

namespace culvert::config {

/// A value, or its absence, under the path that messages call it by.
struct Field {
  Diagnostics* diagnostics = nullptr;
  const Node* node = nullptr;  ///< nullptr: the key is not in the file
  Location location;           ///< of the value; of the map around it when absent
  std::string path;

  [[nodiscard]] bool present() const { return node != nullptr; }
  void error(Finding finding) const { diagnostics->error(location, path, std::move(finding)); }
  void warning(Finding finding) const { diagnostics->warning(location, path, std::move(finding)); }
};

/// What stands there, in words: the quoted scalar, "nothing", "a list" or "a map".
std::string describe(const Field& field);

/// A map's keys, taken one by one; `finish` reports those that nobody took.
class MapReader {
 public:
  /// Reports when `field` is there and no map, and keys that stand there twice.
  explicit MapReader(const Field& field, std::string_view expected);

  [[nodiscard]] bool is_map() const { return map_ != nullptr; }
  [[nodiscard]] Field take(std::string_view key);
  /// The same, and an error when the key is missing.
  [[nodiscard]] Field require(std::string_view key, std::string_view expected,
                              std::string_view advice);
  /// Unknown keys, each with the nearest known one or what this gateway calls it.
  void finish();

 private:
  void report_duplicates();

  Field field_;
  const Node* map_ = nullptr;
  std::vector<std::string_view> known_;
};

/// The items of a list; a single word counts as a list of one. Empty when absent or wrong.
std::vector<Field> read_items(const Field& field, std::string_view expected, std::size_t limit);

template <typename T>
void set(T& target, std::optional<T> value) {
  if (value) target = *std::move(value);
}

}  // namespace culvert::config
