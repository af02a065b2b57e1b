#include <climits>
#include <cstdlib>

#include <openssl/rand.h>

#include "crypto/ike/ike_crypto.hpp"

namespace culvert::crypto::ike {
namespace {

class SystemRandom final : public Random {
 public:
  void fill(MutableBytes out) override {
    while (!out.empty()) {
      const std::size_t part = std::min<std::size_t>(out.size(), INT_MAX);
      if (RAND_bytes(out.data(), static_cast<int>(part)) != 1) std::abort();
      out = out.subspan(part);
    }
  }
};

/// SplitMix64 (Steele, Lea, Flood 2014): a counter through a mixer, each word written low byte
/// first so that every machine yields the same bytes. Predictable: never for real keys.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed) {}

  void fill(MutableBytes out) override {
    for (std::uint8_t& byte : out) {
      if (bytes_left_ == 0) {
        word_ = next();
        bytes_left_ = sizeof(word_);
      }
      byte = static_cast<std::uint8_t>(word_);
      word_ >>= 8;
      --bytes_left_;
    }
  }

 private:
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9U;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebU;
    return mixed ^ (mixed >> 31);
  }

  std::uint64_t state_;
  std::uint64_t word_ = 0;
  std::size_t bytes_left_ = 0;
};

}  // namespace

std::unique_ptr<Random> make_system_random() { return std::make_unique<SystemRandom>(); }

std::unique_ptr<Random> make_seeded_random(std::uint64_t seed) {
  return std::make_unique<SeededRandom>(seed);
}

}  // namespace culvert::crypto::ike
