#include <algorithm>
#include <bit>

#include "crypto/ike/protector_parts.hpp"

namespace culvert::crypto::ike {
namespace {

constexpr std::size_t kGcmIvBytes = 8;    // RFC 5282 §3.1
constexpr std::size_t kGcmIcvBytes = 16;  // the only length the table has
constexpr std::size_t kGcmNonceBytes = kGcmSaltBytes + kGcmIvBytes;
/// Message IDs have 32 bits and are never reused under one key (RFC 7296 §2.2).
constexpr std::uint64_t kMaxSealsPerKey = std::uint64_t{1} << 32;

/// AES-GCM with a 16-byte ICV in the SK payload (RFC 5282), or ChaCha20-Poly1305 (RFC 7634 §2):
/// salt, IV, nonce and ICV have the same sizes and places.
class GcmProtector final : public Protector {
 public:
  GcmProtector(openssl::Cipher cipher, Bytes key_and_salt)
      : cipher_(std::move(cipher)), key_and_salt_(key_and_salt) {}

  [[nodiscard]] Bytes encryption_key() const override { return key_and_salt_.view(); }
  [[nodiscard]] Bytes integrity_key() const override { return {}; }
  [[nodiscard]] IvPosition iv_position() const override { return {first_iv_, seals_}; }
  void resume_at(IvPosition position) override {
    first_iv_ = position.first_iv;
    seals_ = position.seals;
  }

  [[nodiscard]] std::size_t iv_bytes() const override { return kGcmIvBytes; }
  [[nodiscard]] std::size_t icv_bytes() const override { return kGcmIcvBytes; }
  [[nodiscard]] std::size_t sealed_bytes(std::size_t plain_bytes) const override {
    // RFC 5282 §3: no alignment, so the padding is empty and only its length remains.
    return kGcmIvBytes + plain_bytes + kPadLengthBytes + kGcmIcvBytes;
  }

  [[nodiscard]] Result<void> seal(Bytes associated, Bytes plain, Random& random,
                                  MutableBytes out) override {
    if (out.size() != sealed_bytes(plain.size()) || out.size() > kMaxSealedBytes) {
      return std::unexpected(CryptoError{"room for the sealed payload has the wrong length"});
    }
    if (seals_ >= kMaxSealsPerKey) return std::unexpected(CryptoError{"this key is used up"});
    if (seals_ == 0) first_iv_ = draw_first_iv(random);
    const Nonce nonce = make_nonce(first_iv_ + seals_);
    ++seals_;

    const MutableBytes text = out.subspan(kGcmIvBytes, plain.size() + kPadLengthBytes);
    const MutableBytes icv = out.last(kGcmIcvBytes);
    std::copy(nonce.begin() + kGcmSaltBytes, nonce.end(), out.begin());
    std::copy(plain.begin(), plain.end(), text.begin());
    text.back() = 0;
    const openssl::CipherContext context(EVP_CIPHER_CTX_new());
    int written = 0;
    if (context == nullptr ||
        EVP_EncryptInit_ex2(context.get(), cipher_.get(), key().data(), nonce.data(),
                            nullptr) != 1 ||
        EVP_EncryptUpdate(context.get(), nullptr, &written, associated.data(),
                          length_of(associated)) != 1 ||
        EVP_EncryptUpdate(context.get(), text.data(), &written, text.data(), length_of(text)) !=
            1 ||
        EVP_EncryptFinal_ex(context.get(), icv.data(), &written) != 1 ||
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kGcmIcvBytes, icv.data()) != 1) {
      wipe(out.data(), out.size());
      return std::unexpected(refused("the AEAD failed"));
    }
    return {};
  }

  [[nodiscard]] Result<SecretBytes> open(Bytes associated, Bytes sealed) const override {
    if (sealed.size() < sealed_bytes(0) || sealed.size() > kMaxSealedBytes) {
      return std::unexpected(CryptoError{"the encrypted payload has an impossible length"});
    }
    Nonce nonce;
    std::ranges::copy(salt(), nonce.begin());
    std::ranges::copy(sealed.first(kGcmIvBytes), nonce.begin() + kGcmSaltBytes);
    const Bytes text = sealed.subspan(kGcmIvBytes, sealed.size() - kGcmIvBytes - kGcmIcvBytes);
    std::array<std::uint8_t, kGcmIcvBytes> icv;
    std::ranges::copy(sealed.last(kGcmIcvBytes), icv.begin());

    const openssl::CipherContext context(EVP_CIPHER_CTX_new());
    SecretBytes padded(text.size());
    int written = 0;
    if (context == nullptr ||
        EVP_DecryptInit_ex2(context.get(), cipher_.get(), key().data(), nonce.data(),
                            nullptr) != 1 ||
        EVP_DecryptUpdate(context.get(), nullptr, &written, associated.data(),
                          length_of(associated)) != 1 ||
        EVP_DecryptUpdate(context.get(), padded.span().data(), &written, text.data(),
                          length_of(text)) != 1 ||
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kGcmIcvBytes, icv.data()) != 1 ||
        EVP_DecryptFinal_ex(context.get(), padded.span().data(), &written) != 1) {
      return std::unexpected(refused("the integrity check failed"));
    }
    return without_padding(padded);
  }

 private:
  using Nonce = std::array<std::uint8_t, kGcmNonceBytes>;

  [[nodiscard]] Bytes key() const {
    return key_and_salt_.view().first(key_and_salt_.size() - kGcmSaltBytes);
  }
  [[nodiscard]] Bytes salt() const { return key_and_salt_.view().last(kGcmSaltBytes); }

  static std::uint64_t draw_first_iv(Random& random) {
    std::array<std::uint8_t, kGcmIvBytes> drawn;
    random.fill(drawn);
    return std::bit_cast<std::uint64_t>(drawn);
  }

  /// Salt, then the IV in network order.
  [[nodiscard]] Nonce make_nonce(std::uint64_t iv) const {
    Nonce nonce;
    std::ranges::copy(salt(), nonce.begin());
    for (std::size_t i = 0; i < kGcmIvBytes; ++i) {
      nonce[kGcmNonceBytes - 1 - i] = static_cast<std::uint8_t>(iv >> (8 * i));
    }
    return nonce;
  }

  openssl::Cipher cipher_;
  SecretBytes key_and_salt_;
  std::uint64_t first_iv_ = 0;
  std::uint64_t seals_ = 0;
};

}  // namespace

std::unique_ptr<Protector> make_gcm_protector(openssl::Cipher cipher, Bytes key_and_salt) {
  return std::make_unique<GcmProtector>(std::move(cipher), key_and_salt);
}

}  // namespace culvert::crypto::ike
