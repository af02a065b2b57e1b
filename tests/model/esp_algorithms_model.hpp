// ESP's algorithms by OpenSSL's EVP: what each adds to a packet (RFC 4303 §2), and the text of one
// packet encrypted and authenticated or the other way.
#pragma once

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "crypto/suite.hpp"
#include "tests/model/packet.hpp"

namespace culvert::model {

struct EspSa {
  /// Cipher key, salt or nonce, integrity key (RFC 7296 §2.17, RFC 4106 §8.1, RFC 3686 §5.1).
  ByteString keymat;
  std::uint32_t spi = 0;
  bool esn = false;
  crypto::Encryption encryption = crypto::Encryption::aes_gcm_16;
  crypto::Integrity integrity = crypto::Integrity::none;
};

/// In bytes. `block`: what is encrypted fills whole ones, of four bytes at least (RFC 4303 §2.4).
struct EspSizes {
  std::size_t salt = 0, iv = 0, block = 4, icv = 0, integrity_key = 0;
};

namespace detail {

using Context = std::unique_ptr<EVP_CIPHER_CTX, void (*)(EVP_CIPHER_CTX*)>;

inline void need(bool claim) {
  if (!claim) std::abort();
}

}  // namespace detail

inline EspSizes sizes_of(const EspSa& sa) {
  EspSizes sizes;
  switch (sa.encryption) {
    case crypto::Encryption::aes_gcm_16:         // RFC 4106 §3, §6
    case crypto::Encryption::chacha20_poly1305:  // RFC 7634 §2
    case crypto::Encryption::null_aes_gmac:      // RFC 4543 §3
      sizes.salt = 4, sizes.iv = 8, sizes.icv = 16;
      break;
    case crypto::Encryption::aes_ccm_16:  // RFC 4309 §4, §6
      sizes.salt = 3, sizes.iv = 8, sizes.icv = 16;
      break;
    case crypto::Encryption::aes_ccm_8:
      sizes.salt = 3, sizes.iv = 8, sizes.icv = 8;
      break;
    case crypto::Encryption::aes_cbc:  // RFC 3602 §3
      sizes.iv = sizes.block = 16;
      break;
    case crypto::Encryption::aes_ctr:  // RFC 3686 §3.1, §4
      sizes.salt = 4, sizes.iv = 8;
      break;
    case crypto::Encryption::null:  // RFC 2410
    case crypto::Encryption::none:
      break;
  }
  switch (sa.integrity) {
    case crypto::Integrity::none:
      break;
    case crypto::Integrity::hmac_sha1_96:  // RFC 2404 §2, §3
      sizes.icv = 12, sizes.integrity_key = 20;
      break;
    case crypto::Integrity::hmac_sha2_256_128:  // RFC 4868 §2.6
      sizes.icv = 16, sizes.integrity_key = 32;
      break;
    case crypto::Integrity::hmac_sha2_384_192:
      sizes.icv = 24, sizes.integrity_key = 48;
      break;
    case crypto::Integrity::hmac_sha2_512_256:
      sizes.icv = 32, sizes.integrity_key = 64;
      break;
  }
  return sizes;
}

/// A packet between its ESP header and its end.
struct EspText {
  ByteString iv, text, icv;  ///< of `text`, payload and trailer: as it is, or encrypted
};

namespace detail {

inline std::size_t cipher_key_bytes(const EspSa& sa) {
  const EspSizes sizes = sizes_of(sa);
  return sa.keymat.size() - sizes.salt - sizes.integrity_key;
}

/// Fetched once: to find it by its name takes longer than a packet.
inline const EVP_CIPHER* cipher_of(const EspSa& sa) {
  using crypto::Encryption;
  static const std::map<Encryption, std::string> kModes = {
      {Encryption::aes_gcm_16, "-GCM"}, {Encryption::null_aes_gmac, "-GCM"},
      {Encryption::aes_ccm_16, "-CCM"}, {Encryption::aes_ccm_8, "-CCM"},
      {Encryption::aes_cbc, "-CBC"},    {Encryption::aes_ctr, "-CTR"}};
  static std::map<std::pair<Encryption, std::size_t>, EVP_CIPHER*> fetched;
  const std::size_t key_bytes = cipher_key_bytes(sa);
  EVP_CIPHER*& cipher = fetched[{sa.encryption, key_bytes}];
  if (cipher != nullptr) return cipher;
  const std::string name = sa.encryption == Encryption::chacha20_poly1305
                               ? "ChaCha20-Poly1305"
                               : "AES-" + std::to_string(8 * key_bytes) + kModes.at(sa.encryption);
  cipher = EVP_CIPHER_fetch(nullptr, name.c_str(), nullptr);
  need(cipher != nullptr);
  return cipher;
}

/// RFC 4106 §5, RFC 4309 §5, RFC 7634 §2.1: SPI and sequence number, with ESN all 64 bits of it.
inline ByteString aad_of(const EspSa& sa, std::uint64_t sequence) {
  ByteString aad;
  put32(aad, sa.spi);
  if (sa.esn) put32(aad, sequence >> 32U);
  put32(aad, sequence & 0xffffffffU);
  return aad;
}

/// RFC 4106 §4, RFC 4309 §4, RFC 7634 §2: salt, IV.
inline ByteString nonce_of(const EspSa& sa, const ByteString& iv) {
  ByteString nonce = slice(sa.keymat, cipher_key_bytes(sa), sizes_of(sa).salt);
  put(nonce, iv);
  return nonce;
}

inline void update(EVP_CIPHER_CTX* context, std::uint8_t* to, const ByteString& from) {
  int length = 0;
  need(EVP_CipherUpdate(context, to, &length, from.data(), static_cast<int>(from.size())) == 1);
}

/// `icv`: to be made when it seals, else to be compared. nullopt: they differ.
inline std::optional<ByteString> aead(const EspSa& sa, const ByteString& nonce,
                                      const ByteString& aad, const ByteString& text,
                                      ByteString& icv, bool seals) {
  const Context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  EVP_CIPHER_CTX* const c = context.get();
  const bool is_ccm = sa.encryption == crypto::Encryption::aes_ccm_16 ||
                      sa.encryption == crypto::Encryption::aes_ccm_8;
  const int direction = seals ? 1 : 0, icv_bytes = static_cast<int>(icv.size());
  int length = 0;
  need(EVP_CipherInit_ex(c, cipher_of(sa), nullptr, nullptr, nullptr, direction) == 1);
  need(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_IVLEN, static_cast<int>(nonce.size()), nullptr) ==
       1);
  if (!seals || is_ccm) {
    need(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, icv_bytes, seals ? nullptr : icv.data()) ==
         1);
  }
  need(EVP_CipherInit_ex(c, nullptr, nullptr, sa.keymat.data(), nonce.data(), direction) == 1);
  // CCM's first block has the length in it.
  if (is_ccm) {
    need(EVP_CipherUpdate(c, nullptr, &length, nullptr, static_cast<int>(text.size())) == 1);
  }
  update(c, nullptr, aad);
  ByteString out(text.size());
  if (!text.empty() &&
      EVP_CipherUpdate(c, out.data(), &length, text.data(), static_cast<int>(text.size())) != 1) {
    return std::nullopt;
  }
  if (!is_ccm && EVP_CipherFinal_ex(c, out.data() + out.size(), &length) != 1) return std::nullopt;
  if (seals) need(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, icv_bytes, icv.data()) == 1);
  return out;
}

