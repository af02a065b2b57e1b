// The MODP groups of RFC 3526: generator 2 over a safe prime. OpenSSL's numbers serve rather than
// its key objects, because those draw private values from their own generator and a simulation has
// to replay.
#include "crypto/ike/key_exchange_groups.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::ike {
namespace {

/// Bytes of a private exponent: twice the group's strength, the larger estimate of RFC 3526 §8.
constexpr std::size_t exponent_bytes(Group group) {
  switch (group) {
    case Group::modp2048:
      return 40;
    case Group::modp3072:
      return 53;
    case Group::modp4096:
      return 60;
    case Group::modp6144:
      return 68;
    case Group::modp8192:
      return 78;
    case Group::none:
    case Group::ecp256:
    case Group::ecp384:
    case Group::ecp521:
    case Group::x25519:
    case Group::x448:
      break;
  }
  return 0;
}

openssl::Number prime_of(Group group) {
  switch (group) {
    case Group::modp2048:
      return openssl::Number(BN_get_rfc3526_prime_2048(nullptr));
    case Group::modp3072:
      return openssl::Number(BN_get_rfc3526_prime_3072(nullptr));
    case Group::modp4096:
      return openssl::Number(BN_get_rfc3526_prime_4096(nullptr));
    case Group::modp6144:
      return openssl::Number(BN_get_rfc3526_prime_6144(nullptr));
    case Group::modp8192:
      return openssl::Number(BN_get_rfc3526_prime_8192(nullptr));
    case Group::none:
    case Group::ecp256:
    case Group::ecp384:
    case Group::ecp521:
    case Group::x25519:
    case Group::x448:
      break;
  }
  return nullptr;
}

class Modp final : public KeyExchange {
 public:
  Modp(Group group, openssl::Number prime, openssl::SecretNumber exponent)
      : group_(group), prime_(std::move(prime)), exponent_(std::move(exponent)) {}

  /// Computes g^x; false when OpenSSL fails.
  [[nodiscard]] bool compute_public_value() {
    const openssl::Number generator(BN_new());
    public_value_.resize(find(group_)->public_bytes);
    return generator != nullptr && BN_set_word(generator.get(), 2) == 1 &&
           raise(generator.get(), public_value_);
  }

  [[nodiscard]] Group group() const override { return group_; }
  [[nodiscard]] const std::vector<std::uint8_t>& public_value() const override {
    return public_value_;
  }

  [[nodiscard]] Result<SecretBytes> shared_secret(Bytes peer_public) const override {
    // RFC 7296 §3.4: the value has the length of the prime, zeros in front.
    if (peer_public.size() != public_value_.size()) {
      return std::unexpected(CryptoError{"the peer's public value has the wrong length"});
    }
    const openssl::Number peer(
        BN_bin2bn(peer_public.data(), static_cast<int>(peer_public.size()), nullptr));
    const openssl::Number largest(BN_dup(prime_.get()));  // p - 1
    if (peer == nullptr || largest == nullptr || BN_sub_word(largest.get(), 1) != 1) {
      return std::unexpected(library_failure("big numbers"));
    }
    // RFC 6989 §2.1: 1 < r < p - 1. More is not needed for a safe prime with fresh exponents.
    if (BN_is_zero(peer.get()) || BN_is_one(peer.get()) || BN_cmp(peer.get(), largest.get()) >= 0) {
      return std::unexpected(CryptoError{"the peer's public value is outside 2 … p-2 (RFC 6989)"});
    }
    SecretBytes secret(public_value_.size());
    if (!raise(peer.get(), secret.span())) {
      return std::unexpected(library_failure("modular exponentiation"));
    }
    return secret;
  }

  [[nodiscard]] SecretBytes private_key() const override {
    SecretBytes bytes(exponent_bytes(group_));
    const int width = static_cast<int>(bytes.size());
    if (BN_bn2binpad(exponent_.get(), bytes.span().data(), width) != width) return {};
    return bytes;
  }

 private:
  /// base^x mod p, big-endian, zeros in front up to the prime's length (RFC 7296 §2.14).
  [[nodiscard]] bool raise(const BIGNUM* base, MutableBytes out) const {
    const openssl::NumberContext scratch(BN_CTX_secure_new());
    const openssl::SecretNumber power(BN_new());
    return scratch != nullptr && power != nullptr &&
           BN_mod_exp_mont_consttime(power.get(), base, exponent_.get(), prime_.get(),
                                     scratch.get(), nullptr) == 1 &&
           BN_bn2binpad(power.get(), out.data(), static_cast<int>(out.size())) ==
               static_cast<int>(out.size());
  }

  Group group_;
  openssl::Number prime_;
  openssl::SecretNumber exponent_;
  std::vector<std::uint8_t> public_value_;
};

}  // namespace

Result<std::unique_ptr<KeyExchange>> generate_modp(Group group, Random& random) {
  SecretBytes drawn(exponent_bytes(group));
  random.fill(drawn.span());
  // The top bit set: every exponent has the full length, and none is 0 or 1.
  drawn.span().front() |= 0x80U;
  openssl::SecretNumber exponent(
      BN_bin2bn(drawn.view().data(), static_cast<int>(drawn.size()), nullptr));
  openssl::Number prime = prime_of(group);
  if (exponent == nullptr || prime == nullptr) {
    return std::unexpected(library_failure("big numbers"));
  }
  BN_set_flags(exponent.get(), BN_FLG_CONSTTIME);
  auto exchange = std::make_unique<Modp>(group, std::move(prime), std::move(exponent));
  if (!exchange->compute_public_value()) {
    return std::unexpected(library_failure("modular exponentiation"));
  }
  return exchange;
}

}  // namespace culvert::crypto::ike
