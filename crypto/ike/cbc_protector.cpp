#include <algorithm>

#include "crypto/ike/protector_parts.hpp"

namespace culvert::crypto::ike {
namespace {

constexpr std::size_t kBlockBytes = 16;  // AES

/// AES-CBC, then HMAC-SHA2 over everything in front of the ICV (RFC 7296 §3.14).
class CbcProtector final : public Protector {
 public:
  CbcProtector(openssl::Cipher cipher, Bytes key, Hash hash, Bytes integrity_key,
               std::size_t icv_bytes)
      : cipher_(std::move(cipher)),
        key_(key),
        integrity_key_(integrity_key),
        hash_(hash),
        icv_bytes_(icv_bytes) {}

  [[nodiscard]] Bytes encryption_key() const override { return key_.view(); }
  [[nodiscard]] Bytes integrity_key() const override { return integrity_key_.view(); }

  [[nodiscard]] std::size_t iv_bytes() const override { return kBlockBytes; }
  [[nodiscard]] std::size_t icv_bytes() const override { return icv_bytes_; }
  [[nodiscard]] std::size_t sealed_bytes(std::size_t plain_bytes) const override {
    return kBlockBytes + padded_bytes(plain_bytes) + icv_bytes_;
  }

  [[nodiscard]] Result<void> seal(Bytes associated, Bytes plain, Random& random,
                                  MutableBytes out) override {
    if (out.size() != sealed_bytes(plain.size()) || out.size() > kMaxSealedBytes) {
      return std::unexpected(CryptoError{"room for the sealed payload has the wrong length"});
    }
    const MutableBytes iv = out.first(kBlockBytes);
    const MutableBytes text = out.subspan(kBlockBytes, padded_bytes(plain.size()));
    random.fill(iv);  // unpredictable, as CBC needs (RFC 7296 §3.14)
    const std::size_t padding = text.size() - plain.size() - kPadLengthBytes;
    std::ranges::copy(plain, text.begin());
    std::ranges::fill(text.subspan(plain.size(), padding), std::uint8_t{0});
    text.back() = static_cast<std::uint8_t>(padding);

    const openssl::CipherContext context(EVP_CIPHER_CTX_new());
    int written = 0;
    const bool encrypted = context != nullptr &&
                           EVP_EncryptInit_ex2(context.get(), cipher_.get(), key_.view().data(),
                                               iv.data(), nullptr) == 1 &&
                           EVP_CIPHER_CTX_set_padding(context.get(), 0) == 1 &&
                           EVP_EncryptUpdate(context.get(), text.data(), &written, text.data(),
                                             length_of(text)) == 1 &&
                           written == length_of(text);
    const Result<SecretBytes> icv = compute_icv(associated, out.first(out.size() - icv_bytes_));
    if (!encrypted || !icv) {
      wipe(out.data(), out.size());
      return std::unexpected(refused("AES-CBC with HMAC failed"));
    }
    std::ranges::copy(icv->view().first(icv_bytes_), out.last(icv_bytes_).begin());
    return {};
  }

  [[nodiscard]] Result<SecretBytes> open(Bytes associated, Bytes sealed) const override {
    const std::size_t around = kBlockBytes + icv_bytes_;
    if (sealed.size() < around + kBlockBytes || sealed.size() > kMaxSealedBytes ||
        (sealed.size() - around) % kBlockBytes != 0) {
      return std::unexpected(CryptoError{"the encrypted payload has an impossible length"});
    }
    // The ICV first: nothing is decrypted, and no padding is looked at, before it agrees.
    const Result<SecretBytes> icv =
        compute_icv(associated, sealed.first(sealed.size() - icv_bytes_));
    if (!icv) return std::unexpected(icv.error());
    if (!equal_constant_time(icv->view().first(icv_bytes_), sealed.last(icv_bytes_))) {
      return std::unexpected(CryptoError{"the integrity check failed"});
    }
    const Bytes text = sealed.subspan(kBlockBytes, sealed.size() - around);
    const openssl::CipherContext context(EVP_CIPHER_CTX_new());
    SecretBytes padded(text.size());
    int written = 0;
    if (context == nullptr ||
        EVP_DecryptInit_ex2(context.get(), cipher_.get(), key_.view().data(), sealed.data(),
                            nullptr) != 1 ||
        EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1 ||
        EVP_DecryptUpdate(context.get(), padded.span().data(), &written, text.data(),
                          length_of(text)) != 1 ||
        written != length_of(text)) {
      return std::unexpected(refused("AES-CBC failed"));
    }
    return without_padding(padded);
  }

 private:
  static std::size_t padded_bytes(std::size_t plain_bytes) {
    return (plain_bytes + kPadLengthBytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  }

  [[nodiscard]] Result<SecretBytes> compute_icv(Bytes associated, Bytes iv_and_text) const {
    const std::array<Bytes, 2> pieces{associated, iv_and_text};
    return hmac(hash_, integrity_key_.view(), pieces);
  }

  openssl::Cipher cipher_;
  SecretBytes key_;
  SecretBytes integrity_key_;
  Hash hash_;
  std::size_t icv_bytes_;
};

}  // namespace

std::unique_ptr<Protector> make_cbc_protector(openssl::Cipher cipher, Bytes key, Hash hash,
                                              Bytes integrity_key, std::size_t icv_bytes) {
  return std::make_unique<CbcProtector>(std::move(cipher), key, hash, integrity_key, icv_bytes);
}

}  // namespace culvert::crypto::ike