/// RFC 4543 §3.3: all is authenticated, nothing encrypted.
inline std::optional<ByteString> gmac(const EspSa& sa, std::uint64_t sequence, const ByteString& iv,
                                      const ByteString& text, ByteString& icv, bool seals) {
  ByteString aad = aad_of(sa, sequence);
  put(aad, iv);
  put(aad, text);
  if (!aead(sa, nonce_of(sa, iv), aad, {}, icv, seals)) return std::nullopt;
  return text;
}

/// AES-CBC, or AES-CTR with the counter block of RFC 3686 §4: nonce, IV, a count from 1.
inline ByteString plain_cipher(const EspSa& sa, const ByteString& iv, const ByteString& text,
                               bool seals) {
  if (sa.encryption == crypto::Encryption::null) return text;
  ByteString first = iv;
  if (sa.encryption == crypto::Encryption::aes_ctr) {
    first = nonce_of(sa, iv);
    put32(first, 1);
  }
  const Context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  need(EVP_CipherInit_ex(context.get(), cipher_of(sa), nullptr, sa.keymat.data(), first.data(),
                         seals ? 1 : 0) == 1);
  need(EVP_CIPHER_CTX_set_padding(context.get(), 0) == 1);
  ByteString out(text.size());
  update(context.get(), out.data(), text);
  return out;
}

