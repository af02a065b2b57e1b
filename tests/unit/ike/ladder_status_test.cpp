// OCSP in IKE_AUTH (RFC 4806): what a peer sends of its certificate's status, and what is made of
// it.
#include "tests/unit/ike/certificate_pair.hpp"
#include "tests/unit/ocsp_responder.hpp"

namespace culvert::ladder {
namespace {

using config::Ocsp;
using crypto::pki::OcspResponse;
using test::ocsp_response;
using test::OcspOptions;

/// Both ask for statuses; b has what is `sent` to send.
struct StatusPair {
  explicit StatusPair(RevocationPolicy policy, Ocsp ocsp = Ocsp::in_band) : pair() {
    config::Pki rules = Holder::rules_with(policy);
    rules.ocsp = ocsp;
    pair.a.certificates = Certificates(rules, [this] { return now; });
    pair.a.own(pair.authority.issue(named("a.example.org")));
    pair.a.trust(pair.authority);
  }
  /// b learnt that from its responder.
  void status_of_b(const OcspOptions& options = {}) {
    const auto der = ocsp_response(*pair.b_end, pair.authority, pair.authority, options);
    const auto response = OcspResponse::from_der(der);
    REQUIRE(response);
    CHECK(pair.b.certificates.statuses().learn(*response, pair.b_end->certificate(),
                                               pair.authority.certificate(), kNow));
  }
  /// b sends these bytes, whatever they are.
  void forge(std::vector<std::uint8_t> bytes) {
    forged = std::make_unique<Forger>(pair.b.certificates, std::move(bytes));
  }
  Ladder ladder() {
    pair.b.own(*pair.b_end);
    GatewayOptions left = gateway_a();
    left.auth = left.remote_auth = AuthMethod::pubkey;
    left.certificate = "own.pem";
    GatewayOptions right = mirrored(left);
    left.signatures = &pair.a.certificates;
    right.signatures =
        forged ? static_cast<const ike::SignatureSource*>(forged.get()) : &pair.b.certificates;
    return Ladder(left, right);
  }
  struct Forger final : ike::SignatureSource {
    Forger(const Certificates& real, std::vector<std::uint8_t> bytes)
        : real_(real), bytes_(std::move(bytes)) {}
    std::expected<Proof, Problem> sign(const config::Connection& connection,
                                       std::optional<std::span<const std::uint16_t>> hashes,
                                       wire::Bytes octets) const override {
      auto proof = real_.sign(connection, hashes, octets);
      if (proof) proof->statuses = {bytes_};
      return proof;
    }
    std::expected<Verified, Problem> verify(const Claim& claim) const override {
      return real_.verify(claim);
    }
    std::vector<std::uint8_t> authority_hashes() const override { return real_.authority_hashes(); }
    const Certificates& real_;
    std::vector<std::uint8_t> bytes_;
  };

