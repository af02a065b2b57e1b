// Reading fields of JSON that a daemon of another version may have left out.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace culvert::cli {

inline const nlohmann::json& member(const nlohmann::json& object, const char* key) {
  static const nlohmann::json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(key);
  return found == object.end() ? nothing : *found;
}

/// A field as text: strings bare, lists joined, null and missing as "-".
inline std::string text(const nlohmann::json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string joined;
  for (const auto& item : value) joined += (joined.empty() ? "" : ", ") + text(item);
  return joined.empty() ? "-" : joined;
}
inline std::string text(const nlohmann::json& object, const char* key) {
  return text(member(object, key));
}

inline double number(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = member(object, key);
  return value.is_number() ? value.get<double>() : 0;
}
inline bool is_true(const nlohmann::json& object, const char* key) {
  const nlohmann::json& value = member(object, key);
  return value.is_boolean() && value.get<bool>();
}

}  // namespace culvert::cli
