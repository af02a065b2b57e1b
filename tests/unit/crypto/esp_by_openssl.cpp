#include "tests/unit/crypto/esp_by_openssl.hpp"

#include <array>
#include <string>

#include <catch2/catch.hpp>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::test {
namespace {

Buffer part(const Buffer& of, std::size_t first, std::size_t bytes) {
  REQUIRE(first + bytes <= of.size());
  const auto begin = of.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(bytes)};
}

Buffer big_endian(std::uint32_t word) {
  return {static_cast<std::uint8_t>(word >> 24U), static_cast<std::uint8_t>(word >> 16U),
          static_cast<std::uint8_t>(word >> 8U), static_cast<std::uint8_t>(word)};
}
Buffer low_half(const EspByHand& of) { return big_endian(static_cast<std::uint32_t>(of.sequence)); }
Buffer high_half(const EspByHand& of) {
  return of.has_esn ? big_endian(static_cast<std::uint32_t>(of.sequence >> 32U)) : Buffer();
}
/// RFC 4106 §5, RFC 4309 §5, RFC 7634 §2.1: SPI, then the number with all bits that the SA counts.
Buffer associated_data(const EspByHand& of) {
  return big_endian(of.spi) + high_half(of) + low_half(of);
}

openssl::Cipher fetch(const std::string& name) {
  openssl::Cipher cipher(EVP_CIPHER_fetch(nullptr, name.c_str(), nullptr));
  REQUIRE(cipher != nullptr);
  return cipher;
}
std::string aes(const EspSuite& suite, const char* mode) {
  return "AES-" + std::to_string(suite.key_bits) + "-" + mode;
}
int length_of(const Buffer& of) { return static_cast<int>(of.size()); }

/// Ciphertext, and behind it the tag.
Buffer seal_aead(const std::string& name, const Buffer& key, const Buffer& nonce, const Buffer& aad,
                 const Buffer& text, int tag_bytes) {
  const openssl::Cipher cipher = fetch(name);
  const openssl::CipherContext context(EVP_CIPHER_CTX_new());
  EVP_CIPHER_CTX* const raw = context.get();
  const bool is_ccm = EVP_CIPHER_get_mode(cipher.get()) == EVP_CIPH_CCM_MODE;
  int written = 0;
  REQUIRE(EVP_EncryptInit_ex2(raw, cipher.get(), nullptr, nullptr, nullptr) == 1);
  REQUIRE(EVP_CIPHER_CTX_ctrl(raw, EVP_CTRL_AEAD_SET_IVLEN, length_of(nonce), nullptr) == 1);
  // CCM's first block says how long tag and text are.
  if (is_ccm) REQUIRE(EVP_CIPHER_CTX_ctrl(raw, EVP_CTRL_AEAD_SET_TAG, tag_bytes, nullptr) == 1);
  REQUIRE(EVP_EncryptInit_ex2(raw, nullptr, key.data(), nonce.data(), nullptr) == 1);
  if (is_ccm) {
    REQUIRE(EVP_EncryptUpdate(raw, nullptr, &written, nullptr, length_of(text)) == 1);
  }
  REQUIRE(EVP_EncryptUpdate(raw, nullptr, &written, aad.data(), length_of(aad)) == 1);
  Buffer sealed(text.size());
  Buffer rest(16);
  if (!text.empty() || is_ccm) {
    REQUIRE(EVP_EncryptUpdate(raw, sealed.data(), &written, text.data(), length_of(text)) == 1);
  }
  REQUIRE(EVP_EncryptFinal_ex(raw, rest.data(), &written) == 1);
  Buffer tag(static_cast<std::size_t>(tag_bytes));
  REQUIRE(EVP_CIPHER_CTX_ctrl(raw, EVP_CTRL_AEAD_GET_TAG, tag_bytes, tag.data()) == 1);
  return sealed + tag;
}

Buffer encrypt(const std::string& name, const Buffer& key, const Buffer& iv, const Buffer& text) {
  const openssl::Cipher cipher = fetch(name);
  const openssl::CipherContext context(EVP_CIPHER_CTX_new());
  Buffer sealed(text.size());
  int written = 0;
  REQUIRE(EVP_EncryptInit_ex2(context.get(), cipher.get(), key.data(), iv.data(), nullptr) == 1);
  REQUIRE(EVP_CIPHER_CTX_set_padding(context.get(), 0) == 1);
  REQUIRE(EVP_EncryptUpdate(context.get(), sealed.data(), &written, text.data(), length_of(text)) ==
          1);
  REQUIRE(written == length_of(text));
  return sealed;
}

