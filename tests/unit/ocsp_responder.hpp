// OCSP responses made while a test runs, by OpenSSL: about whom, signed by whom, with any date.
#pragma once

#include <openssl/ocsp.h>

#include "crypto/pki/ocsp.hpp"
#include "tests/unit/authority.hpp"

namespace culvert::test {

struct OcspOptions {
  int status = V_OCSP_CERTSTATUS_GOOD;
  std::int64_t this_update = kNow - 3600;
  std::int64_t next_update = kNow + 3600;  ///< 0: none
  const EVP_MD* digest = EVP_sha256();     ///< of the signature
  const EVP_MD* id_digest = EVP_sha1();    ///< of the CertID
};

inline X509* x509_of(const Issued& issued) {
  const auto der = issued.certificate().der();
  const unsigned char* at = der.data();
  return d2i_X509(nullptr, &at, static_cast<long>(der.size()));
}

/// What `signer` says of `subject`, which `issuer` issued.
inline std::vector<std::uint8_t> ocsp_response(const Issued& subject, const Issued& issuer,
                                               const Issued& signer,
                                               const OcspOptions& options = {}) {
  X509* about = x509_of(subject);
  X509* by = x509_of(issuer);
  X509* signing = x509_of(signer);
  OCSP_BASICRESP* basic = OCSP_BASICRESP_new();
  OCSP_CERTID* id = OCSP_cert_to_id(options.id_digest, about, by);
  ASN1_TIME* from = ASN1_GENERALIZEDTIME_set(nullptr, options.this_update);
  ASN1_TIME* until =
      options.next_update == 0 ? nullptr : ASN1_GENERALIZEDTIME_set(nullptr, options.next_update);
  const bool revoked = options.status == V_OCSP_CERTSTATUS_REVOKED;
  must(OCSP_basic_add1_status(basic, id, options.status,
                              revoked ? OCSP_REVOKED_STATUS_KEYCOMPROMISE : 0,
                              revoked ? from : nullptr, from, until) != nullptr,
       "a status");
  const bool edwards = EVP_PKEY_is_a(signer.key(), "ED25519") == 1;
  must(OCSP_basic_sign(basic, signing, signer.key(), edwards ? nullptr : options.digest, nullptr,
                       0) == 1,
       "signing a status");
  OCSP_RESPONSE* response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
  unsigned char* der = nullptr;
  const int size = i2d_OCSP_RESPONSE(response, &der);
  std::vector<std::uint8_t> bytes(der, der + size);
  OPENSSL_free(der);
  OCSP_RESPONSE_free(response);
  OCSP_BASICRESP_free(basic);
  OCSP_CERTID_free(id);
  ASN1_TIME_free(from);
  ASN1_TIME_free(until);
  for (X509* one : {about, by, signing}) X509_free(one);
  return bytes;
}

/// A certificate whose owner may answer for the issuer (RFC 6960 §4.2.2.2).
inline Issued ocsp_delegate(const Issued& issuer, std::string usage = "OCSPSigning") {
  CertificateOptions options;
  options.name = "responder.example.org";
  options.alternative_names.clear();
  options.key_usage = "critical,digitalSignature";
  options.extended_key_usage = std::move(usage);
  return issuer.issue(options);
}

}  // namespace culvert::test
