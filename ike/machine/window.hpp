// Message IDs of one IKE SA, window size 1 (RFC 7296 §2.1, §2.2, §2.3): what we await an answer to,
// what we answered last.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

namespace culvert::ike {

/// The datagrams of one message: one, or a fragment each (RFC 7383).
using Messages = std::vector<std::vector<std::uint8_t>>;

/// A request on its way. Sent again, octet for octet, until it is answered or given up.
struct PendingRequest {
  std::uint32_t message_id = 0;
  Messages messages;  ///< one, or its fragments in order
  std::uint32_t tries = 1;
  std::uint32_t rounds = 1;          ///< of tries: another one for a peer that is alive
  std::chrono::nanoseconds next{};   ///< when to send it again
  std::chrono::nanoseconds delay{};  ///< between the last try and the next
};

class MessageWindow {
 public:
  enum class Incoming : std::uint8_t { fresh, repeated, outside };
  /// RFC 7296 §2.3: with a window of 1 only the next request is new, and only the last repeats.
  [[nodiscard]] Incoming classify(std::uint32_t message_id) const {
    if (message_id == expected_request_) return Incoming::fresh;
    if (message_id + 1 == expected_request_ && !last_response.empty()) return Incoming::repeated;
    return Incoming::outside;
  }
  [[nodiscard]] bool awaits(std::uint32_t message_id) const {
    return pending && pending->message_id == message_id;
  }
  [[nodiscard]] std::uint32_t next_request() const { return next_request_; }
  [[nodiscard]] std::uint32_t expected_request() const { return expected_request_; }
  /// The IDs of an earlier life.
  void resume_at(std::uint32_t next_request, std::uint32_t expected_request) {
    next_request_ = next_request;
    expected_request_ = expected_request;
  }
  void sent(PendingRequest request) {
    next_request_ = request.message_id + 1;
    pending = std::move(request);
  }
  void answered(Messages response) {
    ++expected_request_;
    last_response = std::move(response);
  }

  std::optional<PendingRequest> pending;
  Messages last_response;

 private:
  std::uint32_t next_request_ = 0, expected_request_ = 0;
};

}  // namespace culvert::ike
