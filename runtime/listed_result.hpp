// A result with long lists, made some items at a time: the text is that of the whole.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "runtime/control_server.hpp"

namespace culvert::runtime {

class ListedResult : public SlicedResult {
 public:
  bool make_slice(std::string& text) final;

 protected:
  /// `result` has these lists, empty, in the order of its text; no other empty list in front of
  /// them has such a name.
  ListedResult(const nlohmann::json& result, std::span<const std::string_view> lists);

  /// Adds a slice's items to a list, from the first list to the last one. True: it is complete.
  virtual bool add_some(std::size_t list, std::string& text) = 0;
  void add(std::string& text, const nlohmann::json& item);

 private:
  std::vector<std::string> between_;  ///< the items of lists, in front of the first and behind
  std::size_t list_ = 0;
  bool has_begun_ = false, has_items_ = false;
};

}  // namespace culvert::runtime
