// IKE_AUTH with certificates: two machines, each with an authority, a certificate and a clock.
#include "tests/unit/ike/certificate_pair.hpp"

namespace culvert::ladder {
namespace {

/// a initiates and refuses b: what a's operator reads.
ike::ConnectionStatus refused_by_a(Pair& pair) {
  Ladder ladder = pair.ladder();
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.gateway(kA).machine->ike_sas(ladder.world.now).empty());
  CHECK(ladder.gateway(kA).machine->counters().authentication_failures == 1);
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  return ladder.connection(kA);
}

}  // namespace

TEST_CASE("certificates: both roles come up with each kind of key (RFC 7427, RFC 8420)") {
  for (const auto& [key, algorithm] :
       std::vector<std::pair<KeyKind, std::string>>{{KeyKind::rsa2048, "RSASSA-PSS with SHA-256"},
                                                    {KeyKind::p384, "ECDSA with SHA-384"},
                                                    {KeyKind::ed25519, "Ed25519"}}) {
    Pair pair(key);
    Ladder ladder = pair.ladder();
    ladder.connect();
    ladder.converged();
    for (const int side : {kA, kB}) {
      CHECK(ladder.ike_sa(side).local_auth == algorithm);
      CHECK(ladder.ike_sa(side).remote_auth == algorithm);
    }
    CHECK(contains(ladder.ike_sa(kA).remote_certificate, "CN=b.example.org"));
  }
}

TEST_CASE("certificates: what is known of the peer moves along when the IKE SA is rekeyed") {
  Pair pair;
  Ladder ladder = pair.ladder();
  ladder.connect();
  ladder.rekey_ike(kA);
  ladder.run();
  ladder.converged();
  CHECK(contains(ladder.ike_sa(kB).remote_certificate, "CN=a.example.org"));
  CHECK(ladder.ike_sa(kB).remote_certificate_expires == kNow + kYear);
}

TEST_CASE("certificates: an intermediate authority is sent along (RFC 7296 §3.6)") {
  Pair pair;
  CertificateOptions options;
  options.name = "Intermediate";
  options.alternative_names.clear();
  options.authority = true;
  const Issued intermediate = pair.authority.issue(options);
  pair.replace_b(intermediate.issue(named("b.example.org")));
  SECTION("with it the path is found") {
    pair.b_intermediates = {intermediate};
    Ladder ladder = pair.ladder();
    ladder.connect();
    ladder.converged();
  }
  SECTION("without it the issuer that is missing is named") {
    const auto status = refused_by_a(pair);
    CHECK(status.last_failure == Failure::certificate_untrusted);
    CHECK(contains(status.last_failure_detail, "Intermediate"));
  }
}

TEST_CASE("certificates: one side by a shared key, the other by a certificate (RFC 7296 §2.15)") {
  Pair pair;
  pair.b.own(*pair.b_end);
  GatewayOptions left = gateway_a();
  left.remote_auth = AuthMethod::pubkey;
  left.signatures = &pair.a.certificates;
  GatewayOptions right = mirrored(left);
  right.auth = AuthMethod::pubkey;
  right.remote_auth = AuthMethod::psk;
  right.certificate = "own.pem";
  right.signatures = &pair.b.certificates;
  for (const int beginner : {kA, kB}) {
    Ladder ladder(left, right);
    ladder.initiate(beginner);
    ladder.run();
    ladder.converged();
    CHECK(ladder.ike_sa(kA).local_auth == "psk");
    CHECK(ladder.ike_sa(kA).remote_auth == "ECDSA with SHA-256");
    CHECK(ladder.ike_sa(kB).remote_auth == "psk");
  }
}

TEST_CASE("certificates: a shared key where a certificate is expected, and the other way round") {
  Pair pair;
  pair.b.own(*pair.b_end);
  GatewayOptions left = gateway_a();
  left.remote_auth = AuthMethod::pubkey;
  left.signatures = &pair.a.certificates;
  const GatewayOptions right = mirrored(gateway_a());
  {
    Ladder ladder(left, right);
    ladder.initiate(kA);
    ladder.run();
    CHECK(ladder.connection(kA).last_failure == Failure::auth_method_mismatch);
    CHECK(contains(ladder.connection(kA).last_failure_detail, "pre-shared key"));
  }
  GatewayOptions signing = right;
  signing.auth = AuthMethod::pubkey;
  signing.certificate = "own.pem";
  signing.signatures = &pair.b.certificates;
  Ladder ladder(gateway_a(), signing);
  ladder.initiate(kB);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::auth_method_mismatch);
  CHECK(contains(ladder.connection(kA).last_failure_detail, "remote.auth psk"));
  CHECK(ladder.connection(kB).last_failure == Failure::certificate_refused_remote);
}

