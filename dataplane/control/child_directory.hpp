// What SAs, policies and counters hang on: the configured children, and behind them the names of
// manual SAs, numbered as config::Child::index does. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"

namespace culvert::dataplane::control {

/// The connection that manual SAs are shown under.
inline constexpr std::string_view kManualConnection = "manual";

struct ChildName {
  std::string connection;
  std::string child;
  bool manual = false;
  bool in = true, out = true;  ///< the directions that have SAs: a manual one may have one alone
  friend bool operator==(const ChildName&, const ChildName&) = default;
};

class ChildDirectory {
 public:
  ChildDirectory() = default;
  /// `known_before`: numbers that SAs may still bear although their child is not configured any
  /// more.
  explicit ChildDirectory(const config::Config& config, std::uint32_t known_before = 0) {
    names_.resize(known_before);
    headers_.resize(known_before);
    for (const config::Connection& connection : config.connections) {
      for (const config::Child& child : connection.children) {
        if (names_.size() <= child.index) {
          names_.resize(child.index + 1U);
          headers_.resize(child.index + 1U);
        }
        names_[child.index] = {connection.name, child.name, false};
        headers_[child.index] = child.headers;
      }
    }
    first_manual_ = static_cast<std::uint32_t>(names_.size());
    for (const config::ManualSa& sa : config.manual_sas) {
      const std::uint32_t known = find_manual(sa.name);
      if (known == size()) {
        names_.push_back({std::string(kManualConnection), sa.name, true, false, false});
      }
      const bool is_in = sa.direction == config::ManualSa::Direction::in;
      (is_in ? names_[known].in : names_[known].out) = true;
    }
  }

  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(names_.size()); }
  /// Children of connections: what the key daemon may name.
  [[nodiscard]] std::uint32_t negotiable() const { return first_manual_; }
  /// Precondition: index < size().
  [[nodiscard]] const ChildName& name(std::uint32_t index) const { return names_[index]; }
  /// How SAs of a child treat headers. Precondition: index < negotiable(); a manual SA has its own.
  [[nodiscard]] const config::HeaderOptions& headers(std::uint32_t index) const {
    return headers_[index];
  }
  /// The index of a manual SA's name; size() when it is none.
  [[nodiscard]] std::uint32_t find_manual(std::string_view name) const {
    const auto found =
        std::find_if(names_.begin() + first_manual_, names_.end(),
                     [&](const ChildName& candidate) { return candidate.child == name; });
    return static_cast<std::uint32_t>(found - names_.begin());
  }
  [[nodiscard]] const std::vector<ChildName>& names() const { return names_; }

 private:
  std::vector<ChildName> names_;
  std::vector<config::HeaderOptions> headers_;
  std::uint32_t first_manual_ = 0;
};

}  // namespace culvert::dataplane::control
