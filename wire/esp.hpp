// ESP's header and trailer (RFC 4303 §2). In memory, before sealing and after opening:
//   | SPI (4) | sequence, low half (4) | IV | payload | padding 1, 2, 3… | pad length | next header
//   |
#pragma once

#include <array>
#include <cstdint>
#include <expected>

#include "wire/unaligned.hpp"

namespace culvert::wire::esp {

inline constexpr std::size_t kHeaderBytes = 8;   ///< SPI and sequence number
inline constexpr std::size_t kTrailerBytes = 2;  ///< pad length, next header
inline constexpr std::size_t kAlignment = 4;     ///< of the ICV (RFC 4303 §2.4)
inline constexpr std::size_t kMaxPadding = 255;

/// Padding that aligns `payload_bytes` and the trailer to `alignment` bytes, a power of two: four
/// or the cipher's block (RFC 4303 §2.4).
[[nodiscard]] constexpr std::size_t padding_for(std::size_t payload_bytes,
                                                std::size_t alignment = kAlignment) {
  return (~(payload_bytes + kTrailerBytes) + 1) & (alignment - 1);
}

/// Writes padding and trailer behind a payload. At least four bytes at `end` are written, and the
/// trailer overwrites what is beyond the padding; the caller owns them, or the ICV follows.
inline void write_trailer(std::uint8_t* end, std::size_t padding, std::uint8_t next_header) {
  // "the first padding byte appended to the plaintext is numbered 1" (RFC 4303 §2.4)
  store_raw<std::uint32_t>(end, 0x00030201U);
  for (std::size_t i = 3; i < padding; ++i) end[i] = static_cast<std::uint8_t>(i + 1);
  end[padding] = static_cast<std::uint8_t>(padding);
  end[padding + 1] = next_header;
}

/// Padding and trailer of a packet, by bytes of padding, as they lie in memory (RFC 4303 §2.4).
/// `kNextHeader`: what the packet is, IPv4 or IPv6.
template <std::uint8_t kNextHeader>
inline constexpr std::array<std::uint64_t, 4> kTrailers{
    std::uint64_t{kNextHeader} << 8U, std::uint64_t{kNextHeader} << 16U | 0x0101U,
    std::uint64_t{kNextHeader} << 24U | 0x020201U, std::uint64_t{kNextHeader} << 32U | 0x03030201U};

/// The last eight bytes of a text that ends in one of them: what to look at and what it is.
struct Ending {
  std::uint64_t mask, right;
};
template <std::uint8_t kNextHeader>
inline constexpr auto kEndings = [] {
  constexpr auto& kOfPacket = kTrailers<kNextHeader>;
  std::array<Ending, kOfPacket.size()> endings{};
  for (std::size_t padding = 0; padding < endings.size(); ++padding) {
    const std::size_t bits_in_front = 8 * (8 - kTrailerBytes - padding);
    endings[padding] = {~std::uint64_t{0} << bits_in_front, kOfPacket[padding] << bits_in_front};
  }
  return endings;
}();

/// Whether a decrypted text that ends at `end` ends in such a packet's trailer and `padding` bytes
/// of padding, at most three; in one load. Precondition: eight bytes lie before `end`.
template <std::uint8_t kNextHeader>
[[nodiscard]] bool ends_as(const std::uint8_t* end, std::size_t padding) {
  const Ending& ending = kEndings<kNextHeader>[padding];
  return (load_raw<std::uint64_t>(end - 8) & ending.mask) == ending.right;
}

/// Of a decrypted text, what is in front of the padding, which is not looked at; all but the
/// trailer where more padding is claimed than there is. Precondition: there is a trailer.
[[nodiscard]] inline std::size_t payload_bytes(Bytes text) {
  const std::size_t most = text.size() - kTrailerBytes;
  const std::size_t padding = text[most];
  return padding <= most ? most - padding : most;
}

enum class TrailerError : std::uint8_t { too_short, padding_invalid };
struct Trailer {
  std::size_t payload_bytes = 0;
  std::uint8_t next_header = 0;
};

/// Reads the trailer of a decrypted text and checks the padding's contents (RFC 4303 §2.4: "the
/// receiver SHOULD inspect the Padding field").
[[nodiscard]] inline std::expected<Trailer, TrailerError> read_trailer(Bytes text) {
  if (text.size() < kTrailerBytes) return std::unexpected(TrailerError::too_short);
  const std::uint8_t* const trailer = text.data() + text.size() - kTrailerBytes;
  const std::size_t padding = trailer[0];
  if (padding + kTrailerBytes > text.size()) return std::unexpected(TrailerError::padding_invalid);
  const std::uint8_t* const first = trailer - padding;
  unsigned wrong = 0;
  for (std::size_t i = 0; i < padding; ++i) wrong |= first[i] ^ static_cast<unsigned>(i + 1);
  if ((wrong & 0xffU) != 0) return std::unexpected(TrailerError::padding_invalid);
  return Trailer{text.size() - kTrailerBytes - padding, trailer[1]};
}

}  // namespace culvert::wire::esp
