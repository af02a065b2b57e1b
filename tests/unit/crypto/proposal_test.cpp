#include <catch2/catch.hpp>

#include "crypto/suite.hpp"

using namespace culvert::crypto;

namespace {

struct Refusal {
  std::string_view text;
  std::string_view word;
  std::size_t offset;
  std::string_view problem;   // part of it
  std::string_view expected;  // part of it
};

void check_refusal(const std::expected<Proposal, ProposalError>& result, const Refusal& wanted) {
  INFO("proposal '" << wanted.text << "'");
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().word == wanted.word);
  CHECK(result.error().offset == wanted.offset);
  CHECK_THAT(result.error().problem, Catch::Contains(std::string(wanted.problem)));
  CHECK_THAT(result.error().expected, Catch::Contains(std::string(wanted.expected)));
}

using Cipher = Proposal::Cipher;

Proposal ike_proposal(std::string_view text) {
  const auto proposal = parse_ike_proposal(text);
  REQUIRE(proposal.has_value());
  return *proposal;
}

Proposal esp_proposal(std::string_view text) {
  const auto proposal = parse_esp_proposal(text);
  REQUIRE(proposal.has_value());
  return *proposal;
}

}  // namespace

TEST_CASE("proposal: an IKE proposal keeps its alternatives in the order written", "[proposal]") {
  const auto aead = parse_ike_proposal("aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp384-x25519");
  REQUIRE(aead.has_value());
  CHECK(aead->encryption ==
        std::vector{Cipher{Encryption::aes_gcm_16, 256}, Cipher{Encryption::aes_gcm_16, 128}});
  CHECK(aead->integrity.empty());
  CHECK(aead->prf == std::vector{Prf::hmac_sha2_384, Prf::hmac_sha2_256});
  CHECK(aead->groups == std::vector{Group::ecp384, Group::x25519});
}

TEST_CASE("proposal: integrity words bring their PRF when none is written", "[proposal]") {
  const auto implied = parse_ike_proposal("aes128-aes256-sha256-sha512-modp2048");
  REQUIRE(implied.has_value());
  CHECK(implied->integrity ==
        std::vector{Integrity::hmac_sha2_256_128, Integrity::hmac_sha2_512_256});
  CHECK(implied->prf == std::vector{Prf::hmac_sha2_256, Prf::hmac_sha2_512});
  const auto written = parse_ike_proposal("aes128-sha256-prfsha384-modp2048");
  REQUIRE(written.has_value());
  CHECK(written->prf == std::vector{Prf::hmac_sha2_384});
}

TEST_CASE("proposal: ESP offers both kinds of sequence numbers unless one is named", "[proposal]") {
  const auto both = parse_esp_proposal("aes256gcm16-ecp384");
  REQUIRE(both.has_value());
  CHECK((both->esn && both->no_esn));
  CHECK(both->groups == std::vector{Group::ecp384});
  CHECK(both->prf.empty());
  const auto esn = parse_esp_proposal("aes128gcm16-esn");
  REQUIRE(esn.has_value());
  CHECK((esn->esn && !esn->no_esn));
  const auto noesn = parse_esp_proposal("aes128gcm16-noesn");
  REQUIRE(noesn.has_value());
  CHECK((!noesn->esn && noesn->no_esn));
  CHECK(esp_proposal("aes128gcm16-esn-noesn") == esp_proposal("aes128gcm16"));
}

TEST_CASE("proposal: other spellings mean the same", "[proposal]") {
  CHECK(esp_proposal("aes256gcm128-curve25519") == esp_proposal("aes256gcm16-x25519"));
  CHECK(ike_proposal("aes-sha2_256-modp3072") == ike_proposal("aes128-sha256-modp3072"));
}

TEST_CASE("proposal: what is printed reads back as the same proposal", "[proposal]") {
  for (const char* text :
       {"aes256gcm16-prfsha384-ecp384", "aes128-aes256-sha256-modp2048",
        "aes128-sha256-prfsha512-x25519", "aes192gcm16-prfsha512-modp4096-ecp521",
        "aes128-sha256-sha384-prfsha384-ecp256"}) {
    const auto proposal = parse_ike_proposal(text);
    INFO(text);
    REQUIRE(proposal.has_value());
    CHECK(proposal->to_string() == text);
  }
  for (const char* text :
       {"aes256gcm16", "aes128gcm16-aes256gcm16-x25519-esn", "aes192gcm16-modp3072-noesn"}) {
    const auto proposal = parse_esp_proposal(text);
    INFO(text);
    REQUIRE(proposal.has_value());
    CHECK(proposal->to_string() == text);
  }
}

