#include "tests/simulator/quick_key_exchange.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "crypto/ike/ike_crypto.hpp"

namespace culvert::simulation {
namespace {

using namespace crypto;
using namespace crypto::ike;

bool real = true;

constexpr std::size_t kBytes = 32;  // of X25519's values (RFC 7748 §5)
constexpr std::size_t kLanes = kBytes / sizeof(std::uint64_t);
using Lanes = std::array<std::uint64_t, kLanes>;

/// The numbers modulo the Mersenne prime 2^61 - 1: a discrete logarithm there is no secret.
constexpr std::uint64_t kPrime = (std::uint64_t{1} << 61U) - 1;
constexpr std::uint64_t kGenerator = 37;

std::uint64_t product(std::uint64_t a, std::uint64_t b) {
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(a) * b % kPrime);
}
std::uint64_t power(std::uint64_t base, std::uint64_t exponent) {
  std::uint64_t result = 1;
  for (base %= kPrime; exponent != 0; exponent >>= 1U) {
    if ((exponent & 1U) != 0) result = product(result, base);
    base = product(base, base);
  }
  return result;
}

Lanes lanes_of(Bytes bytes) {
  Lanes lanes{};
  std::memcpy(lanes.data(), bytes.data(), kBytes);
  lanes.back() &= ~(std::uint64_t{1} << 63U);  // X25519 masks that bit, too (RFC 7748 §5)
  return lanes;
}

/// Diffie-Hellman four times side by side, so that, as with X25519, no bit of a public value can be
/// damaged without another secret. Draws and sends as many octets.
class QuickKeyExchange final : public KeyExchange {
 public:
  explicit QuickKeyExchange(SecretBytes private_key)
      : private_key_(std::move(private_key)), public_value_(kBytes) {
    const Lanes generators{kGenerator, kGenerator, kGenerator, kGenerator};
    raise(generators, public_value_);
  }

  [[nodiscard]] Group group() const override { return Group::x25519; }
  [[nodiscard]] const std::vector<std::uint8_t>& public_value() const override {
    return public_value_;
  }
  [[nodiscard]] Result<SecretBytes> shared_secret(Bytes peer_public) const override {
    if (peer_public.size() != kBytes) {
      return std::unexpected(CryptoError{"the peer's public value has the wrong length"});
    }
    SecretBytes secret(kBytes);
    raise(lanes_of(peer_public), secret.span());
    if (std::ranges::all_of(secret.view(), [](std::uint8_t octet) { return octet == 0; })) {
      return std::unexpected(CryptoError{"the peer's public value yields an all-zero secret"});
    }
    return secret;
  }
  [[nodiscard]] SecretBytes private_key() const override { return private_key_.clone(); }

 private:
  void raise(Lanes bases, MutableBytes out) const {
    const Lanes exponents = lanes_of(private_key_.view());
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      bases[lane] = power(bases[lane], exponents[lane]);
    }
    std::memcpy(out.data(), bases.data(), kBytes);
  }

  SecretBytes private_key_;
  std::vector<std::uint8_t> public_value_;
};

using Made = Result<std::unique_ptr<KeyExchange>>;

}  // namespace

void use_real_key_exchange(bool whether) { real = whether; }

// The linker (--wrap) gives these two in the place of the ones that they fall back on.
Made real_generate(Group group, Random& random) asm(
    "__real__ZN7culvert6crypto3ike21generate_key_exchangeENS0_5GroupERNS1_6RandomE");
Made real_restore(Group group, Bytes private_key) asm(
    "__real__ZN7culvert6crypto3ike20restore_key_exchangeENS0_"
    "5GroupESt4spanIKhLm18446744073709551615EE");
Made quick_generate(Group group, Random& random) asm(
    "__wrap__ZN7culvert6crypto3ike21generate_key_exchangeENS0_5GroupERNS1_6RandomE");
Made quick_restore(Group group, Bytes private_key) asm(
    "__wrap__ZN7culvert6crypto3ike20restore_key_exchangeENS0_"
    "5GroupESt4spanIKhLm18446744073709551615EE");

Made quick_generate(Group group, Random& random) {
  if (real || group != Group::x25519) return real_generate(group, random);
  SecretBytes drawn(kBytes);
  random.fill(drawn.span());
  return std::make_unique<QuickKeyExchange>(std::move(drawn));
}

Made quick_restore(Group group, Bytes private_key) {
  if (real || group != Group::x25519) return real_restore(group, private_key);
  if (private_key.size() != kBytes) {
    return std::unexpected(CryptoError{"not a private key of this group"});
  }
  return std::make_unique<QuickKeyExchange>(SecretBytes(private_key));
}

}  // namespace culvert::simulation
