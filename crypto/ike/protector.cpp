#include <array>

#include <openssl/err.h>

#include "crypto/ike/protector_parts.hpp"

namespace culvert::crypto::ike {
namespace {

Result<Hash> hash_of(Integrity id) {
  switch (id) {
    case Integrity::hmac_sha2_256_128:
      return Hash::sha2_256;
    case Integrity::hmac_sha2_384_192:
      return Hash::sha2_384;
    case Integrity::hmac_sha2_512_256:
      return Hash::sha2_512;
    case Integrity::none:
    case Integrity::hmac_sha1_96:
      break;
  }
  return std::unexpected(CryptoError{"AES-CBC needs an integrity algorithm"});
}

struct SuiteCipher {
  Encryption encryption;
  std::uint16_t key_bits;
  const char* name;  ///< OpenSSL's
};
constexpr std::array kCiphers{
    SuiteCipher{Encryption::aes_gcm_16, 128, "AES-128-GCM"},
    SuiteCipher{Encryption::aes_gcm_16, 192, "AES-192-GCM"},
    SuiteCipher{Encryption::aes_gcm_16, 256, "AES-256-GCM"},
    SuiteCipher{Encryption::aes_cbc, 128, "AES-128-CBC"},
    SuiteCipher{Encryption::aes_cbc, 192, "AES-192-CBC"},
    SuiteCipher{Encryption::aes_cbc, 256, "AES-256-CBC"},
    SuiteCipher{Encryption::chacha20_poly1305, 256, "ChaCha20-Poly1305"},
};

/// The cipher of a suite, looked up once; an error for one that IKE does not have here, or a key
/// length that it does not have: a record may say anything.
Result<openssl::Cipher> cipher_of(Encryption id, std::uint16_t key_bits) {
  static const auto fetched = [] {
    std::array<openssl::Cipher, kCiphers.size()> all;
    for (std::size_t at = 0; at < all.size(); ++at) {
      all[at].reset(EVP_CIPHER_fetch(nullptr, kCiphers[at].name, nullptr));
    }
    ERR_clear_error();
    return all;
  }();
  for (std::size_t at = 0; at < kCiphers.size(); ++at) {
    if (kCiphers[at].encryption != id || kCiphers[at].key_bits != key_bits) continue;
    EVP_CIPHER* const cipher = fetched[at].get();
    if (cipher == nullptr || EVP_CIPHER_up_ref(cipher) != 1) {
      return std::unexpected(refused("OpenSSL lacks this cipher"));
    }
    return openssl::Cipher(cipher);
  }
  return std::unexpected(CryptoError{"no such cipher or key length for IKE"});
}

}  // namespace

CryptoError refused(const char* what) {
  ERR_clear_error();
  return CryptoError{what};
}

Result<SecretBytes> without_padding(const SecretBytes& padded) {
  const Bytes all = padded.view();
  const std::size_t padding = std::size_t{all.back()} + kPadLengthBytes;
  if (padding > all.size()) return std::unexpected(CryptoError{"padding longer than the payload"});
  return SecretBytes(all.first(all.size() - padding));
}

std::size_t protector_key_bytes(const IkeSuite& suite) {
  const EncryptionInfo* info = find(suite.encryption);
  return info == nullptr ? 0 : suite.key_bits / 8U + info->salt_bytes;
}

std::size_t protector_integrity_key_bytes(const IkeSuite& suite) {
  const IntegrityInfo* info = find(suite.integrity);
  return info == nullptr ? 0 : info->key_bytes;
}

Result<std::unique_ptr<Protector>> make_protector(const IkeSuite& suite, Bytes encryption_key,
                                                  Bytes integrity_key) {
  const EncryptionInfo* info = find(suite.encryption);
  if (info == nullptr) return std::unexpected(CryptoError{"no such cipher"});
  Result<openssl::Cipher> cipher = cipher_of(suite.encryption, suite.key_bits);
  if (!cipher) return std::unexpected(cipher.error());
  if (info->aead != (suite.integrity == Integrity::none)) {
    return std::unexpected(
        CryptoError{"AEAD goes without, and AES-CBC with, an integrity algorithm"});
  }
  if (encryption_key.size() != protector_key_bytes(suite) ||
      integrity_key.size() != protector_integrity_key_bytes(suite)) {
    return std::unexpected(CryptoError{"keys of the wrong length"});
  }
  if (info->aead) return make_gcm_protector(*std::move(cipher), encryption_key);

  const Result<Hash> hash = hash_of(suite.integrity);
  if (!hash) return std::unexpected(hash.error());
  return make_cbc_protector(*std::move(cipher), encryption_key, *hash, integrity_key,
                            find(suite.integrity)->icv_bytes);
}

}  // namespace culvert::crypto::ike
