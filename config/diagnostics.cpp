#include "config/diagnostics.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "config/limits.hpp"

namespace culvert::config {
namespace {

std::string_view name(Severity severity) {
  return severity == Severity::error ? "error" : "warning";
}

/// Insertions, deletions, replacements and neighbours swapped between two short words.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  std::vector<std::size_t> next(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = row[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      next[j] = std::min({replaced, row[j] + 1, next[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) next[j] = std::min(next[j], before[j - 2] + 1);
    }
    before = std::exchange(row, next);
  }
  return row[b.size()];
}

}  // namespace

std::string Diagnostic::to_string() const {
  std::string text = file + ":" + std::to_string(location.line) + ":" +
                     std::to_string(location.column) + ": " + std::string(name(severity)) + ": ";
  if (!path.empty()) text += path + ": ";
  text += "found " + found + ", expected " + expected;
  if (!advice.empty()) text += "; " + advice;
  return text;
}

Location Diagnostics::place_of(std::string_view path) const {
  while (!path.empty()) {
    if (const auto place = places_.find(std::string(path)); place != places_.end()) {
      return place->second;
    }
    const std::size_t cut = path.find_last_of(".[");
    path = cut == std::string_view::npos ? std::string_view{} : path.substr(0, cut);
  }
  return {1, 1};
}

bool Diagnostics::has_error_under(std::string_view path) const {
  return std::ranges::any_of(list_, [path](const Diagnostic& diagnostic) {
    if (diagnostic.severity != Severity::error || !diagnostic.path.starts_with(path)) return false;
    const std::string_view rest = std::string_view(diagnostic.path).substr(path.size());
    return rest.empty() || rest.front() == '.' || rest.front() == '[';
  });
}

bool Diagnostics::full() const { return list_.size() >= limits::kDiagnostics; }

void Diagnostics::add(Severity severity, Location location, std::string_view path,
                      Finding finding) {
  if (severity == Severity::error) ++errors_;
  if (full()) {
    ++left_out_;
    if (severity == Severity::error) worst_left_out_ = severity;
    return;
  }
  list_.push_back({severity, file_, location, std::string(path), std::move(finding.found),
                   std::move(finding.expected), std::move(finding.advice)});
}

std::vector<Diagnostic> Diagnostics::take() {
  const auto place = [](const Diagnostic& diagnostic) {
    return std::tie(diagnostic.location.line, diagnostic.location.column, diagnostic.path,
                    diagnostic.found);
  };
  std::ranges::sort(list_, {}, place);
  if (left_out_ != 0) {
    list_.push_back({worst_left_out_, file_, list_.back().location, "",
                     std::to_string(left_out_) + " problems more", "fewer problems",
                     "mend those above first"});
  }
  return std::move(list_);
}

std::string quote(std::string_view text) {
  std::string shown = "\"";
  for (const char character : text.substr(0, limits::kShownCharacters)) {
    const bool control = static_cast<unsigned char>(character) < 0x20 || character == 0x7f;
    shown += control ? ' ' : character;
  }
  if (text.size() > limits::kShownCharacters) {
    // Not in the middle of a UTF-8 sequence.
    std::size_t cut = limits::kShownCharacters;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0U) == 0x80) --cut;
    shown.resize(cut + 1);
    shown += "…";
  }
  return shown + "\"";
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  std::string_view best;
  std::size_t best_distance = word.size() / 3 + 2;
  if (word.size() > limits::kNameCharacters) return best;
  for (const std::string_view candidate : candidates) {
    const std::size_t away = distance(word, candidate);
    if (away < best_distance && away < candidate.size()) {
      best = candidate;
      best_distance = away;
    }
  }
  return best;
}

std::string alternatives(std::span<const std::string_view> words) {
  std::string text;
  for (std::size_t index = 0; index < words.size(); ++index) {
    if (index != 0) text += index + 1 == words.size() ? " or " : ", ";
    text += words[index];
  }
  return text;
}

std::string indexed(std::string_view path, std::size_t index) {
  return std::string(path) + "[" + std::to_string(index) + "]";
}

}  // namespace culvert::config
