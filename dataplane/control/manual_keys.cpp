#include "dataplane/control/manual_keys.hpp"

#include <algorithm>

namespace culvert::dataplane::control {
namespace {

/// Of 2^32 IVs each, one a packet: an SA that sends more than 2^48 packets is none of this world.
constexpr std::uint32_t kIvBlocksOfAnSa = 1U << 16U;
constexpr std::uint32_t kPlacesOfAKey = 1U << 16U;  // all 2^64 IVs

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

/// The first place is drawn, for nothing is known of a life before this one: it had the same one
/// with a probability of 2^-32, and with that of 2^-32 for each SA more that either life has begun
/// under the key it had one that is some SAs away. IVs begin at the place, however far the SA's
/// numbers have come.
std::uint32_t ManualKeys::take_iv_start(const Digest& key, std::uint64_t first_sequence) {
  const auto [at, is_new] = iv_places_.try_emplace(key);
  Places& places = at->second;
  if (is_new) {
    std::array<std::uint8_t, 4> drawn{};
    random_.fill(drawn);
    for (const std::uint8_t octet : drawn) places.first = places.first << 8U | octet;
  }
  const std::uint32_t place = places.first + places.taken++ * kIvBlocksOfAnSa;
  return place - static_cast<std::uint32_t>(first_sequence >> 32U);
}

std::uint32_t ManualKeys::places_left(const Digest& key) const {
  const auto found = iv_places_.find(key);
  return found == iv_places_.end() ? kPlacesOfAKey : kPlacesOfAKey - found->second.taken;
}

}  // namespace culvert::dataplane::control
