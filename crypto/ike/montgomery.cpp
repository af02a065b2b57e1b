// The Montgomery curves of RFC 7748: X25519 and X448, for IKE by RFC 8031.
#include "crypto/ike/key_exchange_groups.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::ike {
namespace {

/// OpenSSL's name of the curve; nullptr for other groups.
const char* curve_name(Group group) {
  return group == Group::x25519 ? "X25519" : group == Group::x448 ? "X448" : nullptr;
}

class Montgomery final : public KeyExchange {
 public:
  Montgomery(Group group, openssl::Key key, std::vector<std::uint8_t> public_value)
      : group_(group), key_(std::move(key)), public_value_(std::move(public_value)) {}

  [[nodiscard]] Group group() const override { return group_; }
  [[nodiscard]] const std::vector<std::uint8_t>& public_value() const override {
    return public_value_;
  }

  [[nodiscard]] Result<SecretBytes> shared_secret(Bytes peer_public) const override {
    const char* const name = curve_name(group_);
    if (peer_public.size() != public_value_.size()) {
      return std::unexpected(CryptoError{"the peer's public value has the wrong length"});
    }
    const openssl::Key peer(EVP_PKEY_new_raw_public_key_ex(nullptr, name, nullptr,
                                                           peer_public.data(), peer_public.size()));
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, key_.get(), nullptr));
    if (peer == nullptr || context == nullptr || EVP_PKEY_derive_init(context.get()) != 1 ||
        EVP_PKEY_derive_set_peer(context.get(), peer.get()) != 1) {
      return std::unexpected(library_failure(name));
    }
    SecretBytes secret(public_value_.size());
    std::size_t written = secret.size();
    const bool derived = EVP_PKEY_derive(context.get(), secret.span().data(), &written) == 1;
    // RFC 8031 §2.1 with RFC 7748 §6: an all-zero result comes from a point of small order. Newer
    // versions of OpenSSL refuse it themselves; the answer is the same.
    const SecretBytes zero(public_value_.size());
    if (!derived || written != secret.size() || equal_constant_time(secret.view(), zero.view())) {
      (void)library_failure(name);
      return std::unexpected(CryptoError{"the peer's public value yields an all-zero secret"});
    }
    return secret;
  }

  [[nodiscard]] SecretBytes private_key() const override {
    SecretBytes bytes(public_value_.size());
    std::size_t written = bytes.size();
    if (EVP_PKEY_get_raw_private_key(key_.get(), bytes.span().data(), &written) != 1) return {};
    return bytes;
  }

 private:
  Group group_;
  openssl::Key key_;
  std::vector<std::uint8_t> public_value_;
};

}  // namespace

Result<std::unique_ptr<KeyExchange>> generate_montgomery(Group group, Random& random) {
  const char* const name = curve_name(group);
  const GroupInfo* const info = find(group);
  if (name == nullptr || info == nullptr) return std::unexpected(CryptoError{"no such curve"});
  SecretBytes drawn(info->public_bytes);
  random.fill(drawn.span());  // clamped where it is used (RFC 7748 §5)
  openssl::Key key(
      EVP_PKEY_new_raw_private_key_ex(nullptr, name, nullptr, drawn.view().data(), drawn.size()));
  std::vector<std::uint8_t> public_value(info->public_bytes);
  std::size_t written = public_value.size();
  if (key == nullptr ||
      EVP_PKEY_get_raw_public_key(key.get(), public_value.data(), &written) != 1 ||
      written != public_value.size()) {
    return std::unexpected(library_failure(name));
  }
  return std::make_unique<Montgomery>(group, std::move(key), std::move(public_value));
}

}  // namespace culvert::crypto::ike
