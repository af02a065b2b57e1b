// What an ESP packet is, by OpenSSL's plain calls and the words of the RFCs: an oracle beside both
// engines, which has none of their code.
#pragma once

#include <cstdint>

#include "crypto/suite.hpp"
#include "tests/unit/crypto/vectors.hpp"

namespace culvert::crypto::test {

/// Of one packet: what its SA and its number give.
struct EspByHand {
  EspSuite suite;
  Buffer key;  ///< cipher key, salt, integrity key, as KEYMAT and a manual SA have them
  std::uint32_t spi = 0;
  std::uint64_t sequence = 0;
  bool has_esn = false;
};

/// From the SPI to the ICV. `iv`: as on the wire. `text`: payload, padding and trailer.
Buffer seal_by_openssl(const EspByHand& of, const Buffer& iv, const Buffer& text);

/// HMAC with a hash by OpenSSL's name, whole.
Buffer hmac_by_openssl(const char* hash, const Buffer& key, const Buffer& data);

/// Two buffers, one behind the other.
Buffer operator+(Buffer first, const Buffer& second);

}  // namespace culvert::crypto::test
