#include "config/certificates.hpp"

#include "config/file_bytes.hpp"
#include "config/limits.hpp"

namespace culvert::config {
namespace {

std::unexpected<std::string> about(const std::string& file, const std::string& what) {
  return std::unexpected(file + " " + what);
}

}  // namespace

std::expected<std::vector<crypto::pki::Certificate>, std::string> read_certificates(
    const std::string& file) {
  const auto content = read_bytes(file, limits::kCertificateBytes);
  if (!content) return std::unexpected(content.error());
  auto parsed = crypto::pki::parse_certificates(content->view());
  if (!parsed) return about(file, parsed.error().what);
  return *std::move(parsed);
}

std::expected<std::vector<crypto::pki::RevocationList>, std::string> read_revocation_lists(
    const std::string& file) {
  const auto content = read_bytes(file, limits::kCrlBytes);
  if (!content) return std::unexpected(content.error());
  auto parsed = crypto::pki::parse_revocation_lists(content->view());
  if (!parsed) return about(file, parsed.error().what);
  return *std::move(parsed);
}

std::expected<crypto::pki::PrivateKey, std::string> read_private_key(const PrivateKeyFile& file) {
  const auto content = read_bytes(file.file, limits::kPrivateKeyBytes);
  if (!content) return std::unexpected(content.error());
  crypto::SecretBytes passphrase;
  if (!file.passphrase_file.empty()) {
    auto read = read_bytes(file.passphrase_file, limits::kSecretBytes);
    if (!read) return std::unexpected(read.error());
    passphrase = *std::move(read);
  }
  auto key = crypto::pki::PrivateKey::parse(content->view(),
                                            file.passphrase_file.empty() ? nullptr : &passphrase);
  if (!key) return about(file.file, key.error().what);
  return *std::move(key);
}

bool certifies(const crypto::pki::Certificate& certificate, const Identity& identity) {
  using crypto::pki::NameType;
  switch (identity.type) {
    case Identity::Type::ipv4:
    case Identity::Type::ipv6:
      return certificate.has_name(NameType::ip_address, identity.encoded);
    case Identity::Type::fqdn:
      return certificate.has_name(NameType::dns, identity.encoded);
    case Identity::Type::email:
      return certificate.has_name(NameType::email, identity.encoded);
    case Identity::Type::dn:
      return certificate.has_name(NameType::distinguished_name, identity.encoded);
    case Identity::Type::key_id:
      return false;
  }
  return false;
}

}  // namespace culvert::config
