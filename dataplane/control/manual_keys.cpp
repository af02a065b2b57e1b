#include "dataplane/control/manual_keys.hpp"

#include <algorithm>

namespace culvert::dataplane::control {
namespace {

/// Of 2^32 IVs each, one a packet: an SA that sends more than 2^48 packets is none of this world.
/// 65 536 SAs come before the first place again.
constexpr std::uint32_t kIvBlocksOfAnSa = 1U << 16U;

}  // namespace

ManualKeys::ManualKeys(crypto::ike::Random& random, std::size_t most)
    : random_(random), most_(most) {
  random_.fill(salt_);
}

ManualKeys::Digest ManualKeys::digest(crypto::Bytes key) const {
  const std::array<crypto::Bytes, 2> pieces{salt_, key};
  return crypto::ike::sha256(pieces);
}

void ManualKeys::used(const Use& use, std::uint64_t number) {
  std::uint64_t& highest = highest_[use];
  highest = std::max(highest, number);
}

const std::uint64_t* ManualKeys::highest(const Use& use) const {
  const auto found = highest_.find(use);
  return found == highest_.end() ? nullptr : &found->second;
}

/// The first place is drawn: a life before this one began elsewhere.
std::uint32_t ManualKeys::take_iv_start(const Digest& key) {
  const auto [at, is_new] = next_iv_start_.try_emplace(key);
  if (is_new) {
    std::array<std::uint8_t, 4> drawn{};
    random_.fill(drawn);
    for (const std::uint8_t octet : drawn) at->second = at->second << 8U | octet;
  }
  const std::uint32_t start = at->second;
  at->second += kIvBlocksOfAnSa;
  return start;
}

}  // namespace culvert::dataplane::control