struct Icv {
  Integrity id;
  const char* hash;
  std::size_t bytes;  ///< RFC 2404 §2, RFC 4868 §2.3
};
constexpr std::array kIcvs{Icv{Integrity::hmac_sha1_96, "SHA1", 12},
                           Icv{Integrity::hmac_sha2_256_128, "SHA256", 16},
                           Icv{Integrity::hmac_sha2_384_192, "SHA384", 24},
                           Icv{Integrity::hmac_sha2_512_256, "SHA512", 32}};

/// RFC 4303 §2.8: over SPI to trailer, then the number's high half, which is not sent (§2.2.1).
Buffer with_hmac(const EspByHand& of, const Buffer& packet, const Buffer& key) {
  for (const Icv& icv : kIcvs) {
    if (icv.id != of.suite.integrity) continue;
    return packet + part(hmac_by_openssl(icv.hash, key, packet + high_half(of)), 0, icv.bytes);
  }
  FAIL("no such integrity");
  return {};
}

}  // namespace

Buffer operator+(Buffer first, const Buffer& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

Buffer hmac_by_openssl(const char* hash, const Buffer& key, const Buffer& data) {
  const openssl::Mac mac(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
  const openssl::MacContext context(EVP_MAC_CTX_new(mac.get()));
  std::string name = hash;
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name.data(), 0),
      OSSL_PARAM_construct_end()};
  REQUIRE(EVP_MAC_init(context.get(), key.data(), key.size(), parameters) == 1);
  REQUIRE(EVP_MAC_update(context.get(), data.data(), data.size()) == 1);
  Buffer out(EVP_MAC_CTX_get_mac_size(context.get()));
  std::size_t bytes = 0;
  REQUIRE(EVP_MAC_final(context.get(), out.data(), &bytes, out.size()) == 1);
  REQUIRE(bytes == out.size());
  return out;
}

Buffer seal_by_openssl(const EspByHand& of, const Buffer& iv, const Buffer& text) {
  constexpr int kTagBytes = 16;
  const std::size_t cipher_key_bytes = of.suite.key_bits / 8U;
  const Buffer key = part(of.key, 0, cipher_key_bytes);
  const Buffer header = big_endian(of.spi) + low_half(of) + iv;
  const auto salt = [&](std::size_t bytes) { return part(of.key, cipher_key_bytes, bytes); };
  const auto integrity_key = [&](std::size_t from) {
    return part(of.key, from, of.key.size() - from);
  };
  switch (of.suite.encryption) {
    case Encryption::aes_gcm_16:  // RFC 4106 §4
      return header + seal_aead(aes(of.suite, "GCM"), key, salt(4) + iv, associated_data(of), text,
                                kTagBytes);
    case Encryption::chacha20_poly1305:  // RFC 7634 §2
      return header + seal_aead("ChaCha20-Poly1305", key, salt(4) + iv, associated_data(of), text,
                                kTagBytes);
    case Encryption::aes_ccm_8:  // RFC 4309 §4
    case Encryption::aes_ccm_16:
      return header + seal_aead(aes(of.suite, "CCM"), key, salt(3) + iv, associated_data(of), text,
                                of.suite.encryption == Encryption::aes_ccm_8 ? 8 : 16);
    case Encryption::null_aes_gmac:  // RFC 4543 §3.3: all of it is associated data
      return header + text +
             seal_aead(aes(of.suite, "GCM"), key, salt(4) + iv, associated_data(of) + iv + text, {},
                       kTagBytes);
    case Encryption::aes_ctr:  // RFC 3686 §4: nonce, IV, and a counter that begins at one
      return with_hmac(
          of, header + encrypt(aes(of.suite, "CTR"), key, salt(4) + iv + big_endian(1), text),
          integrity_key(cipher_key_bytes + 4));
    case Encryption::aes_cbc:  // RFC 3602 §2
      return with_hmac(of, header + encrypt(aes(of.suite, "CBC"), key, iv, text),
                       integrity_key(cipher_key_bytes));
    case Encryption::null:  // RFC 2410
      return with_hmac(of, header + text, of.key);
    case Encryption::none:
      break;
  }
  FAIL("no such encryption");
  return {};
}

}  // namespace culvert::crypto::test
