// What an input of fuzz_payloads says: the stage in its first octet, then step by step what the
// authenticated peer sends, and what else happens to the machine meanwhile.
//
//   0..2  message    exchange, flags, where, first payload, length (16 bits), payload chain
//   3     the same in fragments
//   4     time goes by: how long
//   5     a command of the operator: which
//   6     the data plane: what it does
//   7     the key daemon is killed, and goes on from its record: how
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "wire/cursor.hpp"

namespace culvert::payloads {

enum class StepKind : std::uint8_t { message, fragments, time, command, data_plane, crash };

/// Which message ID, beside the one that the machine expects next.
enum class MessageId : std::uint8_t { fitting, last, one_further, odd };

struct Step {
  StepKind kind{};
  std::uint8_t how = 0;  ///< of all that is no message
  // a message
  std::uint8_t exchange = 0, first_payload = 0;
  bool response = false, proven = false, in_clear = false;
  MessageId id{};
  std::uint8_t ike_sa = 0;    ///< 0: the stage's own; else one of those made since
  std::uint8_t endpoint = 0;  ///< 0: where the peer is; else another address or port
  std::uint8_t cut = 0;       ///< into how many fragments, and which order
  std::vector<std::uint8_t> chain;
};

class InputReader {
 public:
  InputReader(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

  [[nodiscard]] std::optional<Step> next() {
    if (left() < 2) return std::nullopt;
    const std::uint8_t kind = octet() % 8U;
    Step step;
    if (kind >= 4) {
      step.kind = static_cast<StepKind>(kind - 2U);
      step.how = octet();
      return step;
    }
    if (left() < 6) return std::nullopt;
    step.kind = kind == 3 ? StepKind::fragments : StepKind::message;
    step.exchange = octet();
    const std::uint8_t flags = octet();
    step.response = (flags & 1U) != 0;
    step.id = static_cast<MessageId>(flags >> 1U & 3U);
    step.proven = (flags & 8U) != 0;
    step.ike_sa = flags >> 4U & 7U;
    step.in_clear = (flags & 0x80U) != 0;
    const std::uint8_t where = octet();
    step.endpoint = where & 3U;
    step.cut = where >> 2U;
    step.first_payload = octet();
    std::size_t length = static_cast<std::size_t>(octet()) << 8U;
    length |= octet();
    length = std::min(length, left());
    step.chain.assign(at_, at_ + length);
    at_ += length;
    return step;
  }

 private:
  [[nodiscard]] std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
  std::uint8_t octet() { return *at_++; }
  const std::uint8_t* at_;
  const std::uint8_t* end_;
};

/// As InputReader reads it.
inline void append(std::vector<std::uint8_t>& input, const Step& step) {
  if (step.kind != StepKind::message && step.kind != StepKind::fragments) {
    input.push_back(static_cast<std::uint8_t>(static_cast<unsigned>(step.kind) + 2U));
    input.push_back(step.how);
    return;
  }
  input.push_back(step.kind == StepKind::fragments ? 3 : 0);
  input.push_back(step.exchange);
  input.push_back(static_cast<std::uint8_t>(
      (step.response ? 1U : 0U) | static_cast<unsigned>(step.id) << 1U | (step.proven ? 8U : 0U) |
      static_cast<unsigned>(step.ike_sa) << 4U | (step.in_clear ? 0x80U : 0U)));
  input.push_back(static_cast<std::uint8_t>(step.endpoint | static_cast<unsigned>(step.cut) << 2U));
  input.push_back(step.first_payload);
  input.push_back(static_cast<std::uint8_t>(step.chain.size() >> 8U));
  input.push_back(static_cast<std::uint8_t>(step.chain.size()));
  input.insert(input.end(), step.chain.begin(), step.chain.end());
}

}  // namespace culvert::payloads
