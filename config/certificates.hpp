// The files of certificates, private keys and revocation lists, and what a certificate says of an
// identity. For the check and for the key daemon.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "crypto/pki/private_key.hpp"
#include "crypto/pki/trust_store.hpp"

namespace culvert::config {

// Errors are sentences that begin with the file.
[[nodiscard]] std::expected<std::vector<crypto::pki::Certificate>, std::string> read_certificates(
    const std::string& file);
[[nodiscard]] std::expected<std::vector<crypto::pki::RevocationList>, std::string>
read_revocation_lists(const std::string& file);
[[nodiscard]] std::expected<crypto::pki::PrivateKey, std::string> read_private_key(
    const PrivateKeyFile& file);

/// Whether the certificate binds that identity: a subjectAltName of its type, or the subject for a
/// distinguished name (RFC 4945 §3.1). A key-id stands in no certificate.
[[nodiscard]] bool certifies(const crypto::pki::Certificate& certificate, const Identity& identity);

}  // namespace culvert::config
