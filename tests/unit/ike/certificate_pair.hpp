// Two gateways that authenticate each other by certificates of one authority.
#pragma once

#include "ike/identity/certificates.hpp"
#include "tests/unit/authority.hpp"
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {

using config::AuthMethod;
using crypto::pki::RevocationPolicy;
using ike::Certificates;
using test::CertificateOptions;
using test::Issued;
using test::KeyKind;
using test::kNow;
using test::kYear;

inline CertificateOptions named(const std::string& name, KeyKind key = KeyKind::p256) {
  CertificateOptions options;
  options.name = name;
  options.alternative_names = "DNS:" + name;
  options.key = key;
  return options;
}

/// What one gateway holds: its chain, its key, whom it trusts.
struct Holder {
  explicit Holder(RevocationPolicy revocation = RevocationPolicy::off)
      : certificates(rules_with(revocation), [] { return kNow; }) {}
  static config::Pki rules_with(RevocationPolicy revocation) {
    config::Pki rules;
    rules.revocation = revocation;
    return rules;
  }
  void own(const Issued& issued, const std::vector<Issued>& intermediates = {}) {
    std::vector<crypto::pki::Certificate> chain{issued.certificate()};
    for (const Issued& one : intermediates) chain.push_back(one.certificate());
    certificates.add_own("own.pem", std::move(chain));
    certificates.add_private_key(issued.private_key());
  }
  void trust(const Issued& authority) {
    certificates.trust().add_authority(authority.certificate());
  }
  Certificates certificates;
};

/// Two gateways that authenticate each other by certificates of one authority.
struct Pair {
  explicit Pair(KeyKind key = KeyKind::p256, RevocationPolicy revocation = RevocationPolicy::off)
      : authority(Issued::authority()), a(revocation), b(revocation) {
    a.own(authority.issue(named("a.example.org", key)));
    b_end = std::make_unique<Issued>(authority.issue(named("b.example.org", key)));
    a.trust(authority);
    b.trust(authority);
  }
  /// b sends that instead of what the authority issued for it.
  void replace_b(const Issued& issued) { b_end = std::make_unique<Issued>(issued); }
  Ladder ladder() {
    b.own(*b_end, b_intermediates);
    GatewayOptions left = gateway_a();
    left.auth = left.remote_auth = AuthMethod::pubkey;
    left.certificate = "own.pem";
    GatewayOptions right = mirrored(left);
    left.signatures = &a.certificates;
    right.signatures = &b.certificates;
    return Ladder(left, right);
  }
  Issued authority;
  Holder a, b;
  std::unique_ptr<Issued> b_end;
  std::vector<Issued> b_intermediates;
};

}  // namespace culvert::ladder
