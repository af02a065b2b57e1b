// Owners for OpenSSL's X.509 objects, and small readings that several files need. Only .cpp files
// of this room include this.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::openssl {

using X509Certificate = Handle<X509, X509_free>;
using X509Name = Handle<X509_NAME, X509_NAME_free>;
using X509Crl = Handle<X509_CRL, X509_CRL_free>;
using X509Store = Handle<X509_STORE, X509_STORE_free>;
using X509StoreContext = Handle<X509_STORE_CTX, X509_STORE_CTX_free>;
using Bio = Handle<BIO, BIO_free_all>;
using AlgorithmId = Handle<X509_ALGOR, X509_ALGOR_free>;
using GeneralNames = Handle<GENERAL_NAMES, GENERAL_NAMES_free>;
using KeyUsages = Handle<EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free>;

/// OpenSSL's level of 112 bits, of paths and of OCSP responses: RSA from 2048, no SHA-1 signatures
/// (RFC 8247 §4.2, §4.3).
inline constexpr int kSecurityLevel = 2;

/// A name as one printable line; whatever could steer a terminal is escaped.
[[nodiscard]] std::string text_of(const X509_NAME* name);
/// Seconds since 1970; nullopt: absent or no date.
[[nodiscard]] std::optional<std::int64_t> unix_seconds(const ASN1_TIME* time);
/// OpenSSL's newest reason in words, and its queue emptied.
[[nodiscard]] std::string take_reason();

}  // namespace culvert::crypto::openssl