TEST_CASE("certificates: expired, with the date and the remedy") {
  Pair pair;
  CertificateOptions options = named("b.example.org");
  options.not_after = kNow - 60;
  pair.replace_b(pair.authority.issue(options));
  const auto status = refused_by_a(pair);
  CHECK(status.last_failure == Failure::certificate_not_valid);
  CHECK(contains(status.last_failure_detail, "b.example.org"));
  CHECK(contains(status.last_failure_detail, "has expired"));
}

TEST_CASE("certificates: of another authority, with the names of both") {
  Pair pair;
  pair.replace_b(Issued::authority("Foreign CA").issue(named("b.example.org")));
  const auto status = refused_by_a(pair);
  CHECK(status.last_failure == Failure::certificate_untrusted);
  CHECK(contains(status.last_failure_detail, "Foreign CA"));
  CHECK(contains(status.last_failure_detail, "Test CA"));
}

TEST_CASE("certificates: a peer of our authority cannot take another's identity") {
  Pair pair;
  pair.replace_b(pair.authority.issue(named("mallory.example.org")));
  const auto status = refused_by_a(pair);
  CHECK(status.last_failure == Failure::identity_not_certified);
  CHECK(contains(status.last_failure_detail, "presents b.example.org"));
  CHECK(contains(status.last_failure_detail, "mallory.example.org"));
}

TEST_CASE("certificates: revoked, and under strict unknown") {
  Pair pair(KeyKind::p256, RevocationPolicy::strict);
  pair.b.certificates.trust().add_revocation_list(pair.authority.revocation_list({}));
  SECTION("revoked") {
    pair.a.certificates.trust().add_revocation_list(pair.authority.revocation_list({*pair.b_end}));
    CHECK(refused_by_a(pair).last_failure == Failure::certificate_revoked);
  }
  SECTION("no list") { CHECK(refused_by_a(pair).last_failure == Failure::revocation_unknown); }
  SECTION("a current list") {
    pair.a.certificates.trust().add_revocation_list(pair.authority.revocation_list({}));
    Ladder ladder = pair.ladder();
    ladder.connect();
    CHECK(ladder.reported(kA, "revocation_not_checked") == 0);
  }
}

TEST_CASE("certificates: without a list a peer passes if-available, and a warning says so") {
  Pair pair(KeyKind::p256, RevocationPolicy::if_available);
  Ladder ladder = pair.ladder();
  ladder.connect();
  CHECK(ladder.reported(kA, "revocation_not_checked") == 1);
  CHECK(ladder.reported(kB, "revocation_not_checked") == 1);
}

TEST_CASE("certificates: a certificate of somebody else without its key proves nothing") {
  Pair pair;
  const Issued impostor = Issued::authority("Impostor");
  std::vector<crypto::pki::Certificate> stolen{pair.b_end->certificate()};
  // b signs with a key of its own and sends the certificate that names b.
  class Thief final : public ike::SignatureSource {
   public:
    Thief(const Certificates& inner, std::vector<std::uint8_t> shown)
        : inner_(inner), shown_(std::move(shown)) {}
    std::expected<Proof, Problem> sign(const config::Connection& connection,
                                       std::optional<std::span<const std::uint16_t>> hashes,
                                       wire::Bytes octets) const override {
      auto proof = inner_.sign(connection, hashes, octets);
      if (proof) proof->certificates = {shown_};
      return proof;
    }
    std::expected<Verified, Problem> verify(const Claim& claim) const override {
      return inner_.verify(claim);
    }
    std::vector<std::uint8_t> authority_hashes() const override {
      return inner_.authority_hashes();
    }

   private:
    const Certificates& inner_;
    std::vector<std::uint8_t> shown_;
  };
  pair.b.own(impostor);
  const Thief thief(pair.b.certificates, stolen.front().der());
  GatewayOptions left = gateway_a();
  left.auth = left.remote_auth = AuthMethod::pubkey;
  left.certificate = "own.pem";
  GatewayOptions right = mirrored(left);
  left.signatures = &pair.a.certificates;
  right.signatures = &thief;
  for (const int beginner : {kA, kB}) {
    Ladder ladder(left, right);
    ladder.initiate(beginner);
    ladder.run();
    CHECK(ladder.connection(kA).last_failure == Failure::signature_invalid);
    CHECK(contains(ladder.connection(kA).last_failure_detail, "does not verify"));
    CHECK(ladder.gateway(kA).data_plane.sas.empty());
  }
}

TEST_CASE(
    "certificates: what we cannot sign is our own failure, told before the peer hears of it") {
  Pair pair;
  pair.b.own(*pair.b_end);
  GatewayOptions left = gateway_a();
  left.auth = left.remote_auth = AuthMethod::pubkey;
  left.certificate = "own.pem";
  GatewayOptions right = mirrored(left);
  right.signatures = &pair.b.certificates;
  Holder keyless;
  keyless.trust(pair.authority);
  SECTION("the private key is missing") {
    keyless.certificates.add_own("own.pem",
                                 {pair.authority.issue(named("a.example.org")).certificate()});
  }
  SECTION("Ed25519, and the peer does not negotiate signatures (RFC 8420 §2)") {
    keyless.own(pair.authority.issue(named("a.example.org", KeyKind::ed25519)));
    right.auth = right.remote_auth = AuthMethod::psk;
  }
  left.signatures = &keyless.certificates;
  Ladder ladder(left, right);
  ladder.initiate(kA);
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::signature_failed);
  CHECK(ladder.gateway(kA).data_plane.leased.empty());
}

