#include "runtime/listed_result.hpp"

#include <cassert>
#include <utility>

namespace culvert::runtime {

ListedResult::ListedResult(const nlohmann::json& result, std::span<const std::string_view> lists) {
  const std::string text = control_text(result);
  std::size_t begin = 0;
  for (const std::string_view list : lists) {
    // Within a string its quotes would stand behind backslashes.
    const std::string empty = '"' + std::string(list) + "\":[]";
    const std::size_t at = text.find(empty, begin);
    assert(at != std::string::npos);
    const std::size_t items = at + empty.size() - 1;  // in front of the bracket
    between_.push_back(text.substr(begin, items - begin));
    begin = items;
  }
  between_.push_back(text.substr(begin));
}

bool ListedResult::make_slice(std::string& text) {
  if (!std::exchange(has_begun_, true)) text += between_[0];
  if (!add_some(list_, text)) return false;
  has_items_ = false;
  text += between_[++list_];
  return list_ + 1 == between_.size();
}

void ListedResult::add(std::string& text, const nlohmann::json& item) {
  if (std::exchange(has_items_, true)) text += ',';
  text += control_text(item);
}

}  // namespace culvert::runtime
