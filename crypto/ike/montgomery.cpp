// The Montgomery curves of RFC 7748: X25519 and X448, for IKE by RFC 8031.
#include <openssl/core_names.h>
#include <openssl/params.h>

#include "crypto/ike/key_exchange_groups.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::ike {
namespace {

/// OpenSSL's name of the curve; nullptr for other groups.
const char* curve_name(Group group) {
  return group == Group::x25519 ? "X25519" : group == Group::x448 ? "X448" : nullptr;
}

/// What makes keys of a curve. A context that is made by name looks the name up each time, so every
/// thread keeps its own; it holds nothing of the keys it has made.
EVP_PKEY_CTX* key_maker(Group group) {
  const auto make = [](const char* name) {
    openssl::KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, name, nullptr));
    if (context != nullptr && EVP_PKEY_fromdata_init(context.get()) != 1) context = nullptr;
    return context;
  };
  static thread_local const openssl::KeyContext x25519 = make("X25519");
  static thread_local const openssl::KeyContext x448 = make("X448");
  return group == Group::x25519 ? x25519.get() : x448.get();
}

/// A key of a private value (its public one is computed) or of a public value; nullptr when OpenSSL
/// fails.
openssl::Key make_key(Group group, const char* parameter, int selection, Bytes value) {
  EVP_PKEY_CTX* const maker = key_maker(group);
  OSSL_PARAM parameters[] = {OSSL_PARAM_construct_octet_string(
                                 parameter, const_cast<std::uint8_t*>(value.data()), value.size()),
                             OSSL_PARAM_construct_end()};
  EVP_PKEY* key = nullptr;
  if (maker == nullptr || EVP_PKEY_fromdata(maker, &key, selection, parameters) != 1) {
    return nullptr;
  }
  return openssl::Key(key);
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
    const openssl::Key peer =
        make_key(group_, OSSL_PKEY_PARAM_PUB_KEY, EVP_PKEY_PUBLIC_KEY, peer_public);
    // Not validated: every string of this length is a public value (RFC 7748 §5).
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, key_.get(), nullptr));
    if (peer == nullptr || context == nullptr || EVP_PKEY_derive_init(context.get()) != 1 ||
        EVP_PKEY_derive_set_peer_ex(context.get(), peer.get(), 0) != 1) {
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
  openssl::Key key = make_key(group, OSSL_PKEY_PARAM_PRIV_KEY, EVP_PKEY_KEYPAIR, drawn.view());
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
