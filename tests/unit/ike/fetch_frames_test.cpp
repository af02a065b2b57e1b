#include <catch2/catch.hpp>

#include "ike/fetch/frames.hpp"

namespace culvert::ike::fetch {
namespace {

const Request kRequest{7, 65536, 4000, "http://ocsp.example.org/", {1, 2, 3}};
const Answer kAnswer{7, true, {4, 5, 6, 7}};

std::vector<std::uint8_t> frame_of(const std::vector<std::uint8_t>& bytes) {
  Frames frames(kMostAnswerBytes);
  REQUIRE(frames.add(bytes));
  const auto frame = frames.next();
  REQUIRE(frame);
  CHECK_FALSE(frames.next());
  return *frame;
}

}  // namespace

TEST_CASE("fetch frames: what is encoded is read again") {
  CHECK(parse_request(frame_of(encode(kRequest))) == kRequest);
  CHECK(parse_answer(frame_of(encode(kAnswer))) == kAnswer);
}

TEST_CASE("fetch frames: a stream comes in any pieces") {
  auto bytes = encode(kAnswer);
  const auto second = encode(Answer{8, false, {}});
  bytes.insert(bytes.end(), second.begin(), second.end());
  Frames frames(kMostAnswerBytes);
  std::vector<Answer> seen;
  for (const std::uint8_t one : bytes) {
    REQUIRE(frames.add({&one, 1}));
    while (const auto frame = frames.next()) seen.push_back(*parse_answer(*frame));
  }
  CHECK(seen == std::vector<Answer>{kAnswer, {8, false, {}}});
}

TEST_CASE("fetch frames: what is cut off is refused, with the field") {
  const auto frame = frame_of(encode(kRequest));
  const std::size_t whole = frame.size() - kRequest.body.size();
  for (std::size_t size = 0; size < whole; ++size) {
    const auto parsed = parse_request(wire::Bytes(frame).first(size));
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().field == (size < 8    ? "id"
                                   : size < 12 ? "most bytes"
                                   : size < 16 ? "most milliseconds"
                                   : size < 18 ? "URL length"
                                               : "URL"));
  }
  const auto answer = frame_of(encode(kAnswer));
  for (std::size_t size = 0; size < 9; ++size) {
    CHECK_FALSE(parse_answer(wire::Bytes(answer).first(size)));
  }
  auto other = answer;
  other[8] = 2;
  CHECK_FALSE(parse_answer(other));
}

TEST_CASE("fetch frames: one that is too long ends the stream") {
  Frames frames(16);
  const std::vector<std::uint8_t> length{0, 0, 0, 17};
  CHECK_FALSE(frames.add(length));
  CHECK_FALSE(frames.next());
}

}  // namespace culvert::ike::fetch
