// Where things lie in an ESP packet, for the engines. Only .cpp files of this room include this.
#pragma once

#include <cstddef>
#include <cstdlib>

namespace culvert::crypto::esp {

inline constexpr std::size_t kEspHeaderBytes = 8;  ///< SPI and sequence number
/// SPI and extended sequence number, as an AEAD authenticates them (RFC 4106 §5).
inline constexpr std::size_t kEsnAadBytes = 12;
inline constexpr std::size_t kCbcIvBytes = 16;
/// RFC 4309 §4: three bytes of salt, eight of IV.
inline constexpr std::size_t kCcmNonceBytes = 11;

/// What fails in an engine is a wrong job or the library, never a packet. See the contract of Engine.
inline void require(bool done) {
  if (!done) std::abort();
}

}  // namespace culvert::crypto::esp