  std::int64_t now = kNow;
  Pair pair;
  std::unique_ptr<Forger> forged;
};

OcspOptions revoked() {
  OcspOptions options;
  options.status = V_OCSP_CERTSTATUS_REVOKED;
  return options;
}

void refused(StatusPair& pair, Failure failure, const std::string& words) {
  Ladder ladder = pair.ladder();
  ladder.initiate(kA);
  ladder.run();
  const auto status = ladder.connection(kA);
  REQUIRE(status.last_failure);
  CHECK(*status.last_failure == failure);
  INFO(status.last_failure_detail);
  CHECK(contains(status.last_failure_detail, words));
  CHECK(ladder.gateway(kA).machine->ike_sas(ladder.world.now).empty());
}

}  // namespace

TEST_CASE("statuses: a good one sent along satisfies strict, without any list (RFC 4806 §3.2)") {
  StatusPair pair(RevocationPolicy::strict);
  pair.status_of_b();
  Ladder ladder = pair.ladder();
  ladder.initiate(kA);
  ladder.run();
  ladder.converged();
  CHECK(ladder.reported(kA, "revocation_not_checked") == 0);
}

TEST_CASE("statuses: a revoked peer is refused under every policy that asks") {
  StatusPair pair(GENERATE(RevocationPolicy::strict, RevocationPolicy::if_available));
  pair.status_of_b(revoked());
  refused(pair, Failure::certificate_revoked, "revoked on 2029-12-31 23:00 UTC (keyCompromise)");
}

TEST_CASE("statuses: who does not ask gets none, and looks at none") {
  StatusPair pair(RevocationPolicy::if_available, Ocsp::off);
  pair.status_of_b(revoked());
  Ladder ladder = pair.ladder();
  ladder.initiate(kA);
  ladder.run();
  ladder.converged();
  CHECK(ladder.reported(kA, "revocation_not_checked") == 1);
}

TEST_CASE("statuses: a peer that sends none is refused by strict and noted by if-available") {
  SECTION("strict") {
    StatusPair pair(RevocationPolicy::strict);
    refused(pair, Failure::revocation_unknown, "b.example.org");
  }
  SECTION("if-available") {
    StatusPair pair(RevocationPolicy::if_available);
    Ladder ladder = pair.ladder();
    ladder.initiate(kA);
    ladder.run();
    ladder.converged();
    CHECK(ladder.reported(kA, "revocation_not_checked") == 1);
  }
}

TEST_CASE("statuses: what does not count is named (RFC 6960 §3.2)") {
  StatusPair pair(RevocationPolicy::strict);
  const Issued& authority = pair.pair.authority;
  const Issued& end = *pair.pair.b_end;
  SECTION("of another certificate") {
    pair.forge(ocsp_response(authority.issue(named("c.example.org")), authority, authority));
    refused(pair, Failure::ocsp_response_unusable, "is for another certificate");
  }
  SECTION("signed by the peer itself") {
    pair.forge(ocsp_response(end, authority, end));
    refused(pair, Failure::ocsp_response_unusable, "is not signed by");
  }
  SECTION("expired") {
    OcspOptions options;
    options.this_update = kNow - 7200;
    options.next_update = kNow - 3600;
    pair.forge(ocsp_response(end, authority, authority, options));
    refused(pair, Failure::ocsp_response_unusable, "expired on 2029-12-31 23:00 UTC");
  }
  SECTION("no response at all") {
    pair.forge({0x30, 0x01, 0x02, 0x03});
    refused(pair, Failure::ocsp_response_unusable, "is no OCSP response");
  }
}

TEST_CASE("statuses: an older good one does not undo that the certificate was revoked") {
  StatusPair pair(RevocationPolicy::if_available);
  const auto response = OcspResponse::from_der(
      ocsp_response(*pair.pair.b_end, pair.pair.authority, pair.pair.authority, revoked()));
  CHECK(pair.pair.a.certificates.statuses().learn(*response, pair.pair.b_end->certificate(),
                                                  pair.pair.authority.certificate(), kNow));
  OcspOptions older;
  older.this_update = kNow - 7200;
  pair.status_of_b(older);
  refused(pair, Failure::certificate_revoked, "by OCSP of");
}

TEST_CASE("statuses: an IKE SA stands when the status that let it in has expired") {
  StatusPair pair(RevocationPolicy::strict);
  pair.status_of_b();
  Ladder ladder = pair.ladder();
  ladder.initiate(kA);
  ladder.run();
  ladder.converged();
  pair.now = kNow + 7200;
  std::vector<ike::Action> actions;
  ladder.gateway(kA).machine->recheck_certificates(ladder.world.now, actions);
  CHECK(actions.empty());
}

namespace {

/// a asks the responder that b's certificate names.
struct FetchPair : StatusPair {
  explicit FetchPair(RevocationPolicy policy) : StatusPair(policy, Ocsp::fetch) {
    CertificateOptions options = named("b.example.org");
    options.authority_information = "OCSP;URI:http://ocsp.example.org/";
    pair.replace_b(pair.authority.issue(options));
  }
  std::vector<std::uint8_t> response(const OcspOptions& options = {}) const {
    return ocsp_response(*pair.b_end, pair.authority, pair.authority, options);
  }
  /// The one fetch that is due ends like that.
  void answer(Ladder& ladder, const ike::RevocationFetches::Result& result) {
    const auto due = pair.a.certificates.due_fetches();
    REQUIRE(due.size() == 1);
    const auto outcome = pair.a.certificates.fetched(due[0].id, result);
    ladder.world.status_came(kA, outcome.name);
    ladder.run();
  }
};

}  // namespace

TEST_CASE("statuses: IKE_AUTH waits for the responder, in both roles") {
  const int beginner = GENERATE(kA, kB);
  FetchPair pair(RevocationPolicy::strict);
  Ladder ladder = pair.ladder();
  ladder.initiate(beginner);
  ladder.run();
  CHECK_FALSE(ladder.connection(kA).last_failure);
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
  SECTION("good") {
    pair.answer(ladder, pair.response());
    ladder.converged();
    CHECK(ladder.reported(kA, "revocation_not_checked") == 0);
  }
  SECTION("revoked") {
    pair.answer(ladder, pair.response(revoked()));
    CHECK(ladder.connection(kA).last_failure == Failure::certificate_revoked);
    CHECK(ladder.gateway(kA).data_plane.sas.empty());
  }
  SECTION("unreachable") {
    pair.answer(ladder, std::unexpected("Connection refused"));
    CHECK(ladder.connection(kA).last_failure == Failure::revocation_unreachable);
    CHECK(contains(ladder.connection(kA).last_failure_detail,
                   "http://ocsp.example.org/: Connection refused"));
  }
}

TEST_CASE("statuses: if-available accepts when the responder is not reached, and says so") {
  FetchPair pair(RevocationPolicy::if_available);
  Ladder ladder = pair.ladder();
  ladder.initiate(kB);
  ladder.run();
  pair.answer(ladder, std::unexpected("Connection refused"));
  ladder.converged();
  CHECK(ladder.reported(kA, "revocation_not_checked") == 1);
}

TEST_CASE("statuses: a responder that never answers is waited for five seconds") {
  const int beginner = GENERATE(kA, kB);
  FetchPair pair(RevocationPolicy::strict);
  Ladder ladder = pair.ladder();
  ladder.initiate(beginner);
  ladder.run();
  CHECK_FALSE(ladder.connection(kA).last_failure);
  ladder.pass(seconds(6));
  ladder.run();
  CHECK(ladder.connection(kA).last_failure == Failure::revocation_unknown);
  CHECK(ladder.gateway(kA).data_plane.sas.empty());
}

TEST_CASE("statuses: an IKE SA ends when its responder later says revoked") {
  FetchPair pair(RevocationPolicy::strict);
  Ladder ladder = pair.ladder();
  ladder.initiate(kA);
  ladder.run();
  pair.answer(ladder, pair.response());
  ladder.converged();
  pair.now = kNow + 1800;
  ladder.pass(seconds(1801));
  OcspOptions later = revoked();
  later.this_update = kNow + 1700;
  later.next_update = kNow + 7200;
  const auto due = pair.pair.a.certificates.due_fetches();
  REQUIRE(due.size() == 1);
  const auto outcome = pair.pair.a.certificates.fetched(due[0].id, pair.response(later));
  CHECK(outcome.revokes);
  std::vector<ike::Action> actions;
  ladder.gateway(kA).machine->recheck_certificates(ladder.world.now, actions);
  CHECK(ladder.connection(kA).last_failure == Failure::certificate_revoked);
  CHECK(ladder.ike_sa(kA).state == "deleting");
}

}  // namespace culvert::ladder