/// RFC 4303 §2.8: over header, IV and ciphertext; with ESN the upper half behind them (§2.2.1).
inline ByteString hmac(const EspSa& sa, std::uint64_t sequence, const ByteString& iv,
                       const ByteString& ciphertext) {
  static const std::map<crypto::Integrity, EVP_MD*> kHashes = {
      {crypto::Integrity::hmac_sha1_96, EVP_MD_fetch(nullptr, "SHA1", nullptr)},
      {crypto::Integrity::hmac_sha2_256_128, EVP_MD_fetch(nullptr, "SHA256", nullptr)},
      {crypto::Integrity::hmac_sha2_384_192, EVP_MD_fetch(nullptr, "SHA384", nullptr)},
      {crypto::Integrity::hmac_sha2_512_256, EVP_MD_fetch(nullptr, "SHA512", nullptr)}};
  const EspSizes sizes = sizes_of(sa);
  ByteString covered;
  put32(covered, sa.spi);
  put32(covered, sequence & 0xffffffffU);
  put(covered, iv);
  put(covered, ciphertext);
  if (sa.esn) put32(covered, sequence >> 32U);
  ByteString icv(EVP_MAX_MD_SIZE);
  need(HMAC(kHashes.at(sa.integrity), sa.keymat.data() + sa.keymat.size() - sizes.integrity_key,
            static_cast<int>(sizes.integrity_key), covered.data(), covered.size(), icv.data(),
            nullptr) != nullptr);
  icv.resize(sizes.icv);
  return icv;
}

}  // namespace detail

/// `text`: payload and trailer, whole blocks of them.
inline EspText esp_protect(const EspSa& sa, std::uint64_t sequence, const ByteString& iv,
                           const ByteString& text) {
  EspText done{iv, {}, ByteString(sizes_of(sa).icv)};
  if (sa.encryption == crypto::Encryption::null_aes_gmac) {
    done.text = detail::gmac(sa, sequence, iv, text, done.icv, true).value();
  } else if (sa.integrity == crypto::Integrity::none) {
    done.text = detail::aead(sa, detail::nonce_of(sa, iv), detail::aad_of(sa, sequence), text,
                             done.icv, true)
                    .value();
  } else {
    done.text = detail::plain_cipher(sa, iv, text, true);
    done.icv = detail::hmac(sa, sequence, iv, done.text);
  }
  return done;
}

/// Payload and trailer. nullopt: it is not authentic.
inline std::optional<ByteString> esp_unprotect(const EspSa& sa, std::uint64_t sequence,
                                               EspText sealed) {
  if (sa.encryption == crypto::Encryption::null_aes_gmac) {
    return detail::gmac(sa, sequence, sealed.iv, sealed.text, sealed.icv, false);
  }
  if (sa.integrity == crypto::Integrity::none) {
    return detail::aead(sa, detail::nonce_of(sa, sealed.iv), detail::aad_of(sa, sequence),
                        sealed.text, sealed.icv, false);
  }
  if (detail::hmac(sa, sequence, sealed.iv, sealed.text) != sealed.icv) return std::nullopt;
  return detail::plain_cipher(sa, sealed.iv, sealed.text, false);
}

}  // namespace culvert::model
