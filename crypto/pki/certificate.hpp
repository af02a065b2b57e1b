// X.509 certificates as values (RFC 5280), read by OpenSSL. Nothing here trusts what it reads: a
// Certificate is only well-formed; whether it counts is TrustStore's answer.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/secret.hpp"

struct x509_st;
struct evp_pkey_st;

namespace culvert::crypto::pki {

struct PkiError {
  std::string what;  ///< a sentence's end: "holds no certificate"; never key material
};
template <typename T>
using Result = std::expected<T, PkiError>;

/// Keys that sign for IKE (RFC 8247 §4.2, RFC 8420).
enum class KeyType : std::uint8_t { rsa, ecdsa_256, ecdsa_384, ecdsa_521, ed25519, ed448 };
[[nodiscard]] std::string_view name_of(KeyType type);
/// RSA keys below this many bits do not count (RFC 8247 §4.1.1).
inline constexpr int kMinRsaBits = 2048;

/// A name that a certificate binds to its key: a subjectAltName, or the subject itself.
enum class NameType : std::uint8_t { dns, email, ip_address, distinguished_name };
struct SubjectName {
  NameType type{};
  std::vector<std::uint8_t> value;  ///< text, 4 or 16 address bytes, or the DER of a Name
};

class Certificate {
 public:
  [[nodiscard]] static Result<Certificate> from_der(Bytes der);

  [[nodiscard]] const std::vector<std::uint8_t>& der() const { return der_; }
  /// "CN=hq.example.org, O=Example": printable, for logs.
  [[nodiscard]] std::string subject() const;
  [[nodiscard]] std::string issuer() const;
  [[nodiscard]] std::string serial() const;  ///< hexadecimal
  [[nodiscard]] std::vector<std::uint8_t> subject_der() const;
  [[nodiscard]] std::int64_t not_before() const { return not_before_; }  ///< Unix seconds
  [[nodiscard]] std::int64_t not_after() const { return not_after_; }    ///< Unix seconds
  /// basicConstraints says that it may issue certificates (RFC 5280 §4.2.1.9).
  [[nodiscard]] bool is_authority() const;
  [[nodiscard]] bool is_self_issued() const;
  /// SHA-1 of the SubjectPublicKeyInfo: what CERTREQ names an authority by (RFC 7296 §3.7).
  [[nodiscard]] std::array<std::uint8_t, 20> key_hash() const;
  /// The kind of its key, or why it cannot sign for IKE: RSA below 2048 bits, another curve, …
  [[nodiscard]] Result<KeyType> key_type() const;

  /// Every subjectAltName that IKE knows, and the subject if it is not empty (RFC 4945 §5.1.3.6).
  [[nodiscard]] std::vector<SubjectName> names() const;
  /// Whether it binds that name: host names without regard to case and never by a wildcard, the
  /// domain of an e-mail address likewise, distinguished names by RFC 5280 §7.1.
  [[nodiscard]] bool has_name(NameType type, Bytes value) const;
  /// "hq.example.org, 192.0.2.1, CN=hq": what could be written as an identity.
  [[nodiscard]] std::string names_text() const;

  /// RFC 4945 §5.1.3.2: without keyUsage, or with digitalSignature or nonRepudiation in it.
  [[nodiscard]] bool may_sign() const;
  /// RFC 4945 §5.1.3.12: without extendedKeyUsage, or with ipsecIKE or any in it.
  [[nodiscard]] bool may_serve_ike() const;

  [[nodiscard]] x509_st* handle() const { return x509_.get(); }
  [[nodiscard]] evp_pkey_st* public_key() const;
  friend bool operator==(const Certificate& a, const Certificate& b) { return a.der_ == b.der_; }

 private:
  std::shared_ptr<x509_st> x509_;
  std::vector<std::uint8_t> der_;
  std::int64_t not_before_ = 0, not_after_ = 0;
};

/// The certificates of a file's content in their order: PEM blocks, or one in DER.
[[nodiscard]] Result<std::vector<Certificate>> parse_certificates(Bytes content);

/// What a public key is: shared by certificates and private keys.
[[nodiscard]] Result<KeyType> key_type_of(const evp_pkey_st* key);
/// "2026-11-24 14:05 UTC"
[[nodiscard]] std::string date_text(std::int64_t unix_seconds);

}  // namespace culvert::crypto::pki
