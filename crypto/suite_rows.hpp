// The rows of the suite table. For suite.cpp and esp/transform.cpp, which is built from them; all
// others ask suite.hpp.
#pragma once

#include <array>

#include "crypto/suite.hpp"

namespace culvert::crypto {

inline constexpr std::array<std::uint16_t, 3> kAesKeyBits{128, 192, 256};
/// IPsec-MB runs no AES-CCM with 192 bits, and RFC 8221 §5 asks for 128 and 256 only.
inline constexpr std::array<std::uint16_t, 2> kCcmKeyBits{128, 256};
inline constexpr std::array<std::uint16_t, 1> kChachaKeyBits{256};
inline constexpr std::array<std::uint16_t, 1> kNoKeyBits{0};

inline constexpr std::array kEncryptions{
    EncryptionInfo{.id = Encryption::aes_gcm_16,  // RFC 4106, RFC 5282
                   .name = "aesgcm16",
                   .aead = true,
                   .salt_bytes = 4,
                   .iv_bytes = 8,
                   .icv_bytes = 16,
                   .block_bytes = 1,
                   .key_bits = kAesKeyBits,
                   .one_key_length = false,
                   .esp = true,
                   .ike = true},
    EncryptionInfo{.id = Encryption::chacha20_poly1305,  // RFC 7634
                   .name = "chacha20poly1305",
                   .aead = true,
                   .salt_bytes = 4,
                   .iv_bytes = 8,
                   .icv_bytes = 16,
                   .block_bytes = 1,
                   .key_bits = kChachaKeyBits,
                   .one_key_length = true,
                   .esp = true,
                   .ike = true},
    EncryptionInfo{.id = Encryption::aes_ccm_16,  // RFC 4309: three bytes of salt
                   .name = "aesccm16",
                   .aead = true,
                   .salt_bytes = 3,
                   .iv_bytes = 8,
                   .icv_bytes = 16,
                   .block_bytes = 1,
                   .key_bits = kCcmKeyBits,
                   .one_key_length = false,
                   .esp = true,
                   .ike = false},
    EncryptionInfo{.id = Encryption::aes_ccm_8,  // RFC 4309
                   .name = "aesccm8",
                   .aead = true,
                   .salt_bytes = 3,
                   .iv_bytes = 8,
                   .icv_bytes = 8,
                   .block_bytes = 1,
                   .key_bits = kCcmKeyBits,
                   .one_key_length = false,
                   .esp = true,
                   .ike = false},
    EncryptionInfo{.id = Encryption::null_aes_gmac,  // RFC 4543: integrity alone
                   .name = "aesgmac",
                   .aead = true,
                   .salt_bytes = 4,
                   .iv_bytes = 8,
                   .icv_bytes = 16,
                   .block_bytes = 1,
                   .key_bits = kAesKeyBits,
                   .one_key_length = false,
                   .esp = true,
                   .ike = false},
    EncryptionInfo{.id = Encryption::aes_cbc,  // RFC 3602
                   .name = "aes",
                   .aead = false,
                   .salt_bytes = 0,
                   .iv_bytes = 16,
                   .icv_bytes = 0,
                   .block_bytes = 16,
                   .key_bits = kAesKeyBits,
                   .one_key_length = false,
                   .esp = true,
                   .ike = true},
    EncryptionInfo{.id = Encryption::aes_ctr,  // RFC 3686 §5.1: four bytes of nonce
                   .name = "aesctr",
                   .aead = false,
                   .salt_bytes = 4,
                   .iv_bytes = 8,
                   .icv_bytes = 0,
                   .block_bytes = 1,
                   .key_bits = kAesKeyBits,
                   .one_key_length = false,
                   .esp = true,
                   .ike = false},
    EncryptionInfo{.id = Encryption::null,  // RFC 2410
                   .name = "null",
                   .aead = false,
                   .salt_bytes = 0,
                   .iv_bytes = 0,
                   .icv_bytes = 0,
                   .block_bytes = 1,
                   .key_bits = kNoKeyBits,
                   .one_key_length = true,
                   .esp = true,
                   .ike = false},
};

inline constexpr std::array kIntegrities{
    // RFC 4868 §2.3
    IntegrityInfo{Integrity::hmac_sha2_256_128, "sha256", 32, 16, true, true},
    IntegrityInfo{Integrity::hmac_sha2_384_192, "sha384", 48, 24, true, true},
    IntegrityInfo{Integrity::hmac_sha2_512_256, "sha512", 64, 32, true, true},
    // RFC 2404; RFC 8221 §6 keeps it ("MUST-") for peers that know nothing newer.
    IntegrityInfo{Integrity::hmac_sha1_96, "sha1", 20, 12, true, false},
};

}  // namespace culvert::crypto
