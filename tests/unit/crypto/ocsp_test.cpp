#include "crypto/pki/ocsp.hpp"

#include <catch2/catch.hpp>

#include "crypto/pki/trust_store.hpp"
#include "tests/unit/ocsp_responder.hpp"

namespace culvert::crypto::pki {
namespace {

using culvert::test::Issued;
using culvert::test::kNow;
using culvert::test::kYear;
using culvert::test::ocsp_delegate;
using culvert::test::ocsp_response;
using culvert::test::OcspOptions;

struct Town {
  Issued authority = Issued::authority();
  Issued end = authority.issue({});
  Issued other = authority.issue({});
};

Result<OcspStatus> judged(const Town& town, const std::vector<std::uint8_t>& der,
                          std::chrono::seconds grace = {}) {
  const auto response = OcspResponse::from_der(der);
  REQUIRE(response);
  CHECK(response->der() == der);
  return response->status_of(town.end.certificate(), town.authority.certificate(), {kNow, grace});
}
std::string why_not(const Result<OcspStatus>& status) {
  REQUIRE_FALSE(status);
  return status.error().what;
}
OcspOptions saying(int status) {
  OcspOptions options;
  options.status = status;
  return options;
}

}  // namespace

TEST_CASE("ocsp: good, signed by the issuer") {
  const Town town;
  const auto status = judged(town, ocsp_response(town.end, town.authority, town.authority));
  REQUIRE(status);
  CHECK_FALSE(status->revoked);
  CHECK(status->until == kNow + 3600);
  CHECK(status->this_update == kNow - 3600);
}

TEST_CASE("ocsp: revoked, with the date and the reason") {
  const Town town;
  const auto status = judged(town, ocsp_response(town.end, town.authority, town.authority,
                                                 saying(V_OCSP_CERTSTATUS_REVOKED)));
  REQUIRE(status);
  CHECK(status->revoked);
  CHECK(status->what == "revoked on 2029-12-31 23:00 UTC (keyCompromise)");
}

TEST_CASE("ocsp: a responder that does not know the certificate vouches for nothing") {
  const Town town;
  CHECK(why_not(judged(town, ocsp_response(town.end, town.authority, town.authority,
                                           saying(V_OCSP_CERTSTATUS_UNKNOWN)))) ==
        "says that the responder does not know it");
}

TEST_CASE("ocsp: the issuer may name a responder, and nobody else may (RFC 6960 §4.2.2.2)") {
  const Town town;
  SECTION("with id-kp-OCSPSigning") {
    const Issued delegate = ocsp_delegate(town.authority);
    CHECK(judged(town, ocsp_response(town.end, town.authority, delegate)));
  }
  SECTION("another certificate of the issuer") {
    CHECK_THAT(why_not(judged(town, ocsp_response(town.end, town.authority, town.other))),
               Catch::Contains("is not signed by") && Catch::Contains("Test CA"));
  }
  SECTION("one for servers") {
    const Issued delegate = ocsp_delegate(town.authority, "serverAuth");
    CHECK_FALSE(judged(town, ocsp_response(town.end, town.authority, delegate)));
  }
  SECTION("a responder of another authority") {
    const Issued foreign = ocsp_delegate(Issued::authority("Foreign CA"));
    CHECK_FALSE(judged(town, ocsp_response(town.end, town.authority, foreign)));
  }
  SECTION("an authority of the same name with another key") {
    const Issued impostor = Issued::authority();
    CHECK_FALSE(judged(town, ocsp_response(town.end, town.authority, impostor)));
  }
  SECTION("whom a subordinate of the issuer named") {
    culvert::test::CertificateOptions options;
    options.name = "Intermediate";
    options.alternative_names.clear();
    options.authority = true;
    const Issued delegate = ocsp_delegate(town.authority.issue(options));
    CHECK_FALSE(judged(town, ocsp_response(town.end, town.authority, delegate)));
  }
}

TEST_CASE("ocsp: a response for another certificate says nothing of this one") {
  const Town town;
  CHECK(why_not(judged(town, ocsp_response(town.other, town.authority, town.authority))) ==
        "is for another certificate");
}

TEST_CASE("ocsp: a certificate may be named by any hash") {
  const Town town;
  OcspOptions options;
  options.id_digest = EVP_sha256();
  CHECK(judged(town, ocsp_response(town.end, town.authority, town.authority, options)));
}

TEST_CASE("ocsp: dates, with a time of grace (RFC 6960 §4.2.2.1)") {
  const Town town;
  OcspOptions options;
  SECTION("expired") {
    options.this_update = kNow - 7200;
    options.next_update = kNow - 60;
    const auto der = ocsp_response(town.end, town.authority, town.authority, options);
    CHECK(why_not(judged(town, der)) == "expired on 2029-12-31 23:59 UTC");
    CHECK(judged(town, der, std::chrono::seconds(60)));
    CHECK_FALSE(judged(town, der, std::chrono::seconds(59)));
  }
  SECTION("of the future") {
    options.this_update = kNow + kOcspSkew + 1;
    CHECK(why_not(judged(town, ocsp_response(town.end, town.authority, town.authority, options))) ==
          "is dated 2030-01-01 00:05 UTC");
    options.this_update = kNow + kOcspSkew;
    CHECK(judged(town, ocsp_response(town.end, town.authority, town.authority, options)));
  }
  SECTION("without an end it counts for ten minutes") {
    options.next_update = 0;
    options.this_update = kNow - kOcspWithoutEnd;
    CHECK(judged(town, ocsp_response(town.end, town.authority, town.authority, options)));
    options.this_update = kNow - kOcspWithoutEnd - 1;
    CHECK_FALSE(judged(town, ocsp_response(town.end, town.authority, town.authority, options)));
  }
}

TEST_CASE("ocsp: signatures over SHA-1 do not count (RFC 8247 §4.3)") {
  const Town town;
  OcspOptions options;
  options.digest = EVP_sha1();
  CHECK_FALSE(judged(town, ocsp_response(town.end, town.authority, town.authority, options)));
}

TEST_CASE("ocsp: an error of the responder is named") {
  const Town town;
  // OCSPResponse ::= SEQUENCE { responseStatus tryLater (3) }
  CHECK_THAT(why_not(judged(town, {0x30, 0x03, 0x0a, 0x01, 0x03})), Catch::Contains("trylater"));
}

TEST_CASE("ocsp: every prefix of a response is refused, and so are bytes behind it") {
  const Town town;
  auto der = ocsp_response(town.end, town.authority, town.authority);
  for (std::size_t size = 0; size < der.size(); ++size) {
    CHECK_FALSE(OcspResponse::from_der(Bytes(der).first(size)));
  }
  der.push_back(0);
  CHECK_FALSE(OcspResponse::from_der(der));
  CHECK_FALSE(OcspResponse::from_der(std::vector<std::uint8_t>(kMaxOcspBytes + 1, 0x30)));
}

TEST_CASE("ocsp: a changed octet never makes another status") {
  const Town town;
  const auto der =
      ocsp_response(town.end, town.authority, town.authority, saying(V_OCSP_CERTSTATUS_REVOKED));
  for (std::size_t index = 0; index < der.size(); ++index) {
    auto changed = der;
    changed[index] ^= 0x01;
    const auto response = OcspResponse::from_der(changed);
    if (!response) continue;
    const auto status = response->status_of(town.end.certificate(), town.authority.certificate(),
                                            {kNow, std::chrono::seconds(0)});
    CHECK((!status || status->revoked));
  }
}

TEST_CASE("ocsp: a request names the certificate, and the name is its own") {
  const Town town;
  const auto authority = town.authority.certificate();
  const auto request = ocsp_request(town.end.certificate(), authority);
  REQUIRE(request);
  const std::string name = ocsp_name(town.end.certificate(), authority);
  CHECK(std::string(request->begin(), request->end()).find(name) != std::string::npos);
  CHECK(name != ocsp_name(town.other.certificate(), authority));
}

TEST_CASE("ocsp: the responder's address stands in the certificate, if it is http") {
  const Town town;
  CHECK(ocsp_responders(town.end.certificate()).empty());
  culvert::test::CertificateOptions options;
  options.authority_information =
      "OCSP;URI:http://ocsp.example.org/,OCSP;URI:ldap://x/,caIssuers;URI:http://ca.example.org/";
  CHECK(ocsp_responders(town.authority.issue(options).certificate()) ==
        std::vector<std::string>{"http://ocsp.example.org/"});
}

TEST_CASE("path: a status vouches where no list does, and revokes against any list") {
  const Town town;
  TrustStore store;
  store.add_authority(town.authority.certificate());
  StatusAnswer answer{StatusAnswer::Word::good, ""};
  bool needed = false;
  ValidationRules rules{kNow, RevocationPolicy::strict, true, {}, {}};
  rules.status = [&](const Certificate& one, const Certificate& issuer, bool asked) {
    CHECK(one == town.end.certificate());
    CHECK(issuer == town.authority.certificate());
    needed = asked;
    return answer;
  };
  const auto validate = [&] { return store.validate(town.end.certificate(), {}, rules); };
  SECTION("good") {
    const auto path = validate();
    REQUIRE(path);
    CHECK(path->notes.empty());
    CHECK(needed);
  }
  SECTION("revoked, although a list knows nothing of it") {
    store.add_revocation_list(town.authority.revocation_list({}));
    answer = {StatusAnswer::Word::revoked, "the responder says so"};
    const auto path = validate();
    REQUIRE_FALSE(path);
    CHECK(path.error().reason == RejectionReason::revoked);
    CHECK_FALSE(needed);
  }
  SECTION("good does not undo what a list revokes") {
    store.add_revocation_list(town.authority.revocation_list({town.end}));
    CHECK(validate().error().reason == RejectionReason::revoked);
  }
  SECTION("unusable or unreachable: strict refuses and says why, if-available notes it") {
    answer = {StatusAnswer::Word::unusable, "the response is a poem"};
    CHECK(validate().error().reason == RejectionReason::status_unusable);
    answer = {StatusAnswer::Word::unreachable, "nobody is there"};
    CHECK(validate().error().reason == RejectionReason::status_unreachable);
    CHECK_THAT(validate().error().what, Catch::Contains("nobody is there"));
    rules.revocation = RevocationPolicy::if_available;
    const auto path = validate();
    REQUIRE(path);
    REQUIRE(path->notes.size() == 1);
    CHECK_THAT(path->notes.front(), Catch::Contains("nobody is there"));
  }
  SECTION("off asks nobody") {
    rules.revocation = RevocationPolicy::off;
    answer = {StatusAnswer::Word::revoked, "the responder says so"};
    CHECK(validate());
  }
}

TEST_CASE("path: an expired list counts for its time of grace") {
  const Town town;
  TrustStore store;
  store.add_authority(town.authority.certificate());
  store.add_revocation_list(town.authority.revocation_list({town.other}, kNow - 60));
  ValidationRules rules{kNow, RevocationPolicy::strict, true, std::chrono::seconds(60), {}};
  CHECK(store.validate(town.end.certificate(), {}, rules));
  CHECK(store.validate(town.other.certificate(), {}, rules).error().reason ==
        RejectionReason::revoked);
  rules.grace = std::chrono::seconds(59);
  CHECK(store.validate(town.end.certificate(), {}, rules).error().reason ==
        RejectionReason::revocation_unknown);
}

}  // namespace culvert::crypto::pki
