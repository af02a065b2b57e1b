// HMAC-SHA2 over pieces, for the PRFs and for the integrity of SK payloads. Inside this room only.
#pragma once

#include "crypto/ike/ike_crypto.hpp"

namespace culvert::crypto::ike {

/// The hash under an HMAC.
enum class Hash : std::uint8_t { sha2_256, sha2_384, sha2_512 };

/// The whole HMAC (RFC 2104), untruncated; an empty key is legal.
Result<SecretBytes> hmac(Hash hash, Bytes key, std::span<const Bytes> data);

}  // namespace culvert::crypto::ike
