// Which interfaces have a link, as was last seen: a change is for the log. Pure.
#pragma once

#include <map>
#include <string>

namespace culvert::dataplane::control {

class LinkWatch {
 public:
  /// Whether it is news that the interface's link is so; the first time only when it is down.
  [[nodiscard]] bool is_news(const std::string& interface, bool is_up) {
    const auto known = was_up_.emplace(interface, true).first;
    const bool changed = known->second != is_up;
    known->second = is_up;
    return changed;
  }

 private:
  std::map<std::string, bool> was_up_;
};

}  // namespace culvert::dataplane::control