TEST_CASE("proposal: every suite of the table can be written", "[proposal]") {
  for (const GroupInfo& group : groups()) {
    CHECK(parse_esp_proposal("aes128gcm16-" + std::string(group.name)).has_value());
    for (const PrfInfo& prf : prfs()) {
      CHECK(
          parse_ike_proposal("aes128gcm16-" + std::string(prf.name) + "-" + std::string(group.name))
              .has_value());
    }
  }
}

TEST_CASE("proposal: weak algorithms are refused with the RFC that says so", "[proposal]") {
  const Refusal refusals[] = {
      {"des-sha256-modp2048", "des", 0, "RFC 8247", "aes256gcm16"},
      {"3des-sha256-modp2048", "3des", 0, "RFC 8221", "aes256gcm16"},
      {"blowfish128-sha256-modp2048", "blowfish128", 0, "RFC 8221", "aes256gcm16"},
      {"cast128-sha256-modp2048", "cast128", 0, "RFC 9395", "aes256gcm16"},
      {"null-sha256-modp2048", "null", 0, "RFC 8221", "aes256gcm16"},
      {"aes128gcm8-prfsha256-modp2048", "aes128gcm8", 0, "RFC 8221", "aes128gcm16"},
      {"aes256gcm12-prfsha256-modp2048", "aes256gcm12", 0, "RFC 8221", "aes256gcm16"},
      {"aes128-md5-modp2048", "md5", 7, "RFC 8247", "sha256"},
      {"aes128-sha1-modp2048", "sha1", 7, "RFC 8247", "sha256"},
      {"aes128-sha-modp2048", "sha", 7, "RFC 8247", "sha256"},
      {"aes128gcm16-prfmd5-modp2048", "prfmd5", 12, "RFC 8247", "prfsha256"},
      {"aes128gcm16-prfsha1-modp2048", "prfsha1", 12, "RFC 8247", "prfsha256"},
      {"aes128-sha256-modp768", "modp768", 14, "RFC 8247", "modp2048"},
      {"aes128-sha256-modp1024", "modp1024", 14, "RFC 8247", "modp2048"},
      {"aes128-sha256-modp1536", "modp1536", 14, "RFC 8247", "modp2048"},
      {"aes128-sha256-modp1024s160", "modp1024s160", 14, "RFC 8247", "modp2048"},
      {"aes128-sha256-modp2048s224", "modp2048s224", 14, "RFC 8247", "modp2048"},
      {"aes128-sha256-modp2048s256", "modp2048s256", 14, "RFC 8247", "modp2048"},
  };
  for (const Refusal& refusal : refusals) {
    check_refusal(parse_ike_proposal(refusal.text), refusal);
    // ESP has NULL, SHA-1 for old peers, and no PRF, weak or not.
    const std::string_view word = refusal.word;
    if (word == "null" || word.starts_with("sha") || word.starts_with("prf")) continue;
    check_refusal(parse_esp_proposal(refusal.text), refusal);
  }
  check_refusal(parse_esp_proposal("aes128gcm16-modp1024"),
                {"aes128gcm16-modp1024", "modp1024", 12, "RFC 8247", "modp2048"});
}

TEST_CASE("proposal: contradictions of an IKE proposal name the word", "[proposal]") {
  const Refusal refusals[] = {
      {"", "", 0, "empty word", "algorithms"},
      {"-", "", 0, "empty word", "algorithms"},
      {"aes128gcm16-", "", 12, "empty word", "algorithms"},
      {"aes128gcm16--x25519", "", 12, "empty word", "algorithms"},
      {"aes128gcm16-prfsha256-x449", "x449", 22, "unknown algorithm", "ecp384"},
      {"AES128GCM16-prfsha256-x25519", "AES128GCM16", 0, "unknown algorithm", "aes256gcm16"},
      {"aes512gcm16-prfsha256-x25519", "aes512gcm16", 0, "unknown algorithm", "aes256gcm16"},
      {"aes128gcm16 -prfsha256-x25519", "aes128gcm16 ", 0, "unknown algorithm", "aes256gcm16"},
      {"sha256-modp2048", "sha256-modp2048", 0, "no cipher", "aes128gcm16"},
      {"aes128-modp2048", "aes128-modp2048", 0, "no integrity", "sha256"},
      {"aes128gcm16-x25519", "aes128gcm16-x25519", 0, "no PRF", "prfsha256"},
      {"aes128gcm16-prfsha256", "aes128gcm16-prfsha256", 0, "no key exchange group", "ecp384"},
      {"aes128gcm16-sha256-x25519", "sha256", 12, "mixes AEAD", "prfsha256"},
      {"aes128gcm16-aes128-sha256-x25519", "aes128", 12, "mixes AEAD", "two proposals"},
      {"aes128-aes128gcm16-sha256-x25519", "aes128gcm16", 7, "mixes AEAD", "two proposals"},
      {"aes128gcm16-aes128gcm16-prfsha256-x25519", "aes128gcm16", 12, "twice", "once"},
      {"aes128gcm16-prfsha256-x25519-curve25519", "curve25519", 29, "twice", "once"},
      {"aes128gcm16-prfsha256-x25519-esn", "esn", 29, "belong to ESP", "esp_proposals"},
  };
  for (const Refusal& refusal : refusals) check_refusal(parse_ike_proposal(refusal.text), refusal);
}

