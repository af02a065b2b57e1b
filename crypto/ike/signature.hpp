// IKE's signatures (RFC 7296 §2.15, RFC 7427, RFC 8420, RFC 4754): what stands in an AUTH payload.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>

#include "crypto/ike/ike_crypto.hpp"
#include "crypto/pki/certificate.hpp"
#include "crypto/pki/private_key.hpp"

namespace culvert::crypto::ike {

/// Authentication methods of the AUTH payload (RFC 7296 §3.8, RFC 4754 §2, RFC 7427 §3).
namespace auth_method {
inline constexpr std::uint8_t kRsa = 1;
inline constexpr std::uint8_t kSharedKey = 2;
inline constexpr std::uint8_t kEcdsa256 = 9;
inline constexpr std::uint8_t kEcdsa384 = 10;
inline constexpr std::uint8_t kEcdsa521 = 11;
inline constexpr std::uint8_t kDigitalSignature = 14;
}  // namespace auth_method
[[nodiscard]] std::string auth_method_text(std::uint8_t method);

/// Hashes of SIGNATURE_HASH_ALGORITHMS (RFC 7427 §7, RFC 8420 §2). SHA-1 (1) does not exist here:
/// RFC 8247 §4.3 forbids it.
enum class SignatureHash : std::uint16_t {
  sha2_256 = 2,
  sha2_384 = 3,
  sha2_512 = 4,
  identity = 5,  ///< Ed25519 and Ed448 sign the octets themselves
};
inline constexpr std::array kSignatureHashes{SignatureHash::sha2_256, SignatureHash::sha2_384,
                                             SignatureHash::sha2_512, SignatureHash::identity};

enum class SignatureFamily : std::uint8_t { rsa_pkcs1, rsa_pss, ecdsa, ed25519, ed448 };
/// What an AlgorithmIdentifier says.
struct SignatureAlgorithm {
  SignatureFamily family{};
  SignatureHash hash{};
  int salt_bytes = 0;                      ///< rsa_pss only
  [[nodiscard]] std::string name() const;  ///< "RSASSA-PSS with SHA-256"
  friend bool operator==(const SignatureAlgorithm&, const SignatureAlgorithm&) = default;
};
/// DER of an AlgorithmIdentifier, nothing behind it (RFC 7427 §3 and Appendix A). An algorithm that
/// is not allowed is an error that names it.
[[nodiscard]] Result<SignatureAlgorithm> parse_algorithm_identifier(Bytes der);
[[nodiscard]] std::vector<std::uint8_t> encode_algorithm_identifier(
    const SignatureAlgorithm& algorithm);

/// The method and data of an AUTH payload.
struct Signature {
  std::uint8_t method = 0;
  std::vector<std::uint8_t> data;
  std::string algorithm;  ///< for logs
};
/// Signs `octets`. `peer_hashes` are those of the peer's SIGNATURE_HASH_ALGORITHMS; nullopt: it
/// sent none, so that only the methods of RFC 7296 and RFC 4754 remain.
[[nodiscard]] Result<Signature> sign(const pki::PrivateKey& key,
                                     std::optional<std::span<const std::uint16_t>> peer_hashes,
                                     Bytes octets);
/// The algorithm's name when the signature holds. The error says whether the algorithm, the kind of
/// key or the signature itself is wrong.
[[nodiscard]] Result<std::string> verify(const pki::Certificate& certificate, std::uint8_t method,
                                         Bytes data, Bytes octets);

}  // namespace culvert::crypto::ike
