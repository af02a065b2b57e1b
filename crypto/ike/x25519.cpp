#include "crypto/ike/key_exchange_groups.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::ike {
namespace {

constexpr std::size_t kX25519Bytes = 32;

class X25519 final : public KeyExchange {
 public:
  X25519(openssl::Key key, std::vector<std::uint8_t> public_value)
      : key_(std::move(key)), public_value_(std::move(public_value)) {}

  [[nodiscard]] Group group() const override { return Group::x25519; }
  [[nodiscard]] const std::vector<std::uint8_t>& public_value() const override {
    return public_value_;
  }

  [[nodiscard]] Result<SecretBytes> shared_secret(Bytes peer_public) const override {
    if (peer_public.size() != kX25519Bytes) {
      return std::unexpected(CryptoError{"the peer's public value has the wrong length"});
    }
    const openssl::Key peer(EVP_PKEY_new_raw_public_key_ex(nullptr, "X25519", nullptr,
                                                           peer_public.data(), kX25519Bytes));
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, key_.get(), nullptr));
    if (peer == nullptr || context == nullptr || EVP_PKEY_derive_init(context.get()) != 1 ||
        EVP_PKEY_derive_set_peer(context.get(), peer.get()) != 1) {
      return std::unexpected(library_failure("X25519"));
    }
    SecretBytes secret(kX25519Bytes);
    std::size_t written = secret.size();
    const bool derived = EVP_PKEY_derive(context.get(), secret.span().data(), &written) == 1;
    // RFC 8031 §2.1 with RFC 7748 §6.1: an all-zero result comes from a point of small order. Newer
    // versions of OpenSSL refuse it themselves; the answer is the same.
    static constexpr std::array<std::uint8_t, kX25519Bytes> kZero{};
    if (!derived || written != kX25519Bytes || equal_constant_time(secret.view(), kZero)) {
      (void)library_failure("X25519");
      return std::unexpected(CryptoError{"the peer's public value yields an all-zero secret"});
    }
    return secret;
  }

 private:
  openssl::Key key_;
  std::vector<std::uint8_t> public_value_;
};

}  // namespace

Result<std::unique_ptr<KeyExchange>> generate_x25519(Random& random) {
  SecretBytes drawn(kX25519Bytes);
  random.fill(drawn.span());  // clamped where it is used (RFC 7748 §5)
  openssl::Key key(EVP_PKEY_new_raw_private_key_ex(nullptr, "X25519", nullptr, drawn.view().data(),
                                                   drawn.size()));
  std::vector<std::uint8_t> public_value(kX25519Bytes);
  std::size_t written = public_value.size();
  if (key == nullptr ||
      EVP_PKEY_get_raw_public_key(key.get(), public_value.data(), &written) != 1 ||
      written != kX25519Bytes) {
    return std::unexpected(library_failure("X25519"));
  }
  return std::make_unique<X25519>(std::move(key), std::move(public_value));
}

}  // namespace culvert::crypto::ike
