// How libFuzzer changes an input of fuzz_payloads: steps and payloads as wholes, so that lengths go
// on being right, and octets inside them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "tests/fuzz/payloads_input.hpp"
#include "wire/ike/message.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace culvert::payloads {

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  static std::vector<Step> steps_of(const std::uint8_t* data, std::size_t size) {
    std::vector<Step> steps;
    InputReader reader(data, size);
    while (auto step = reader.next()) steps.push_back(std::move(*step));
    return steps;
  }

  void change(std::vector<Step>& steps) {
    if (steps.empty() || below(8) == 0) {
      steps.insert(place(steps, steps.size() + 1), new_step());
      return;
    }
    const auto at = place(steps, steps.size());
    switch (below(8)) {
      case 0:
        steps.erase(at);
        return;
      case 1: {
        const Step copy = *at;
        steps.insert(place(steps, steps.size() + 1), copy);
        return;
      }
      case 2:
        std::iter_swap(at, place(steps, steps.size()));
        return;
      case 3:
        change_header(*at);
        return;
      default:
        change_chain(*at);
    }
  }

 private:
  struct Piece {
    std::uint8_t type = 0, flags = 0;
    std::vector<std::uint8_t> body;
  };

  std::size_t below(std::size_t limit) { return random_() % limit; }
  std::uint8_t octet() { return static_cast<std::uint8_t>(random_()); }
  template <typename List>
  typename List::iterator place(List& list, std::size_t limit) {
    return list.begin() + static_cast<long>(below(limit));
  }

  Step new_step() {
    Step step;
    step.kind = static_cast<StepKind>(below(6));
    step.how = octet();
    step.exchange = static_cast<std::uint8_t>(below(8) == 0 ? octet() : 34 + below(4));
    step.response = below(2) == 0;
    std::vector<Piece> pieces{new_piece()};
    if (below(2) == 0) pieces.push_back(new_piece());
    join(pieces, step);
    return step;
  }

  void change_header(Step& step) {
    switch (below(9)) {
      case 0:
        step.exchange = static_cast<std::uint8_t>(34 + below(4));
        return;
      case 1:
        step.response = !step.response;
        return;
      case 2:
        step.id = static_cast<MessageId>(below(4));
        return;
      case 3:
        step.ike_sa = static_cast<std::uint8_t>(below(8));
        return;
      case 4:
        step.endpoint = static_cast<std::uint8_t>(below(4));
        return;
      case 5:
        step.cut = static_cast<std::uint8_t>(below(64));
        return;
      case 6:
        step.proven = !step.proven;
        return;
      case 7:
        step.kind = static_cast<StepKind>(below(6));
        return;
      default:
        step.how = octet();
    }
  }

  static std::vector<Piece> split(const Step& step) {
    std::vector<Piece> pieces;
    std::uint8_t type = step.first_payload;
    std::size_t at = 0;
    while (type != 0 && step.chain.size() - at >= wire::ike::kGenericHeaderBytes) {
      const std::size_t left = step.chain.size() - at;
      const std::size_t length =
          std::clamp(static_cast<std::size_t>(step.chain[at + 2]) << 8U | step.chain[at + 3],
                     wire::ike::kGenericHeaderBytes, left);
      const auto begin = step.chain.begin() + static_cast<long>(at);
      pieces.push_back(
          {type,
           step.chain[at + 1],
           {begin + wire::ike::kGenericHeaderBytes, begin + static_cast<long>(length)}});
      type = step.chain[at];
      at += length;
    }
    return pieces;
  }
  static void join(const std::vector<Piece>& pieces, Step& step) {
    step.chain.clear();
    step.first_payload = pieces.empty() ? 0 : pieces.front().type;
    for (std::size_t at = 0; at < pieces.size(); ++at) {
      const std::size_t length = pieces[at].body.size() + wire::ike::kGenericHeaderBytes;
      step.chain.push_back(at + 1 < pieces.size() ? pieces[at + 1].type : 0);
      step.chain.push_back(pieces[at].flags);
      step.chain.push_back(static_cast<std::uint8_t>(length >> 8U));
      step.chain.push_back(static_cast<std::uint8_t>(length));
      step.chain.insert(step.chain.end(), pieces[at].body.begin(), pieces[at].body.end());
    }
  }

  /// A notify most often: there are so many, and each means something.
  Piece new_piece() {
    static constexpr std::array<std::uint16_t, 32> kNotifies{
        1,     4,     5,     7,     9,     11,    14,    17,    24,    34,    35,
        38,    39,    40,    41,    43,    44,    16384, 16388, 16389, 16391, 16393,
        16394, 16396, 16397, 16399, 16400, 16401, 16402, 16404, 16430, 16436};
    if (below(4) == 0) return {static_cast<std::uint8_t>(33 + below(21)), 0, some_octets(40)};
    const std::uint16_t type = kNotifies[below(kNotifies.size())];
    Piece piece{
        41, 0, {0, 0, static_cast<std::uint8_t>(type >> 8U), static_cast<std::uint8_t>(type)}};
    const auto data = some_octets(24);
    piece.body.insert(piece.body.end(), data.begin(), data.end());
    return piece;
  }
  std::vector<std::uint8_t> some_octets(std::size_t most) {
    std::vector<std::uint8_t> octets(below(most));
    for (auto& one : octets) one = octet();
    return octets;
  }

  void change_chain(Step& step) {
    std::vector<Piece> pieces = split(step);
    if (pieces.empty() || below(6) == 0) {
      pieces.insert(place(pieces, pieces.size() + 1), new_piece());
      join(pieces, step);
      return;
    }
    const auto at = place(pieces, pieces.size());
    switch (below(8)) {
      case 0:
        pieces.erase(at);
        break;
      case 1: {
        const Piece copy = *at;
        pieces.insert(place(pieces, pieces.size() + 1), copy);
        break;
      }
      case 2:
        std::iter_swap(at, place(pieces, pieces.size()));
        break;
      case 3:
        at->type = static_cast<std::uint8_t>(33 + below(21));
        break;
      default: {
        const std::size_t size = at->body.size();
        at->body.resize(size + 32);
        at->body.resize(LLVMFuzzerMutate(at->body.data(), size, size + 32));
      }
    }
    join(pieces, step);
  }

  std::minstd_rand random_;
};

