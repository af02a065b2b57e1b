#include "runtime/log.hpp"

#include <algorithm>

#include <catch2/catch.hpp>

using namespace culvert::runtime;

TEST_CASE("log: a plain word stands bare, everything else in quotes") {
  CHECK(logfmt_value("office") == "office");
  CHECK(logfmt_value("10.1.0.0/24[tcp/443]") == "10.1.0.0/24[tcp/443]");
  CHECK(logfmt_value("") == "\"\"");
  CHECK(logfmt_value("two words") == "\"two words\"");
  CHECK(logfmt_value("a=b") == "\"a=b\"");
  CHECK(logfmt_value("Zürich") == "\"Zürich\"");
}

TEST_CASE("log: text of a peer can neither end the line nor the value") {
  CHECK(logfmt_value("x\nerror forged") == "\"x\\nerror forged\"");
  CHECK(logfmt_value("\" level=error x=\"") == "\"\\\" level=error x=\\\"\"");
  CHECK(logfmt_value("\\") == "\"\\\\\"");
  CHECK(logfmt_value("\x1b[2J\x7f") == "\"\\x1b[2J\\x7f\"");
  CHECK(logfmt_value(std::string_view("a\0b", 3)) == "\"a\\x00b\"");
  // C1 controls, line separators and direction marks act on terminals though they are UTF-8.
  CHECK(logfmt_value("\xC2\x9B") == "\"\\xc2\\x9b\"");
  CHECK(logfmt_value("\xE2\x80\xA8") == "\"\\xe2\\x80\\xa8\"");
  CHECK(logfmt_value("\xE2\x80\xAE") == "\"\\xe2\\x80\\xae\"");
}

TEST_CASE("log: every byte, alone or in pairs, gives a printable line with balanced quotes") {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string value{static_cast<char>(first), static_cast<char>(second)};
      const std::string shown = logfmt_value(value);
      const bool printable = std::ranges::none_of(shown, [](char character) {
        const auto byte = static_cast<unsigned char>(character);
        return byte < 0x20 || byte == 0x7F;
      });
      const bool quoted = shown.front() == '"';
      if (!printable || (quoted && (shown.size() < 2 || shown.back() != '"'))) {
        FAIL("bytes " << first << " " << second << " give " << shown);
      }
    }
  }
  SUCCEED();
}

TEST_CASE("log: what is not UTF-8 is shown byte by byte") {
  CHECK(logfmt_value("\xC0\xAF") == "\"\\xc0\\xaf\"");                    // overlong
  CHECK(logfmt_value("\xED\xA0\x80") == "\"\\xed\\xa0\\x80\"");           // surrogate
  CHECK(logfmt_value("\xF4\x90\x80\x80") == "\"\\xf4\\x90\\x80\\x80\"");  // beyond Unicode
  CHECK(logfmt_value("\xE2\x82") == "\"\\xe2\\x82\"");                    // cut short
}

TEST_CASE("log: an event is level, name and fields in order") {
  CHECK(format_event(Level::info, "sa_installed",
                     {{"connection", "branch"}, {"spi", 12}, {"esn", true}, {"age", 1.5}}) ==
        "info sa_installed connection=branch spi=12 esn=true age=1.5");
  CHECK(format_event(Level::warning, "peer_said", {{"text", std::string("a\nb")}}) ==
        "warning peer_said text=\"a\\nb\"");
  CHECK(format_event(Level::error, "stop", {}) == "error stop");
}

TEST_CASE("log: events below the level are not written") {
  set_log_level(Level::warning);
  CHECK_FALSE(log_enabled(Level::info));
  CHECK(log_enabled(Level::warning));
  set_log_level(Level::info);
  CHECK(log_enabled(Level::info));
  CHECK_FALSE(log_enabled(Level::debug));
}
