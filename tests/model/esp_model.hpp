// ESP with AES-GCM-16 (RFC 4303, RFC 4106) by OpenSSL's EVP, a packet at a time.
#pragma once

#include <cstdlib>
#include <memory>
#include <optional>

#include <openssl/evp.h>

#include "tests/model/packet.hpp"

namespace culvert::model {

struct EspSa {
  ByteString keymat;  ///< cipher key, then four bytes of salt (RFC 4106 §8.1)
  std::uint32_t spi = 0;
  bool esn = false;
};

struct EspContents {
  std::uint64_t sequence = 0;
  ByteString payload;
  ByteString padding;
  std::uint8_t next_header = 0;
};

namespace detail {

using Context = std::unique_ptr<EVP_CIPHER_CTX, void (*)(EVP_CIPHER_CTX*)>;

inline void need(bool claim) {
  if (!claim) std::abort();
}
inline const EVP_CIPHER* cipher_of(const EspSa& sa) {
  switch (sa.keymat.size() - 4) {
    case 16:
      return EVP_aes_128_gcm();
    case 24:
      return EVP_aes_192_gcm();
    default:
      return EVP_aes_256_gcm();
  }
}
inline ByteString nonce_of(const EspSa& sa, const ByteString& iv) {
  ByteString nonce = slice(sa.keymat, sa.keymat.size() - 4, 4);
  put(nonce, iv);
  return nonce;
}
/// RFC 4106 §5: SPI and sequence number, with ESN all 64 bits of it.
inline ByteString aad_of(const EspSa& sa, std::uint64_t sequence) {
  ByteString aad;
  put32(aad, sa.spi);
  if (sa.esn) put32(aad, sequence >> 32U);
  put32(aad, sequence & 0xffffffffU);
  return aad;
}

}  // namespace detail

/// `trailer`: padding, pad length and next header, as they are to be encrypted.
inline ByteString esp_seal_raw(const EspSa& sa, std::uint64_t sequence, const ByteString& payload,
                               const ByteString& trailer) {
  ByteString iv;
  put32(iv, sequence >> 32U);
  put32(iv, sequence & 0xffffffffU);
  ByteString text = payload;
  put(text, trailer);
  ByteString sealed(text.size() + 16);
  const detail::Context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  const ByteString aad = detail::aad_of(sa, sequence);
  int length = 0;
  detail::need(EVP_EncryptInit_ex(context.get(), detail::cipher_of(sa), nullptr, sa.keymat.data(),
                                  detail::nonce_of(sa, iv).data()) == 1);
  detail::need(EVP_EncryptUpdate(context.get(), nullptr, &length, aad.data(),
                                 static_cast<int>(aad.size())) == 1);
  detail::need(EVP_EncryptUpdate(context.get(), sealed.data(), &length, text.data(),
                                 static_cast<int>(text.size())) == 1);
  detail::need(EVP_EncryptFinal_ex(context.get(), sealed.data() + length, &length) == 1);
  detail::need(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, 16,
                                   sealed.data() + text.size()) == 1);
  ByteString esp;
  put32(esp, sa.spi);
  put32(esp, sequence & 0xffffffffU);
  put(esp, iv);
  put(esp, sealed);
  return esp;
}

/// Padding 1, 2, 3… up to a four-byte boundary, and `extra_words` more (RFC 4303 §2.4).
inline ByteString esp_trailer(std::size_t payload_bytes, std::uint8_t next_header,
                              std::size_t extra_words = 0) {
  ByteString trailer;
  std::size_t padding = 0;
  while ((payload_bytes + padding + 2) % 4 != 0) ++padding;
  padding += 4 * extra_words;
  for (std::size_t i = 1; i <= padding; ++i) trailer.push_back(static_cast<std::uint8_t>(i));
  trailer.push_back(static_cast<std::uint8_t>(padding));
  trailer.push_back(next_header);
  return trailer;
}
inline ByteString esp_seal(const EspSa& sa, std::uint64_t sequence, std::uint8_t next_header,
                           const ByteString& payload) {
  return esp_seal_raw(sa, sequence, payload, esp_trailer(payload.size(), next_header));
}

/// `high`: the sequence number's high half, with ESN. nullopt: not authentic, or no ESP of this SA.
inline std::optional<EspContents> esp_open(const EspSa& sa, std::uint32_t high,
                                           const ByteString& esp) {
  if (esp.size() < 8 + 8 + 4 + 16 || get32(esp, 0) != sa.spi) return std::nullopt;
  EspContents contents;
  contents.sequence = std::uint64_t{sa.esn ? high : 0} << 32U | get32(esp, 4);
  const ByteString sealed = slice(esp, 16, esp.size() - 32);
  ByteString tag = slice(esp, esp.size() - 16, 16);
  ByteString text(sealed.size());
  const ByteString aad = detail::aad_of(sa, contents.sequence);
  const detail::Context context(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  int length = 0;
  detail::need(EVP_DecryptInit_ex(context.get(), detail::cipher_of(sa), nullptr, sa.keymat.data(),
                                  detail::nonce_of(sa, slice(esp, 8, 8)).data()) == 1);
  detail::need(EVP_DecryptUpdate(context.get(), nullptr, &length, aad.data(),
                                 static_cast<int>(aad.size())) == 1);
  detail::need(EVP_DecryptUpdate(context.get(), text.data(), &length, sealed.data(),
                                 static_cast<int>(sealed.size())) == 1);
  detail::need(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, 16, tag.data()) == 1);
  if (EVP_DecryptFinal_ex(context.get(), text.data() + length, &length) != 1) return std::nullopt;
  contents.next_header = text.back();
  const std::size_t padding = text[text.size() - 2];
  if (padding + 2 > text.size()) return std::nullopt;
  contents.padding = slice(text, text.size() - 2 - padding, padding);
  contents.payload = slice(text, 0, text.size() - 2 - padding);
  return contents;
}

/// RFC 4303 A3.2: with the first of so many upper halves above `high` that makes it authentic.
inline std::optional<EspContents> esp_open_above(const EspSa& sa, std::uint32_t high,
                                                 unsigned tries, const ByteString& esp) {
  for (; tries > 0; --tries) {
    if (auto opened = esp_open(sa, ++high, esp)) return opened;
  }
  return std::nullopt;
}

}  // namespace culvert::model