inline std::size_t write(std::uint8_t stage, const std::vector<Step>& steps, std::uint8_t* data,
                         std::size_t most) {
  std::vector<std::uint8_t> input{stage};
  for (const Step& step : steps) append(input, step);
  const std::size_t size = std::min(input.size(), most);
  std::copy_n(input.begin(), size, data);
  return size;
}

}  // namespace culvert::payloads

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  using namespace culvert::payloads;
  if (size == 0 || seed % 8 == 0) return LLVMFuzzerMutate(data, size, most);
  auto steps = Mutator::steps_of(data + 1, size - 1);
  Mutator mutator(seed);
  mutator.change(steps);
  return write(seed % 32 == 1 ? static_cast<std::uint8_t>(seed >> 8U) : data[0], steps, data, most);
}

/// The first steps of one input, then the last of another.
extern "C" std::size_t LLVMFuzzerCustomCrossOver(const std::uint8_t* one, std::size_t one_size,
                                                 const std::uint8_t* other, std::size_t other_size,
                                                 std::uint8_t* out, std::size_t most,
                                                 unsigned seed) {
  using namespace culvert::payloads;
  if (one_size == 0 || other_size == 0) return 0;
  auto steps = Mutator::steps_of(one + 1, one_size - 1);
  const auto more = Mutator::steps_of(other + 1, other_size - 1);
  steps.resize(seed % (steps.size() + 1));
  const auto from = (seed >> 8U) % (more.size() + 1);
  steps.insert(steps.end(), more.begin() + static_cast<long>(from), more.end());
  return write(one[0], steps, out, most);
}
