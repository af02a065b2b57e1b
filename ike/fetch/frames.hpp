// What the key daemon and culvert-fetch say to each other over their socket: a request, an answer,
// each behind its length. Neither trusts the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "wire/cursor.hpp"

namespace culvert::ike::fetch {

inline constexpr std::size_t kMostListBytes = 4U << 20U;     ///< of a revocation list
inline constexpr std::size_t kMostStatusBytes = 64U << 10U;  ///< of an OCSP response
inline constexpr std::size_t kMostRequestBytes = 8U << 10U;  ///< of a request's frame
inline constexpr std::size_t kMostAnswerBytes = kMostListBytes + 64;

/// GET, or with a body POST of an OCSP request.
struct Request {
  std::uint64_t id = 0;
  std::uint32_t most_bytes = 0;         ///< of the answer's body
  std::uint32_t most_milliseconds = 0;  ///< for all of it
  std::string url;
  std::vector<std::uint8_t> body;
  friend bool operator==(const Request&, const Request&) = default;
};
struct Answer {
  std::uint64_t id = 0;
  bool ok = false;
  std::vector<std::uint8_t> body;  ///< what came, or why nothing did, in words
  friend bool operator==(const Answer&, const Answer&) = default;
};

[[nodiscard]] std::vector<std::uint8_t> encode(const Request& request);
[[nodiscard]] std::vector<std::uint8_t> encode(const Answer& answer);
[[nodiscard]] wire::Parsed<Request> parse_request(wire::Bytes frame);
[[nodiscard]] wire::Parsed<Answer> parse_answer(wire::Bytes frame);

/// A stream's bytes, cut into frames.
class Frames {
 public:
  explicit Frames(std::size_t longest) : longest_(longest) {}
  /// False: a frame is longer than any may be; nothing of the stream means anything any more.
  [[nodiscard]] bool add(wire::Bytes bytes);
  [[nodiscard]] std::optional<std::vector<std::uint8_t>> next();

 private:
  std::size_t longest_;
  std::vector<std::uint8_t> bytes_;
};

}  // namespace culvert::ike::fetch
