#include <catch2/catch.hpp>

#include "ike/identity/revocation_fetches.hpp"
#include "tests/unit/ocsp_responder.hpp"

namespace culvert::ike {
namespace {

using crypto::pki::RevocationPolicy;
using crypto::pki::StatusAnswer;
using test::Issued;
using test::kNow;
using test::kYear;

constexpr const char* kList = "http://pki.example.org/ca.crl";
constexpr const char* kResponder = "http://ocsp.example.org/";

config::Pki fetching() {
  config::Pki rules;
  rules.revocation = RevocationPolicy::strict;
  rules.ocsp = config::Ocsp::fetch;
  rules.crls = {kList, "ca.crl"};
  return rules;
}

struct Office {
  Office() { trust.add_authority(authority.certificate()); }
  Issued issue(const std::string& responder = kResponder) {
    test::CertificateOptions options;
    if (!responder.empty()) options.authority_information = "OCSP;URI:" + responder;
    return authority.issue(options);
  }
  RevocationFetches::Asked ask(const Issued& issued) {
    return fetches.ask(issued.certificate(), authority.certificate(), now);
  }
  RevocationFetches::Outcome finish(std::uint64_t id, const RevocationFetches::Result& result) {
    return fetches.finished(id, result, now, cache, trust);
  }
  std::vector<std::uint8_t> good(const Issued& issued, std::int64_t until = kNow + 7200) {
    test::OcspOptions options;
    options.this_update = now - 60;
    options.next_update = until;
    return test::ocsp_response(issued, authority, authority, options);
  }
  std::int64_t now = kNow;
  Issued authority = Issued::authority();
  crypto::pki::TrustStore trust;
  StatusCache cache;
  RevocationFetches fetches{fetching()};
};

}  // namespace

TEST_CASE("fetches: a list is fetched at once, and again half way to its next update") {
  Office office;
  office.fetches.tick(kNow);
  const auto due = office.fetches.due();
  REQUIRE(due.size() == 1);
  CHECK(due[0].list);
  CHECK(due[0].url == kList);
  CHECK(due[0].body.empty());
  CHECK(office.fetches.first_missing_list().awaits == kList);

  const auto list = office.authority.revocation_list({}, kNow + 4000).der();
  const auto outcome = office.finish(due[0].id, list);
  CHECK((outcome.ok && outcome.list && outcome.news && outcome.revokes));
  CHECK(office.fetches.lists().size() == 1);
  CHECK(office.fetches.first_missing_list().awaits.empty());
  CHECK(office.fetches.counters().lists_ok == 1);

  office.fetches.tick(kNow + 1999);
  CHECK(office.fetches.due().empty());
  office.fetches.tick(kNow + 2000);
  CHECK(office.fetches.due().size() == 1);
}

TEST_CASE("fetches: a list that nobody of ours signed takes no other's place") {
  Office office;
  office.fetches.tick(kNow);
  const auto first = office.fetches.due();
  REQUIRE(office.finish(first[0].id, office.authority.revocation_list({}, kNow + 4000).der()).ok);
  office.now = kNow + 2000;
  office.fetches.tick(office.now);
  const auto again = office.fetches.due();
  const auto outcome =
      office.finish(again[0].id, Issued::authority().revocation_list({}, kNow + kYear).der());
  CHECK_FALSE(outcome.ok);
  CHECK_THAT(outcome.what, Catch::Contains("is not signed by an authority"));
  CHECK(office.fetches.lists().size() == 1);
  CHECK(office.fetches.lists()[0].next_update() == kNow + 4000);
}

TEST_CASE("fetches: a list that did not come is told once, and tried again in a minute") {
  Office office;
  for (const bool news : {true, false}) {
    office.fetches.tick(office.now);
    const auto due = office.fetches.due();
    REQUIRE(due.size() == 1);
    const auto outcome = office.finish(due[0].id, std::unexpected("Connection refused"));
    CHECK(outcome.news == news);
    const auto missing = office.fetches.first_missing_list();
    CHECK(missing.answer.word == StatusAnswer::Word::unreachable);
    CHECK_THAT(missing.answer.what, Catch::Contains(kList) && Catch::Contains("refused"));
    office.fetches.tick(office.now + RevocationFetches::kRetrySeconds - 1);
    CHECK(office.fetches.due().empty());
    office.now += RevocationFetches::kRetrySeconds;
  }
  CHECK(office.fetches.counters().lists_failed == 2);
  CHECK_THAT(office.fetches.list_states()[0].problem, Catch::Contains("refused"));
}

TEST_CASE("fetches: a status is asked of the responder that the certificate names") {
  Office office;
  const Issued end = office.issue();
  const auto asked = office.ask(end);
  CHECK_FALSE(asked.awaits.empty());
  const auto due = office.fetches.due();
  REQUIRE(due.size() == 1);
  CHECK_FALSE(due[0].list);
  CHECK(due[0].url == kResponder);
  CHECK(due[0].body ==
        *crypto::pki::ocsp_request(end.certificate(), office.authority.certificate()));
  CHECK(office.ask(end).awaits == asked.awaits);
  CHECK(office.fetches.due().empty());

  const auto outcome = office.finish(due[0].id, office.good(end));
  CHECK(outcome.ok);
  CHECK(outcome.name == asked.awaits);
  CHECK_FALSE(outcome.revokes);
  CHECK(office.cache.status_of(end.certificate(), office.authority.certificate(), kNow).word ==
        StatusAnswer::Word::good);
  CHECK(office.ask(end).next_at == kNow + 3600);
  office.now = kNow + 3600;
  CHECK_FALSE(office.ask(end).awaits.empty());
}

TEST_CASE("fetches: a certificate that names no responder cannot be asked about") {
  Office office;
  const Issued end = office.issue("");
  CHECK(office.ask(end).awaits.empty());
  CHECK(office.fetches.due().empty());
  SECTION("unless the configuration names one") {
    config::Pki rules = fetching();
    rules.ocsp_responder = "http://192.0.2.1/";
    office.fetches = RevocationFetches(rules);
    CHECK_FALSE(office.ask(end).awaits.empty());
    CHECK(office.fetches.due()[0].url == "http://192.0.2.1/");
  }
}

TEST_CASE("fetches: what a responder says that does not count is named") {
  Office office;
  const Issued end = office.issue();
  (void)office.ask(end);
  SECTION("nobody there") {
    (void)office.finish(office.fetches.due()[0].id, std::unexpected("Connection refused"));
    const auto asked = office.ask(end);
    CHECK(asked.answer.word == StatusAnswer::Word::unreachable);
    CHECK_THAT(asked.answer.what, Catch::Contains(kResponder) && Catch::Contains("refused"));
  }
  SECTION("about another certificate") {
    (void)office.finish(office.fetches.due()[0].id, office.good(office.issue()));
    const auto asked = office.ask(end);
    CHECK(asked.answer.word == StatusAnswer::Word::unusable);
    CHECK_THAT(asked.answer.what, Catch::Contains("is for another certificate"));
  }
  SECTION("a web page") {
    (void)office.finish(office.fetches.due()[0].id,
                        std::vector<std::uint8_t>{'<', 'h', 't', 'm', 'l', '>'});
    CHECK_THAT(office.ask(end).answer.what, Catch::Contains("is no OCSP response"));
  }
  CHECK(office.fetches.counters().statuses_failed == 1);
}

TEST_CASE("fetches: at most eight are under way, the others follow") {
  Office office;
  std::vector<Issued> ends;
  for (int i = 0; i < 10; ++i) (void)office.ask(ends.emplace_back(office.issue()));
  const auto first = office.fetches.due();
  CHECK(first.size() == RevocationFetches::kMostAtOnce);
  CHECK(office.fetches.due().empty());
  (void)office.finish(first[0].id, std::unexpected("no"));
  CHECK(office.fetches.due().size() == 1);
}

TEST_CASE("fetches: an answer that nobody asked for changes nothing") {
  Office office;
  CHECK(office.finish(99, std::unexpected("no")).name.empty());
}

TEST_CASE("fetches: another configuration keeps what was fetched") {
  Office office;
  office.fetches.tick(kNow);
  const auto due = office.fetches.due();
  (void)office.finish(due[0].id, office.authority.revocation_list({}, kNow + 4000).der());
  RevocationFetches next(fetching());
  next.inherit(office.fetches);
  CHECK(next.lists().size() == 1);
  next.tick(kNow);
  CHECK(next.due().empty());
}

}  // namespace culvert::ike
