// Collects what is wrong with a file, and remembers where each value stood, so that checks across
// sections can point at the value that breaks them.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/config.hpp"

namespace culvert::config {

/// The words of a diagnostic, in the order in which a person reads them.
struct Finding {
  std::string found;  ///< `quote(value)` or prose: "nothing", "a list"
  std::string expected;
  std::string advice;  ///< what to write instead; may be empty
};

class Diagnostics {
 public:
  explicit Diagnostics(std::string_view file, Purpose purpose = Purpose::check)
      : file_(file), purpose_(purpose) {}
  [[nodiscard]] Purpose purpose() const { return purpose_; }

  void error(Location location, std::string_view path, Finding finding) {
    add(Severity::error, location, path, std::move(finding));
  }
  void warning(Location location, std::string_view path, Finding finding) {
    add(Severity::warning, location, path, std::move(finding));
  }
  /// The same at the place of the value at `path`, or of the nearest value around it.
  void error(std::string_view path, Finding finding) {
    add(Severity::error, place_of(path), path, std::move(finding));
  }
  void warning(std::string_view path, Finding finding) {
    add(Severity::warning, place_of(path), path, std::move(finding));
  }

  void remember(const std::string& path, Location location) { places_[path] = location; }
  [[nodiscard]] Location place_of(std::string_view path) const;

  [[nodiscard]] bool has_errors() const { return errors_ != 0; }
  /// Whether the value at `path`, or one inside it, was refused: what was read of it is incomplete,
  /// and a check across sections would report what follows from that.
  [[nodiscard]] bool has_error_under(std::string_view path) const;
  /// Past limits::kDiagnostics: checks that compare everything with everything may stop.
  [[nodiscard]] bool full() const;
  /// In file order; past the limit the last one says how many were left out.
  [[nodiscard]] std::vector<Diagnostic> take();

 private:
  void add(Severity severity, Location location, std::string_view path, Finding finding);

  std::string file_;
  Purpose purpose_ = Purpose::check;
  std::vector<Diagnostic> list_;
  std::unordered_map<std::string, Location> places_;
  std::size_t errors_ = 0;
  std::size_t left_out_ = 0;
  Severity worst_left_out_ = Severity::warning;
};

/// A value as a message shows it: in quotes, shortened, without control characters.
std::string quote(std::string_view text);
/// The candidate that a typing mistake away from `word`; empty when none is near.
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);
/// "a, b or c"
std::string alternatives(std::span<const std::string_view> words);
/// "connections[3]"
std::string indexed(std::string_view path, std::size_t index);

}  // namespace culvert::config
