// Certificates made while a test runs: authorities, end entities with any mistake, revocation
// lists. Time is a number that the test chooses.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "crypto/pki/private_key.hpp"
#include "crypto/pki/trust_store.hpp"

namespace culvert::test {

/// 2030-01-01 00:00 UTC: "now" of the tests.
inline constexpr std::int64_t kNow = 1893456000;
inline constexpr std::int64_t kYear = 365 * 24 * 3600;

enum class KeyKind : std::uint8_t { rsa2048, rsa1024, p256, p384, p521, brainpool, ed25519, ed448 };

inline void must(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

inline EVP_PKEY* new_key(KeyKind kind) {
  EVP_PKEY* key = nullptr;
  switch (kind) {
    case KeyKind::rsa2048:
      key = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{2048});
      break;
    case KeyKind::rsa1024:
      key = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{1024});
      break;
    case KeyKind::p256:
      key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256");
      break;
    case KeyKind::p384:
      key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-384");
      break;
    case KeyKind::p521:
      key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-521");
      break;
    case KeyKind::brainpool:
      key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "brainpoolP256r1");
      break;
    case KeyKind::ed25519:
      key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
      break;
    case KeyKind::ed448:
      key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED448");
      break;
  }
  must(key != nullptr, "key generation");
  return key;
}

inline std::vector<std::uint8_t> to_pem(EVP_PKEY* key, const char* passphrase = nullptr) {
  BIO* out = BIO_new(BIO_s_mem());
  must(PEM_write_bio_PKCS8PrivateKey(
           out, key, passphrase == nullptr ? nullptr : EVP_aes_256_cbc(), passphrase,
           passphrase == nullptr ? 0 : static_cast<int>(std::string(passphrase).size()), nullptr,
           nullptr) == 1,
       "writing a key");
  char* text = nullptr;
  const long size = BIO_get_mem_data(out, &text);
  std::vector<std::uint8_t> pem(text, text + size);
  BIO_free(out);
  return pem;
}

struct CertificateOptions {
  std::string name = "hq.example.org";                   ///< CN
  std::string alternative_names = "DNS:hq.example.org";  ///< OpenSSL's words; empty: none
  KeyKind key = KeyKind::p256;
  std::int64_t not_before = kNow - kYear, not_after = kNow + kYear;
  bool authority = false;
  std::string key_usage, extended_key_usage, name_constraints, authority_information;
  const EVP_MD* digest = EVP_sha256();
};

/// A certificate with its key; it may issue others.
class Issued {
 public:
  Issued(X509* certificate, EVP_PKEY* key)
      : certificate_(certificate, X509_free), key_(key, EVP_PKEY_free) {}

  static Issued authority(const std::string& name = "Test CA", KeyKind kind = KeyKind::p256) {
    CertificateOptions options;
    options.name = name;
    options.alternative_names.clear();
    options.authority = true;
    options.key = kind;
    return make(options, nullptr);
  }
  [[nodiscard]] Issued issue(const CertificateOptions& options) const {
    return make(options, this);
  }

  [[nodiscard]] crypto::pki::Certificate certificate() const {
    unsigned char* der = nullptr;
    const int size = i2d_X509(certificate_.get(), &der);
    auto parsed = crypto::pki::Certificate::from_der({der, static_cast<std::size_t>(size)});
    OPENSSL_free(der);
    must(parsed.has_value(), "parsing what was just made");
    return *parsed;
  }
  [[nodiscard]] std::string pem() const {
    BIO* out = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(out, certificate_.get());
    char* text = nullptr;
    const long size = BIO_get_mem_data(out, &text);
    std::string pem(text, static_cast<std::size_t>(size));
    BIO_free(out);
    return pem;
  }
  [[nodiscard]] crypto::pki::PrivateKey private_key() const {
    const auto pem = to_pem(key_.get());
    auto parsed = crypto::pki::PrivateKey::parse(pem, nullptr);
    must(parsed.has_value(), parsed ? "" : parsed.error().what.c_str());
    return *parsed;
  }
  [[nodiscard]] EVP_PKEY* key() const { return key_.get(); }

  /// A list of the certificates that it revoked, current at kNow unless told otherwise.
  [[nodiscard]] crypto::pki::RevocationList revocation_list(
      const std::vector<Issued>& revoked, std::int64_t next_update = kNow + kYear) const {
    X509_CRL* crl = X509_CRL_new();
    X509_CRL_set_version(crl, X509_CRL_VERSION_2);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(certificate_.get()));
    ASN1_TIME* time = ASN1_TIME_set(nullptr, kNow - 2 * kYear);
    X509_CRL_set1_lastUpdate(crl, time);
    ASN1_TIME_set(time, next_update);
    X509_CRL_set1_nextUpdate(crl, time);
    ASN1_TIME_set(time, kNow - kYear);
    for (const Issued& one : revoked) {
      X509_REVOKED* entry = X509_REVOKED_new();
      X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(one.certificate_.get()));
      X509_REVOKED_set_revocationDate(entry, time);
      X509_CRL_add0_revoked(crl, entry);
    }
    ASN1_TIME_free(time);
    must(X509_CRL_sign(crl, key_.get(), EVP_sha256()) > 0, "signing a list");
    unsigned char* der = nullptr;
    const int size = i2d_X509_CRL(crl, &der);
    auto parsed = crypto::pki::RevocationList::from_der({der, static_cast<std::size_t>(size)});
    OPENSSL_free(der);
    X509_CRL_free(crl);
    must(parsed.has_value(), "parsing the list just made");
    return *parsed;
  }

 private:
  static void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
    if (value.empty()) return;
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    must(extension != nullptr, value.c_str());
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }

  static Issued make(const CertificateOptions& options, const Issued* issuer) {
    static std::uint64_t serial = 1;
    EVP_PKEY* key = new_key(options.key);
    X509* certificate = X509_new();
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), ++serial);
    ASN1_TIME_set(X509_getm_notBefore(certificate), options.not_before);
    ASN1_TIME_set(X509_getm_notAfter(certificate), options.not_after);
    X509_NAME* name = X509_NAME_new();
    X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>("Culvert"), -1, -1, 0);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(options.name.c_str()), -1, -1,
                               0);
    X509_set_subject_name(certificate, name);
    X509* by = issuer == nullptr ? certificate : issuer->certificate_.get();
    X509_set_issuer_name(certificate, X509_get_subject_name(by));
    X509_NAME_free(name);
    X509_set_pubkey(certificate, key);
    add_extension(certificate, by, NID_basic_constraints,
                  options.authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    add_extension(certificate, by, NID_key_usage,
                  options.key_usage.empty() && options.authority ? "critical,keyCertSign,cRLSign"
                                                                 : options.key_usage);
    add_extension(certificate, by, NID_ext_key_usage, options.extended_key_usage);
    add_extension(certificate, by, NID_subject_alt_name, options.alternative_names);
    add_extension(certificate, by, NID_name_constraints, options.name_constraints);
    add_extension(certificate, by, NID_info_access, options.authority_information);
    EVP_PKEY* signer = issuer == nullptr ? key : issuer->key_.get();
    const bool edwards = EVP_PKEY_is_a(signer, "ED25519") || EVP_PKEY_is_a(signer, "ED448");
    must(X509_sign(certificate, signer, edwards ? nullptr : options.digest) > 0, "signing");
    return {certificate, key};
  }

  std::shared_ptr<X509> certificate_;
  std::shared_ptr<EVP_PKEY> key_;
};

}  // namespace culvert::test
