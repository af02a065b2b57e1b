// ESP (RFC 4303) with any suite, a packet at a time.
#pragma once

#include <optional>

#include "tests/model/esp_algorithms_model.hpp"
#include "tests/model/packet.hpp"

namespace culvert::model {

struct EspContents {
  std::uint64_t sequence = 0;
  ByteString iv;
  ByteString payload;
  ByteString padding;
  bool padding_fits = true;  ///< no more is claimed than there is; else it is none
  std::uint8_t next_header = 0;
};

/// One that no other packet of the SA has: its number, in AES-CBC's longer one behind zeros.
inline ByteString iv_of(const EspSa& sa, std::uint64_t sequence) {
  ByteString iv(sizes_of(sa).iv < 8 ? 0 : sizes_of(sa).iv - 8);
  if (sizes_of(sa).iv == 0) return iv;
  put32(iv, sequence >> 32U);
  put32(iv, sequence & 0xffffffffU);
  return iv;
}

/// `trailer`: padding, pad length and next header, as they are to be encrypted.
inline ByteString esp_seal_raw(const EspSa& sa, std::uint64_t sequence, const ByteString& payload,
                               const ByteString& trailer) {
  ByteString text = payload;
  put(text, trailer);
  const EspText sealed = esp_protect(sa, sequence, iv_of(sa, sequence), text);
  ByteString esp;
  put32(esp, sa.spi);
  put32(esp, sequence & 0xffffffffU);
  put(esp, sealed.iv);
  put(esp, sealed.text);
  put(esp, sealed.icv);
  return esp;
}

/// Padding 1, 2, 3… up to a whole block, and `extra_blocks` more (RFC 4303 §2.4).
inline ByteString esp_trailer(std::size_t payload_bytes, std::uint8_t next_header,
                              std::size_t extra_blocks = 0, std::size_t block = 4) {
  ByteString trailer;
  std::size_t padding = 0;
  while ((payload_bytes + padding + 2) % block != 0) ++padding;
  padding += block * extra_blocks;
  for (std::size_t i = 1; i <= padding; ++i) trailer.push_back(static_cast<std::uint8_t>(i));
  trailer.push_back(static_cast<std::uint8_t>(padding));
  trailer.push_back(next_header);
  return trailer;
}
inline ByteString esp_seal(const EspSa& sa, std::uint64_t sequence, std::uint8_t next_header,
                           const ByteString& payload) {
  return esp_seal_raw(sa, sequence, payload,
                      esp_trailer(payload.size(), next_header, 0, sizes_of(sa).block));
}

/// Bytes of ESP header, IV and ICV, around what is encrypted.
inline std::size_t esp_around(const EspSa& sa) {
  const EspSizes sizes = sizes_of(sa);
  return 8 + sizes.iv + sizes.icv;
}
/// RFC 4303 §2.4: what is encrypted fills whole blocks, one at least.
inline bool has_esp_length(const EspSa& sa, const ByteString& esp) {
  const std::size_t block = sizes_of(sa).block;
  return esp.size() >= esp_around(sa) + block && (esp.size() - esp_around(sa)) % block == 0;
}

/// `high`: the sequence number's high half, with ESN. nullopt: not authentic, or no ESP of this SA.
inline std::optional<EspContents> esp_open(const EspSa& sa, std::uint32_t high,
                                           const ByteString& esp) {
  if (!has_esp_length(sa, esp) || get32(esp, 0) != sa.spi) return std::nullopt;
  const EspSizes sizes = sizes_of(sa);
  EspContents contents;
  contents.sequence = std::uint64_t{sa.esn ? high : 0} << 32U | get32(esp, 4);
  contents.iv = slice(esp, 8, sizes.iv);
  const auto text =
      esp_unprotect(sa, contents.sequence,
                    {contents.iv, slice(esp, 8 + sizes.iv, esp.size() - esp_around(sa)),
                     slice(esp, esp.size() - sizes.icv, sizes.icv)});
  if (!text) return std::nullopt;
  contents.next_header = text->back();
  const std::size_t claimed = (*text)[text->size() - 2];
  contents.padding_fits = claimed + 2 <= text->size();
  const std::size_t padding = contents.padding_fits ? claimed : 0;
  contents.padding = slice(*text, text->size() - 2 - padding, padding);
  contents.payload = slice(*text, 0, text->size() - 2 - padding);
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
