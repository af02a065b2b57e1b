#include "crypto/pki/trust_store.hpp"

#include <catch2/catch.hpp>

#include "crypto/pki/distinguished_name.hpp"
#include "tests/unit/authority.hpp"

namespace culvert::crypto::pki {
namespace {

using namespace std::string_view_literals;

using culvert::test::CertificateOptions;
using culvert::test::Issued;
using culvert::test::KeyKind;
using culvert::test::kNow;
using culvert::test::kYear;

ValidationRules rules(RevocationPolicy revocation = RevocationPolicy::off) {
  return {kNow, revocation, true};
}
TrustStore trusting(const Issued& authority) {
  TrustStore store;
  store.add_authority(authority.certificate());
  return store;
}
Rejection rejected(const std::expected<ValidPath, Rejection>& result) {
  REQUIRE_FALSE(result);
  return result.error();
}
Bytes bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

TEST_CASE("path: an end entity of our authority is accepted") {
  const Issued authority = Issued::authority();
  const auto path = trusting(authority).validate(authority.issue({}).certificate(), {}, rules());
  REQUIRE(path);
  CHECK(path->certificates.size() == 2);
  CHECK(path->notes.empty());
}

TEST_CASE("path: an intermediate that the peer or the configuration has closes the gap") {
  const Issued authority = Issued::authority();
  CertificateOptions options;
  options.name = "Intermediate";
  options.authority = true;
  options.alternative_names.clear();
  const Issued intermediate = authority.issue(options);
  const Certificate end = intermediate.issue({}).certificate();
  TrustStore store = trusting(authority);

  const Rejection rejection = rejected(store.validate(end, {}, rules()));
  CHECK(rejection.reason == RejectionReason::untrusted);
  CHECK_THAT(rejection.what, Catch::Contains("Intermediate") && Catch::Contains("Test CA"));

  const std::vector<Certificate> sent{intermediate.certificate()};
  CHECK(store.validate(end, sent, rules()));
  store.add_intermediate(intermediate.certificate());
  CHECK(store.validate(end, {}, rules()));
}

TEST_CASE("path: an authority of the same name with another key is a stranger") {
  const Issued ours = Issued::authority(), theirs = Issued::authority();
  const auto rejection =
      rejected(trusting(ours).validate(theirs.issue({}).certificate(), {}, rules()));
  CHECK(rejection.reason == RejectionReason::untrusted);
  // also when it comes along itself
  const std::vector<Certificate> sent{theirs.certificate()};
  CHECK_FALSE(trusting(ours).validate(theirs.issue({}).certificate(), sent, rules()));
}

TEST_CASE("path: an end entity cannot issue (RFC 5280 §4.2.1.9)") {
  const Issued authority = Issued::authority();
  const Issued end = authority.issue({});
  const std::vector<Certificate> sent{end.certificate()};
  CHECK_FALSE(trusting(authority).validate(end.issue({}).certificate(), sent, rules()));
}

TEST_CASE("path: expired and not yet valid, with the dates") {
  const Issued authority = Issued::authority();
  CertificateOptions options;
  options.not_after = kNow - 1;
  auto rejection =
      rejected(trusting(authority).validate(authority.issue(options).certificate(), {}, rules()));
  CHECK(rejection.reason == RejectionReason::not_valid_now);
  CHECK_THAT(rejection.what, Catch::Contains("has expired") && Catch::Contains("2029-12-31") &&
                                 Catch::Contains("now is 2030-01-01"));
  options.not_after = kNow + kYear;
  options.not_before = kNow + 60;
  rejection =
      rejected(trusting(authority).validate(authority.issue(options).certificate(), {}, rules()));
  CHECK(rejection.reason == RejectionReason::not_valid_now);
  CHECK_THAT(rejection.what, Catch::Contains("not valid yet"));
}

TEST_CASE("path: weak keys and signatures are refused (RFC 8247)") {
  const Issued authority = Issued::authority();
  CertificateOptions options;
  options.key = KeyKind::rsa1024;
  CHECK_FALSE(trusting(authority).validate(authority.issue(options).certificate(), {}, rules()));
  options.key = KeyKind::brainpool;
  CHECK(rejected(trusting(authority).validate(authority.issue(options).certificate(), {}, rules()))
            .reason == RejectionReason::unsuitable);
  options.key = KeyKind::p256;
  options.digest = EVP_sha1();
  CHECK_FALSE(trusting(authority).validate(authority.issue(options).certificate(), {}, rules()));
}

TEST_CASE("path: keyUsage must allow signatures (RFC 4945 §5.1.3.2)") {
  const Issued authority = Issued::authority();
  CertificateOptions options;
  options.key_usage = "keyEncipherment";
  const auto rejection =
      rejected(trusting(authority).validate(authority.issue(options).certificate(), {}, rules()));
  CHECK(rejection.reason == RejectionReason::unsuitable);
  CHECK_THAT(rejection.what, Catch::Contains("digitalSignature"));
  options.key_usage = "nonRepudiation";
  CHECK(trusting(authority).validate(authority.issue(options).certificate(), {}, rules()));
}

TEST_CASE("path: extendedKeyUsage must have ipsecIKE or any (RFC 4945 §5.1.3.12)") {
  const Issued authority = Issued::authority();
  CertificateOptions options;
  options.extended_key_usage = "serverAuth,clientAuth";
  const Certificate server = authority.issue(options).certificate();
  CHECK_THAT(rejected(trusting(authority).validate(server, {}, rules())).what,
             Catch::Contains("ipsecIKE"));
  CHECK(trusting(authority).validate(server, {}, {kNow, RevocationPolicy::off, false}));
  options.extended_key_usage = "1.3.6.1.5.5.7.3.17";
  CHECK(trusting(authority).validate(authority.issue(options).certificate(), {}, rules()));
  options.extended_key_usage = "codeSigning,anyExtendedKeyUsage";
  CHECK(trusting(authority).validate(authority.issue(options).certificate(), {}, rules()));
}

TEST_CASE("path: name constraints of the authority bind (RFC 5280 §4.2.1.10)") {
  CertificateOptions options;
  options.name = "Constrained CA";
  options.alternative_names.clear();
  options.authority = true;
  options.name_constraints = "critical,permitted;DNS:example.net";
  const Issued root = Issued::authority();
  const Issued constrained = root.issue(options);
  const std::vector<Certificate> sent{constrained.certificate()};
  const auto rejection =
      rejected(trusting(root).validate(constrained.issue({}).certificate(), sent, rules()));
  CHECK(rejection.reason == RejectionReason::unsuitable);
  CertificateOptions inside;
  inside.name = "hq.example.net";
  inside.alternative_names = "DNS:hq.example.net";
  CHECK(trusting(root).validate(constrained.issue(inside).certificate(), sent, rules()));
}

TEST_CASE("revocation: revoked is refused under every policy that asks") {
  const Issued authority = Issued::authority();
  const Issued good = authority.issue({}), bad = authority.issue({});
  TrustStore store = trusting(authority);
  store.add_revocation_list(authority.revocation_list({bad}));
  for (const auto policy : {RevocationPolicy::strict, RevocationPolicy::if_available}) {
    CHECK(rejected(store.validate(bad.certificate(), {}, rules(policy))).reason ==
          RejectionReason::revoked);
    const auto path = store.validate(good.certificate(), {}, rules(policy));
    REQUIRE(path);
    CHECK(path->notes.empty());
  }
  CHECK(store.validate(bad.certificate(), {}, rules(RevocationPolicy::off)));
}

TEST_CASE("revocation: without a list strict refuses, if-available says so") {
  const Issued authority = Issued::authority(), other = Issued::authority("Other CA");
  const Certificate end = authority.issue({}).certificate();
  TrustStore store = trusting(authority);
  CHECK(rejected(store.validate(end, {}, rules(RevocationPolicy::strict))).reason ==
        RejectionReason::revocation_unknown);
  auto path = store.validate(end, {}, rules(RevocationPolicy::if_available));
  REQUIRE(path);
  CHECK(path->notes.size() == 1);
  // another authority's list changes nothing
  store.add_revocation_list(other.revocation_list({}));
  path = store.validate(end, {}, rules(RevocationPolicy::if_available));
  REQUIRE(path);
  CHECK(path->notes.size() == 1);
  CHECK_FALSE(store.validate(end, {}, rules(RevocationPolicy::strict)));
}

TEST_CASE("revocation: an expired list still revokes, but no longer vouches") {
  const Issued authority = Issued::authority();
  const Issued good = authority.issue({}), bad = authority.issue({});
  TrustStore store = trusting(authority);
  store.add_revocation_list(authority.revocation_list({bad}, kNow - 60));
  CHECK(rejected(store.validate(bad.certificate(), {}, rules(RevocationPolicy::if_available)))
            .reason == RejectionReason::revoked);
  const auto path = store.validate(good.certificate(), {}, rules(RevocationPolicy::if_available));
  REQUIRE(path);
  REQUIRE(path->notes.size() == 1);
  CHECK_THAT(path->notes.front(), Catch::Contains("has expired"));
  const auto rejection =
      rejected(store.validate(good.certificate(), {}, rules(RevocationPolicy::strict)));
  CHECK(rejection.reason == RejectionReason::revocation_unknown);
}

TEST_CASE("revocation: a list that another key signed in the issuer's name does not count") {
  const Issued authority = Issued::authority(), impostor = Issued::authority();
  const Issued end = authority.issue({});
  TrustStore store = trusting(authority);
  store.add_revocation_list(impostor.revocation_list({end}));
  CHECK(store.validate(end.certificate(), {}, rules(RevocationPolicy::if_available)));
  CHECK_FALSE(store.validate(end.certificate(), {}, rules(RevocationPolicy::strict)));
}

TEST_CASE("revocation: strict asks for each authority below the anchor") {
  const Issued root = Issued::authority();
  CertificateOptions options;
  options.name = "Intermediate";
  options.alternative_names.clear();
  options.authority = true;
  const Issued intermediate = root.issue(options);
  const Issued end = intermediate.issue({});
  const std::vector<Certificate> sent{intermediate.certificate()};
  TrustStore store = trusting(root);
  store.add_revocation_list(intermediate.revocation_list({}));
  CHECK_FALSE(store.validate(end.certificate(), sent, rules(RevocationPolicy::strict)));
  store.add_revocation_list(root.revocation_list({}));
  CHECK(store.validate(end.certificate(), sent, rules(RevocationPolicy::strict)));
  TrustStore other = trusting(root);
  other.add_revocation_list(intermediate.revocation_list({}));
  other.add_revocation_list(root.revocation_list({intermediate}));
  CHECK(rejected(other.validate(end.certificate(), sent, rules(RevocationPolicy::if_available)))
            .reason == RejectionReason::revoked);
}

TEST_CASE("certificate: names match by their type, never by wildcard, never by common name") {
  CertificateOptions options;
  options.name = "hq.example.com";
  options.alternative_names =
      "DNS:HQ.example.org,DNS:*.example.org,email:Ops@Example.org,IP:192.0.2.1,IP:2001:db8::1";
  const Certificate certificate = Issued::authority().issue(options).certificate();
  CHECK(certificate.has_name(NameType::dns, bytes("hq.EXAMPLE.org")));
  CHECK_FALSE(certificate.has_name(NameType::dns, bytes("branch.example.org")));
  CHECK_FALSE(certificate.has_name(NameType::dns, bytes("hq.example.com")));
  CHECK_FALSE(certificate.has_name(NameType::dns, bytes("hq.example.org\0.evil.org"sv)));
  CHECK_FALSE(certificate.has_name(NameType::dns, {}));
  CHECK(certificate.has_name(NameType::email, bytes("Ops@example.ORG")));
  CHECK_FALSE(certificate.has_name(NameType::email, bytes("ops@example.org")));
  const std::vector<std::uint8_t> address{192, 0, 2, 1};
  CHECK(certificate.has_name(NameType::ip_address, address));
  CHECK_FALSE(certificate.has_name(NameType::dns, address));
  CHECK_THAT(certificate.names_text(),
             Catch::Contains("192.0.2.1") && Catch::Contains("2001:db8::1"));
}

TEST_CASE("certificate: a distinguished name matches whatever its string types and case are") {
  const Certificate certificate = Issued::authority().issue({}).certificate();
  const auto same = parse_distinguished_name("o=culvert, CN=HQ.example.org");
  REQUIRE(same);
  CHECK(certificate.has_name(NameType::distinguished_name, *same));
  CHECK_FALSE(certificate.has_name(NameType::distinguished_name,
                                   *parse_distinguished_name("CN=hq.example.org, O=Culvert")));
  CHECK_FALSE(parse_distinguished_name("CN="));
  CHECK_FALSE(parse_distinguished_name("nothing"));
  CHECK_FALSE(parse_distinguished_name("XYZZY=1"));
  CHECK(distinguished_name_text(bytes("junk")) == "(malformed name)");
}

TEST_CASE("certificate: every prefix of one is refused, and so are bytes behind it") {
  auto der = Issued::authority().issue({}).certificate().der();
  for (std::size_t length = 0; length < der.size(); ++length) {
    INFO(length);
    CHECK_FALSE(Certificate::from_der(Bytes(der).first(length)));
  }
  der.push_back(0);
  CHECK_FALSE(Certificate::from_der(der));
}

TEST_CASE("certificate: a file with several, with other PEM blocks between, or none") {
  const Issued authority = Issued::authority();
  const Issued end = authority.issue({});
  const auto key = culvert::test::to_pem(end.key());
  const std::string text = end.pem() + std::string(key.begin(), key.end()) + authority.pem();
  const auto parsed = parse_certificates(bytes(text));
  REQUIRE(parsed);
  REQUIRE(parsed->size() == 2);
  CHECK(parsed->front() == end.certificate());
  CHECK_FALSE(parse_certificates(bytes("certificate")));
  CHECK_FALSE(parse_certificates({}));
  CHECK(parse_certificates(end.certificate().der())->size() == 1);
}

}  // namespace culvert::crypto::pki