TEST_CASE("certificates: CERTREQ names our authorities by their keys (RFC 7296 §3.7)") {
  Holder holder;
  CHECK(holder.certificates.authority_hashes().empty());
  const Issued first = Issued::authority("First"), second = Issued::authority("Second");
  holder.trust(first);
  holder.trust(second);
  const auto hashes = holder.certificates.authority_hashes();
  REQUIRE(hashes.size() == 40);
  const auto hash = second.certificate().key_hash();
  CHECK(std::ranges::equal(std::span(hashes).last(20), hash));
}

TEST_CASE("certificates: what a peer sends in CERT payloads is judged, whatever it is") {
  Pair pair;
  pair.b.own(*pair.b_end);
  config::Connection connection;
  connection.name = "branch";
  connection.local.certificate = "own.pem";
  const auto identity = config::parse_identity("b.example.org").value();
  const std::vector<std::uint8_t> octets(100, 7);
  constexpr std::array<std::uint16_t, 1> kHashes{2};
  const auto proof =
      pair.b.certificates.sign(connection, std::span<const std::uint16_t>(kHashes), octets);
  REQUIRE(proof);
  const auto judge = [&](const std::vector<wire::ike::Certificate>& sent) {
    return pair.a.certificates.verify(
        {connection, identity, sent, proof->method, proof->data, octets});
  };
  const auto& der = proof->certificates.front();
  using enum wire::ike::CertificateEncoding;
  CHECK(judge({{x509_signature, der}}));
  CHECK(judge({{hash_and_url, {1, 2, 3}}, {x509_signature, der}}));
  CHECK(judge({}).error().failure == Failure::certificate_missing);
  CHECK(judge({{hash_and_url, {1, 2, 3}}}).error().failure == Failure::certificate_missing);
  // The authority first: RFC 7296 §3.6 wants the one that signed first.
  CHECK(judge({{x509_signature, pair.authority.certificate().der()}, {x509_signature, der}})
            .error()
            .failure == Failure::signature_invalid);
  for (std::size_t length = 0; length < der.size(); length += 7) {
    const std::vector<std::uint8_t> prefix(der.begin(), der.begin() + static_cast<long>(length));
    CHECK(judge({{x509_signature, prefix}}).error().failure == Failure::certificate_unsuitable);
  }
}

TEST_CASE("certificates: an IKE SA ends when its peer's certificate expires") {
  Pair pair;
  CertificateOptions options = named("b.example.org");
  options.not_after = kNow + 600;
  pair.replace_b(pair.authority.issue(options));
  std::int64_t now = kNow;
  pair.a.certificates =
      Certificates(Holder::rules_with(RevocationPolicy::off), [&] { return now; });
  pair.a.own(pair.authority.issue(named("a.example.org")));
  pair.a.trust(pair.authority);
  Ladder ladder = pair.ladder();
  ladder.connect();
  ladder.rekey_ike(kB);
  ladder.run();
  now = kNow + 599;
  ladder.pass(seconds(599));
  ladder.silent();
  now = kNow + 602;
  ladder.pass(seconds(3));
  ladder("a --> b  INFORMATIONAL request");
  ladder("b --> a  INFORMATIONAL response");
  CHECK(ladder.connection(kA).last_failure == Failure::certificate_not_valid);
  CHECK(contains(ladder.connection(kA).last_failure_detail, "is ended"));
  CHECK(ladder.reported(kA, "negotiation_failed") == 1);
  ladder.wire.clear();
}

TEST_CASE("certificates: an IKE SA ends when a list read later revokes its peer") {
  const auto policy = GENERATE(RevocationPolicy::if_available, RevocationPolicy::off);
  Pair pair(KeyKind::p256, policy);
  Ladder ladder = pair.ladder();
  ladder.connect();
  pair.a.certificates.trust().add_revocation_list(pair.authority.revocation_list({*pair.b_end}));
  std::vector<ike::Action> actions;
  ladder.gateway(kA).machine->recheck_certificates(ladder.world.now, actions);
  const auto ended = [](const ike::Action& action) {
    const auto* report = std::get_if<ike::Report>(&action);
    return report != nullptr && report->event == "negotiation_failed";
  };
  const bool ends = policy != RevocationPolicy::off;
  CHECK(std::ranges::any_of(actions, ended) == ends);
  CHECK((ladder.connection(kA).last_failure == Failure::certificate_revoked) == ends);
  CHECK((ladder.ike_sa(kA).state == "deleting") == ends);
}

}  // namespace culvert::ladder
