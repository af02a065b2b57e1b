#include <algorithm>
#include <ctime>

#include "config/certificates.hpp"
#include "config/checks.hpp"

namespace culvert::config {
namespace {

using crypto::pki::Certificate;
using crypto::pki::date_text;
using crypto::pki::PrivateKey;

constexpr std::int64_t kDay = 24 * 3600;
/// The first of the key daemon's warnings too.
constexpr std::int64_t kSoonDays = 30;

/// The dates of a certificate; an expired one is an error where we are its subject, unless a daemon
/// starts: its connection cannot come up, the others can.
void check_dates(const Certificate& certificate, bool ours, const std::string& path,
                 Diagnostics& diagnostics) {
  const std::int64_t now = std::time(nullptr);
  const std::string who = quote(certificate.subject());
  const auto report = [&](Finding finding) {
    ours&& diagnostics.purpose() == Purpose::check ? diagnostics.error(path, std::move(finding))
                                                   : diagnostics.warning(path, std::move(finding));
  };
  if (certificate.not_after() < now) {
    report({who + ", expired on " + date_text(certificate.not_after()), "a valid certificate",
            "renew it"});
  } else if (certificate.not_before() > now) {
    report({who + ", valid from " + date_text(certificate.not_before()) + " only",
            "a valid certificate", "check the clock: it is " + date_text(now)});
  } else if (certificate.not_after() - now < kSoonDays * kDay) {
    diagnostics.warning(path, {who + ", which expires on " + date_text(certificate.not_after()),
                               "more than " + std::to_string(kSoonDays) + " days", "renew it"});
  }
}

/// A file's certificates, or a diagnostic.
std::vector<Certificate> read_reported(const std::string& file, const std::string& path,
                                       Diagnostics& diagnostics) {
  if (file.empty() || !check_readable(file, path, diagnostics)) return {};
  auto certificates = read_certificates(file);
  if (certificates) return *std::move(certificates);
  diagnostics.error(path, {certificates.error(), "a certificate in PEM or DER", ""});
  return {};
}

std::vector<PrivateKey> check_private_keys(const Pki& pki, Diagnostics& diagnostics) {
  std::vector<PrivateKey> keys;
  for (std::size_t index = 0; index < pki.private_keys.size(); ++index) {
    const PrivateKeyFile& file = pki.private_keys[index];
    const std::string path = indexed("pki.private_keys", index);
    const std::string file_path = file.passphrase_file.empty() ? path : path + ".file";
    if (file.file.empty() || !check_private(file.file, file_path, diagnostics)) continue;
    if (!file.passphrase_file.empty() &&
        !check_private(file.passphrase_file, path + ".passphrase_file", diagnostics)) {
      continue;
    }
    auto key = read_private_key(file);
    if (key) {
      keys.push_back(*std::move(key));
      continue;
    }
    const bool encrypted = key.error().find("no passphrase") != std::string::npos;
    diagnostics.error(file_path, {key.error(), "a private key in PEM",
                                  encrypted ? "write {file: FILE, passphrase_file: FILE}" : ""});
  }
  return keys;
}

void check_identity(const Peer& local, const Certificate& certificate, const std::string& path,
                    Diagnostics& diagnostics) {
  const auto identity = configured_identity(local);
  if (!identity || certifies(certificate, *identity)) return;
  diagnostics.error(path + ".id", {(local.id ? "" : "the address ") + quote(identity->text) +
                                       ", which is not in the certificate",
                                   "a name of the certificate: " + certificate.names_text(),
                                   "write one of these as id, or renew the certificate with "
                                   "subjectAltName " +
                                       identity->text});
}

void check_our_certificate(const Config& config, const Peer& local, const std::string& path,
                           const std::vector<PrivateKey>& keys, Diagnostics& diagnostics) {
  const std::string at = path + ".certificate";
  const auto chain = read_reported(local.certificate, at, diagnostics);
  if (chain.empty()) return;
  const Certificate& certificate = chain.front();
  const std::string who = quote(certificate.subject());
  if (const auto kind = certificate.key_type(); !kind) {
    diagnostics.error(at, {who + " " + kind.error().what, "a key that signs for IKE",
                           "renew it with a key of P-256, P-384, Ed25519 or RSA-3072"});
    return;
  }
  if (!certificate.may_sign()) {
    diagnostics.error(at, {who + " whose keyUsage does not allow signatures",
                           "digitalSignature (RFC 4945 §5.1.3.2)", "renew it"});
  }
  for (const Certificate& one : chain) check_dates(one, true, at, diagnostics);
  const bool all_read = keys.size() == config.pki.private_keys.size();
  if (all_read && std::ranges::none_of(
                      keys, [&](const PrivateKey& key) { return key.belongs_to(certificate); })) {
    diagnostics.error(at, {who + ", whose key is none of pki.private_keys", "its private key",
                           "add the key, or name the certificate that belongs to it first in the "
                           "file"});
  }
  check_identity(local, certificate, path, diagnostics);
}

void check_authorities(const Pki& pki, Diagnostics& diagnostics) {
  for (std::size_t index = 0; index < pki.authorities.size(); ++index) {
    const std::string path = indexed("pki.authorities", index);
    for (const Certificate& authority : read_reported(pki.authorities[index], path, diagnostics)) {
      if (!authority.is_authority()) {
        diagnostics.error(path,
                          {quote(authority.subject()) + ", which may not issue certificates",
                           "an authority (basicConstraints CA:TRUE)",
                           "name the certificate of its issuer " + quote(authority.issuer())});
      }
      check_dates(authority, false, path, diagnostics);
    }
  }
  for (std::size_t index = 0; index < pki.intermediates.size(); ++index) {
    const std::string path = indexed("pki.intermediates", index);
    for (const Certificate& one : read_reported(pki.intermediates[index], path, diagnostics)) {
      check_dates(one, false, path, diagnostics);
    }
  }
}

void check_lists(const Pki& pki, Diagnostics& diagnostics) {
  const std::int64_t now = std::time(nullptr);
  for (std::size_t index = 0; index < pki.crls.size(); ++index) {
    const std::string path = indexed("pki.crls", index);
    if (pki.crls[index].empty() || is_url(pki.crls[index])) continue;
    if (!check_readable(pki.crls[index], path, diagnostics)) continue;
    const auto lists = read_revocation_lists(pki.crls[index]);
    if (!lists) {
      diagnostics.error(path, {lists.error(), "a revocation list in PEM or DER", ""});
      continue;
    }
    for (const auto& list : *lists) {
      if (!list.next_update() || *list.next_update() >= now) continue;
      diagnostics.warning(path, {"the list of " + quote(list.issuer()) + ", expired on " +
                                     date_text(*list.next_update()),
                                 "a current list", "fetch it again"});
    }
  }
}

}  // namespace

void check_certificates(const Config& config, Diagnostics& diagnostics) {
  const auto keys = check_private_keys(config.pki, diagnostics);
  for (std::size_t index = 0; index < config.connections.size(); ++index) {
    const Peer& local = config.connections[index].local;
    if (local.auth != AuthMethod::pubkey || local.certificate.empty()) continue;
    check_our_certificate(config, local, indexed("connections", index) + ".local", keys,
                          diagnostics);
  }
  check_authorities(config.pki, diagnostics);
  check_lists(config.pki, diagnostics);
}

}  // namespace culvert::config