TEST_CASE("proposal: ESP takes every suite of RFC 8221, as it is printed", "[proposal]") {
  for (const EncryptionInfo& cipher : encryptions()) {
    for (const std::uint16_t bits : cipher.key_bits) {
      std::vector<Integrity> choices{Integrity::none};
      if (!cipher.aead) {
        choices.clear();
        for (const IntegrityInfo& row : integrities()) choices.push_back(row.id);
      }
      for (const Integrity integrity : choices) {
        const EspSuite suite{cipher.id, bits, integrity};
        const Proposal proposal = esp_proposal(suite.name());
        INFO(suite.name());
        CHECK(proposal.encryption == std::vector{Cipher{cipher.id, bits}});
        CHECK(proposal.integrity ==
              (cipher.aead ? std::vector<Integrity>{} : std::vector<Integrity>{integrity}));
        CHECK(proposal.to_string() == suite.name());
      }
    }
  }
  CHECK(esp_proposal("aes128ccm128") == esp_proposal("aes128ccm16"));
  CHECK(esp_proposal("aes256ccm64") == esp_proposal("aes256ccm8"));
  CHECK(esp_proposal("aes128-sha") == esp_proposal("aes128-sha1"));
}

TEST_CASE("proposal: an IKE SA is not offered what only ESP runs", "[proposal]") {
  const Refusal refusals[] = {
      {"aes128ccm16-prfsha256-x25519", "aes128ccm16", 0, "not available for the IKE SA",
       "aes256gcm16"},
      {"aes128gmac-prfsha256-x25519", "aes128gmac", 0, "not available for the IKE SA",
       "aes256gcm16"},
      {"aes128ctr-sha256-x25519", "aes128ctr", 0, "not available for the IKE SA", "aes256gcm16"},
  };
  for (const Refusal& refusal : refusals) check_refusal(parse_ike_proposal(refusal.text), refusal);
}

TEST_CASE("proposal: ESP refuses what its engines do not run and what belongs to IKE",
          "[proposal]") {
  const Refusal refusals[] = {
      {"aes128", "aes128", 0, "forbids encryption without", "sha256"},
      {"null", "null", 0, "forbids encryption without", "sha256"},
      {"aes128ctr-x25519", "aes128ctr-x25519", 0, "forbids encryption without", "sha256"},
      {"aes256gcm16-aes256-sha256", "aes256", 12, "mixes AEAD", "two proposals"},
      {"aes128gmac-sha256", "sha256", 11, "mixes AEAD", "carries its own integrity"},
      {"aes192ccm16", "aes192ccm16", 0, "unknown algorithm", "aes256gcm16"},
      {"aes128gcm16-sha256", "sha256", 12, "mixes AEAD", "carries its own integrity"},
      {"aes128gcm16-prfsha256", "prfsha256", 12, "belongs to the IKE SA", "proposals"},
      {"x25519", "x25519", 0, "no cipher", "aes128gcm16"},
      {"esn", "esn", 0, "no cipher", "aes128gcm16"},
      {"aes128gcm16-esn-esn", "esn", 16, "twice", "once"},
      {"", "", 0, "empty word", "algorithms"},
      {"chacha20", "chacha20", 0, "unknown algorithm", "chacha20poly1305"},
  };
  for (const Refusal& refusal : refusals) check_refusal(parse_esp_proposal(refusal.text), refusal);
}

TEST_CASE("proposal: every prefix of a proposal is either read or refused inside its text",
          "[proposal]") {
  const std::string whole = "aes256gcm16-aes128gcm16-prfsha384-ecp384-modp2048-x25519";
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    for (const auto& result : {parse_ike_proposal(whole.substr(0, length)),
                               parse_esp_proposal(whole.substr(0, length))}) {
      if (result.has_value()) continue;
      INFO("prefix of " << length << " bytes");
      CHECK(result.error().offset + result.error().word.size() <= length);
      CHECK_FALSE(result.error().problem.empty());
      CHECK_FALSE(result.error().expected.empty());
    }
  }
}
