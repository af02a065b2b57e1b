#include <algorithm>

#include "config/checks.hpp"
#include "config/limits.hpp"

namespace culvert::config {
namespace {

using crypto::pki::RevocationPolicy;

void check_our_side(const Config& config, const Peer& local, const std::string& path,
                    Diagnostics& diagnostics) {
  if (local.auth != AuthMethod::pubkey || diagnostics.has_error_under(path)) return;
  if (local.certificate.empty()) {
    diagnostics.error(path + ".auth", {"\"pubkey\" without a certificate", "certificate: FILE",
                                       "add certificate: with our certificate in PEM"});
  } else if (config.pki.private_keys.empty() && !diagnostics.has_error_under("pki.private_keys")) {
    diagnostics.error(path + ".certificate",
                      {"no private key for the certificate", "its key under pki.private_keys",
                       "write pki: {private_keys: [FILE]}"});
  }
}

void check_their_side(const Config& config, const Peer& remote, const std::string& path,
                      Diagnostics& diagnostics) {
  if (remote.auth != AuthMethod::pubkey || diagnostics.has_error_under(path)) return;
  if (config.pki.authorities.empty() && !diagnostics.has_error_under("pki.authorities")) {
    diagnostics.error(path + ".auth",
                      {"\"pubkey\" without an authority that could have issued the certificate",
                       "its issuer under pki.authorities", "write pki: {authorities: [FILE]}"});
  }
}

void check_revocation(const Pki& pki, Diagnostics& diagnostics) {
  switch (pki.revocation) {
    case RevocationPolicy::off:
      diagnostics.warning("pki.revocation", {"\"off\"", "strict or if-available",
                                             "with off, revoked certificates are accepted"});
      return;
    case RevocationPolicy::strict:
      if (!pki.crls.empty()) return;
      diagnostics.error("pki.revocation", {"\"strict\" without crls", "a list of every issuer",
                                           "write crls: [FILE]; without one no peer is accepted"});
      return;
    case RevocationPolicy::if_available:
      if (!pki.crls.empty()) return;
      diagnostics.warning("pki", {"no crls", "revocation lists of the authorities",
                                  "write crls: [FILE]; without one, revoked certificates are "
                                  "accepted"});
      return;
  }
}

}  // namespace

void check_pki(const Config& config, Diagnostics& diagnostics) {
  bool verifies_certificates = false;
  for (std::size_t index = 0; index < config.connections.size(); ++index) {
    const Connection& connection = config.connections[index];
    const std::string path = indexed("connections", index);
    check_our_side(config, connection.local, path + ".local", diagnostics);
    check_their_side(config, connection.remote, path + ".remote", diagnostics);
    verifies_certificates |= connection.remote.auth == AuthMethod::pubkey;
  }
  if (config.pki.authorities.size() > limits::kAuthorities) {
    diagnostics.error("pki.authorities",
                      {std::to_string(config.pki.authorities.size()) + " files",
                       "at most " + std::to_string(limits::kAuthorities), "remove some"});
  }
  const bool complete = !config.pki.authorities.empty() && !diagnostics.has_error_under("pki");
  if (verifies_certificates && complete) check_revocation(config.pki, diagnostics);
}

}  // namespace culvert::config
