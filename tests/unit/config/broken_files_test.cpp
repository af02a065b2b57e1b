// Every file in tests/broken/ begins with "# expect LINE:COLUMN: SEVERITY: …", one line for each
// diagnostic that must be reported, word for word, and no other.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include <catch2/catch.hpp>

#include "config/config.hpp"

namespace culvert::config {
namespace {

std::string read_all(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<std::string> expected_lines(const std::string& text) {
  constexpr std::string_view kMark = "# expect ";
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line) && line.starts_with(kMark);) {
    lines.push_back(line.substr(kMark.size()));
  }
  return lines;
}

std::vector<std::filesystem::path> broken_files() {
  std::vector<std::filesystem::path> files;
  const std::filesystem::path folder = std::filesystem::path(CULVERT_TESTS_DIR) / "broken";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace

TEST_CASE("check: each broken configuration is told exactly what is wrong, and where") {
  const auto files = broken_files();
  REQUIRE(files.size() >= 40);
  for (const auto& file : files) {
    const std::string name = file.filename().string();
    INFO(name);
    const std::string text = read_all(file);
    const auto expected = expected_lines(text);
    CHECK_FALSE(expected.empty());

    const LoadResult result = load_text(text, name);

    std::vector<std::string> seen;
    bool error = false;
    for (const Diagnostic& diagnostic : result.diagnostics) {
      seen.push_back(diagnostic.to_string().substr(name.size() + 1));
      error = error || diagnostic.severity == Severity::error;
      CHECK(diagnostic.location.line >= 1);
      CHECK(diagnostic.location.column >= 1);
      CHECK_FALSE(diagnostic.found.empty());
      CHECK_FALSE(diagnostic.expected.empty());
    }
    CHECK(seen == expected);
    CHECK(result.ok() == !error);
  }
}

}  // namespace culvert::config
