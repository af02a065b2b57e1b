// The two ways to protect an SK payload, and what they share. Inside this room only: others call
// make_protector.
#pragma once

#include "crypto/ike/hmac.hpp"
#include "crypto/ike/ike_crypto.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::ike {

inline constexpr std::size_t kPadLengthBytes = 1;
inline constexpr std::size_t kGcmSaltBytes = 4;  // RFC 5282 §4
/// An IKE payload's length field has 16 bits; no more is sealed or opened.
inline constexpr std::size_t kMaxSealedBytes = 65535;

/// AES-GCM with a 16-byte ICV (RFC 5282), or ChaCha20-Poly1305 (RFC 7634).
std::unique_ptr<Protector> make_gcm_protector(openssl::Cipher cipher, Bytes key_and_salt);
/// AES-CBC, then HMAC-SHA2 cut to `icv_bytes` (RFC 7296 §3.14).
std::unique_ptr<Protector> make_cbc_protector(openssl::Cipher cipher, Bytes key, Hash hash,
                                              Bytes integrity_key, std::size_t icv_bytes);

/// Takes padding and pad length off decrypted and verified bytes (at least one). The sender chooses
/// the padding's content (RFC 7296 §3.14), so only its length can be wrong.
Result<SecretBytes> without_padding(const SecretBytes& padded);

/// As OpenSSL takes lengths. Precondition: at most kMaxSealedBytes.
inline int length_of(Bytes bytes) { return static_cast<int>(bytes.size()); }

/// An error in these words; empties OpenSSL's queue, so that a later caller does not find it there.
CryptoError refused(const char* what);

}  // namespace culvert::crypto::ike
