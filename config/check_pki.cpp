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
  const bool knows = !pki.crls.empty() || pki.ocsp != Ocsp::off;
  switch (pki.revocation) {
    case RevocationPolicy::off:
      diagnostics.warning("pki.revocation", {"\"off\"", "strict or if-available",
                                             "with off, revoked certificates are accepted"});
      return;
    case RevocationPolicy::strict:
      if (knows) return;
      diagnostics.error(
          "pki.revocation",
          {"\"strict\" without crls or ocsp", "a list of every issuer, or their responders",
           "write crls: [FILE or URL] or ocsp: fetch; without them no peer is "
           "accepted"});
      return;
    case RevocationPolicy::if_available:
      if (knows) return;
      diagnostics.warning("pki", {"no crls and no ocsp", "a way to learn of revocations",
                                  "write crls: [FILE or URL] or ocsp: fetch; without them, revoked "
                                  "certificates are accepted"});
      return;
  }
}

/// Keys that say nothing together with others.
void check_status_keys(const Pki& pki, Diagnostics& diagnostics) {
  if (pki.revocation == RevocationPolicy::off && pki.ocsp != Ocsp::off) {
    diagnostics.error("pki.ocsp", {"ocsp with revocation: off", "no ocsp, or another policy",
                                   "write revocation: strict or if-available, or ocsp: off"});
  }
  if (!pki.ocsp_responder.empty() && pki.ocsp != Ocsp::fetch) {
    diagnostics.error("pki.ocsp_responder", {"a responder that is not asked", "ocsp: fetch",
                                             "write ocsp: fetch, or remove it"});
  }
  if (pki.revocation_grace > limits::kGraceLong) {
    diagnostics.warning("pki.revocation_grace",
                        {std::to_string(pki.revocation_grace.count()) + " seconds",
                         "at most " + std::to_string(limits::kGraceLong.count()),
                         "for that long a revoked certificate may still be accepted"});
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
  check_status_keys(config.pki, diagnostics);
  const bool complete = !config.pki.authorities.empty() && !diagnostics.has_error_under("pki");
  if (verifies_certificates && complete) check_revocation(config.pki, diagnostics);
}

}  // namespace culvert::config
