// Every file in tests/broken/ begins with "# expect LINE:COLUMN: SEVERITY: …", one line for each
// diagnostic that must be reported, word for word, and no other.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include <catch2/catch.hpp>
#include <stdlib.h>

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

const std::filesystem::path kFolder = std::filesystem::path(CULVERT_TESTS_DIR) / "broken";

std::vector<std::filesystem::path> broken_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace

TEST_CASE("check: each broken configuration is told exactly what is wrong, and where") {
  const auto files = broken_files(kFolder);
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

/// The folder with its keys readable for the owner only, as version control does not keep it.
struct PrivateCopy {
  PrivateCopy() {
    std::string name = (std::filesystem::temp_directory_path() / "culvert-pki-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
    for (const auto& entry : std::filesystem::directory_iterator(kFolder / "pki")) {
      std::filesystem::copy(entry.path(), path);
      std::filesystem::permissions(
          path / entry.path().filename(),
          std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    }
  }
  ~PrivateCopy() { std::filesystem::remove_all(path); }
  PrivateCopy(const PrivateCopy&) = delete;
  PrivateCopy& operator=(const PrivateCopy&) = delete;
  std::filesystem::path path;
};

TEST_CASE("check: what is wrong with certificates and keys is told by their files") {
  const PrivateCopy folder;
  const auto files = broken_files(folder.path);
  REQUIRE(files.size() >= 14);
  for (const auto& file : files) {
    const std::string name = file.filename().string();
    INFO(name);
    const auto expected = expected_lines(read_all(file));

    const LoadResult result = load_file(file);

    std::vector<std::string> seen;
    bool error = false;
    for (const Diagnostic& diagnostic : result.diagnostics) {
      std::string line = diagnostic.to_string();
      const std::string place = folder.path.string() + "/";
      for (std::size_t at = line.find(place); at != std::string::npos; at = line.find(place)) {
        line.erase(at, place.size());
      }
      seen.push_back(line.substr(name.size() + 1));
      error = error || diagnostic.severity == Severity::error;
    }
    CHECK(seen == expected);
    CHECK(result.ok() == !error);
  }
}

TEST_CASE(
    "start: an expired certificate of ours is an error for a check and a warning at a start") {
  const PrivateCopy folder;
  const std::filesystem::path file = folder.path / "certificate-expired.yaml";
  CHECK_FALSE(load_file(file, Purpose::check).ok());

  const LoadResult started = load_file(file, Purpose::run);

  CHECK(started.ok());
  const auto told = std::ranges::find_if(started.diagnostics, [](const Diagnostic& diagnostic) {
    return diagnostic.found.find("expired on 2021-01-01") != std::string::npos;
  });
  REQUIRE(told != started.diagnostics.end());
  CHECK(told->severity == Severity::warning);
}

}  // namespace culvert::config
