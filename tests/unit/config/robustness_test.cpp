// Whatever the file holds, the check ends with a configuration or with diagnostics.
#include <array>
#include <ctime>
#include <random>

#include <catch2/catch.hpp>

#include "config/config.hpp"
#include "config/limits.hpp"
#include "tests/unit/config/valid_configuration.hpp"

namespace culvert::config {
namespace {

using test::kValid;

/// Loads and asserts what must hold for any input.
void check_any(std::string_view text) {
  const LoadResult result = load_text(text, "f");
  bool error = false;
  for (const Diagnostic& diagnostic : result.diagnostics) {
    error = error || diagnostic.severity == Severity::error;
    if (diagnostic.location.line < 1 || diagnostic.location.column < 1) FAIL(text);
    if (diagnostic.to_string().find('\n') != std::string::npos) FAIL(diagnostic.to_string());
  }
  if (result.ok() == error) FAIL(text);
}

}  // namespace

TEST_CASE("robustness: a valid file cut off at every byte loads or is refused, never crashes") {
  for (std::size_t length = 0; length < kValid.size(); ++length) {
    check_any(kValid.substr(0, length));
  }
}

TEST_CASE("robustness: every byte of a valid file replaced by bytes that mean something to YAML") {
  std::string text(kValid);
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char kept = text[at];
    static constexpr std::array kBytes{'\0', '\t', '\n', '"', '[', '}', '*', '\xff'};
    for (std::size_t which = at % 2; which < kBytes.size(); which += 2) {
      text[at] = kBytes[which];
      check_any(text);
    }
    text[at] = kept;
  }
}

TEST_CASE("robustness: random mutations of a valid file") {
  const unsigned seed = 4301;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto below = [&random](std::size_t bound) {
    return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random);
  };
  for (int round = 0; round < 2000; ++round) {
    std::string text(kValid);
    for (std::size_t edits = 1 + below(5); edits > 0; --edits) {
      const std::size_t at = below(text.size());
      switch (below(3)) {
        case 0:
          text[at] = static_cast<char>(below(256));
          break;
        case 1:
          text.erase(at, 1 + below(30));
          break;
        default:
          text.insert(at, kValid.substr(below(kValid.size()), 1 + below(40)));
      }
    }
    check_any(text);
  }
}

TEST_CASE("robustness: nesting without end is refused before it costs a stack") {
  for (const std::string& unit : {std::string("["), std::string("{a: "), std::string("- "),
                                  std::string("? "), std::string("[{")}) {
    std::string text;
    while (text.size() < 100000) text += unit;
    INFO(unit);
    CHECK_FALSE(load_text(text, "f").ok());
  }
}

TEST_CASE("robustness: aliases cannot multiply a value") {
  std::string text = "a: &a [1,1,1,1,1,1,1,1]\n";
  for (char name = 'b'; name < 'z'; ++name) {
    const std::string before = "*" + std::string(1, static_cast<char>(name - 1));
    text += std::string(1, name) + ": &" + name + " [" + before + "," + before + "]\n";
  }
  const LoadResult result = load_text(text, "f");
  REQUIRE(result.diagnostics.size() == 1);
  CHECK(result.diagnostics.front().location.line == 1);
  CHECK(result.diagnostics.front().found == "an anchor (&)");
}

TEST_CASE("robustness: a file beyond the size limit is refused unread") {
  const std::string text(limits::kFileBytes + 1, ' ');
  const LoadResult result = load_text(text, "f");
  REQUIRE(result.diagnostics.size() == 1);
  CHECK_THAT(result.diagnostics.front().expected, Catch::Contains("at most 16777216 bytes"));
}

TEST_CASE("robustness: malformed UTF-8 is refused at its place (RFC 3629 §4)") {
  for (const char* bytes : {"\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"}) {
    const LoadResult result = load_text("instance: " + std::string(bytes) + "\n", "f");
    REQUIRE(result.diagnostics.size() == 1);
    CHECK(result.diagnostics.front().location.line == 1);
    CHECK(result.diagnostics.front().location.column == 11);
  }
}

TEST_CASE("robustness: thousands of children with the same wide selector are checked in seconds") {
  std::string text(kValid.substr(0, kValid.find("connections:")));
  text +=
      "connections:\n  - name: many\n    local: {address: 198.51.100.1, id: a.example}\n"
      "    remote: {address: 203.0.113.7, id: b.example}\n    children:\n";
  for (int index = 0; index < 4000; ++index) {
    text += "      - {name: c" + std::to_string(index) + ", local_ts: 10." +
            std::to_string(index / 250) + "." + std::to_string(index % 250) +
            ".0/24, remote_ts: 0.0.0.0/0}\n";
  }
  // The processor's time, since a busy machine may let us wait; generous, since sanitizers take ten
  // times as long. Comparing all with all three deep would take an hour.
  const std::clock_t start = std::clock();
  const LoadResult result = load_text(text, "f");
  CHECK((std::clock() - start) / CLOCKS_PER_SEC < 60);
  CHECK_FALSE(result.ok());  // limits.policies: 256
}

}  // namespace culvert::config
