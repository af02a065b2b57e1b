// Every prefix of every payload and of a whole message: each ends in the error that names the
// field which is not there, and never in a value.
#include <algorithm>

#include <catch2/catch.hpp>

#include "tests/unit/wire/ike_samples.hpp"
#include "tests/unit/wire/strongswan_exchange.hpp"

namespace culvert::wire::ike {
namespace {

/// The field that a body of `length` bytes lacks; empty when the body is long enough for all.
std::string_view missing_field(const Sample& sample, std::size_t length) {
  const auto field = std::ranges::find_if(
      sample.fields, [&](const FieldEnd& entry) { return length < entry.end; });
  return field == sample.fields.end() ? std::string_view{} : field->field;
}

}  // namespace

TEST_CASE("ike payload: a body cut short names the field that is missing") {
  for (const Sample& sample : samples()) {
    const auto body = from_hex(sample.body);
    for (std::size_t length = 0; length < body.size(); ++length) {
      INFO(std::string(sample.name) << ", " << length << " of " << body.size() << " bytes");
      const auto parsed = parse_payloads(sample.type, chain_of(Bytes(body).first(length)));
      const std::string_view missing = missing_field(sample, length);
      if (missing.empty()) {
        // What is left is data of variable length, or was never more than that.
        CHECK((parsed || parsed.error().field.ends_with("data")));
        continue;
      }
      REQUIRE_FALSE(parsed);
      CHECK(parsed.error().field == missing);
    }
  }
}

TEST_CASE("ike payload: a chain cut short names the generic header's field or the body (§3.2)") {
  for (const Sample& sample : samples()) {
    const auto chain = chain_of(from_hex(sample.body));
    for (std::size_t length = 0; length < chain.size(); ++length) {
      INFO(std::string(sample.name) << ", " << length << " of " << chain.size() << " bytes");
      const auto parsed = parse_payloads(sample.type, Bytes(chain).first(length));
      REQUIRE_FALSE(parsed);
      CHECK(parsed.error().problem == "truncated");
      CHECK(parsed.error().field == (length < 1   ? "next payload"
                                     : length < 2 ? "critical bit"
                                     : length < 4 ? "payload length"
                                                  : "payload body"));
    }
  }
}

TEST_CASE("ike message: a header cut short names its field (§3.1)") {
  const auto message = from_hex(strongswan::kResponse);
  const std::vector<FieldEnd> fields{
      {"initiator SPI", 8},  {"responder SPI", 16}, {"next payload", 17}, {"version", 18},
      {"exchange type", 19}, {"flags", 20},         {"message ID", 24},   {"length", 28}};
  for (std::size_t length = 0; length < kHeaderBytes; ++length) {
    INFO(length << " bytes");
    const auto parsed = parse_message(Bytes(message).first(length));
    REQUIRE_FALSE(parsed);
    const auto field =
        std::ranges::find_if(fields, [&](const FieldEnd& entry) { return length < entry.end; });
    CHECK(parsed.error().error.field == field->field);
    CHECK_FALSE(parsed.error().header);
  }
}

TEST_CASE("ike message: a datagram shorter than its header says is refused at every length") {
  const auto message = from_hex(strongswan::kSecondRequest);
  for (std::size_t length = kHeaderBytes; length < message.size(); ++length) {
    const auto parsed = parse_message(Bytes(message).first(length));
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().error.field == "length");
    CHECK(parsed.error().error.problem == "truncated");
    CHECK(parsed.error().error.available == length);
    CHECK(parsed.error().header.has_value());
  }
}

TEST_CASE("ike message: cut at any payload with a length that agrees, the chain breaks") {
  auto message = from_hex(strongswan::kSecondRequest);
  for (std::size_t length = kHeaderBytes; length < message.size(); ++length) {
    std::vector<std::uint8_t> cut(message.begin(), message.begin() + static_cast<long>(length));
    cut[26] = static_cast<std::uint8_t>(length >> 8U);
    cut[27] = static_cast<std::uint8_t>(length);
    const auto parsed = parse_message(cut);
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().notify == NotifyType::invalid_syntax);
    CHECK(parsed.error().error.problem == "truncated");
    CHECK(parsed.error().error.offset <= length);
  }
}

}  // namespace culvert::wire::ike
