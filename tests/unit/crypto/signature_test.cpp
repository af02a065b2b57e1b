#include "crypto/ike/signature.hpp"

#include <map>
#include <tuple>

#include <catch2/catch.hpp>

#include "tests/unit/authority.hpp"

namespace culvert::crypto::ike {
namespace {

using culvert::test::CertificateOptions;
using culvert::test::Issued;
using culvert::test::KeyKind;

constexpr std::array<std::uint16_t, 4> kAllHashes{2, 3, 4, 5};
const std::vector<std::uint8_t> kOctets(333, 0x5a);

const Issued& self_signed(KeyKind kind) {
  static std::map<KeyKind, Issued> all;
  const auto found = all.find(kind);
  return found != all.end() ? found->second
                            : all.emplace(kind, Issued::authority("Self", kind)).first->second;
}

std::vector<std::uint8_t> from_hex(std::string_view text) {
  std::vector<std::uint8_t> bytes;
  int high = -1;
  for (const char c : text) {
    if (c == ' ') continue;
    const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
    if (high < 0) {
      high = digit;
    } else {
      bytes.push_back(static_cast<std::uint8_t>(high * 16 + digit));
      high = -1;
    }
  }
  return bytes;
}

/// The AlgorithmIdentifiers of RFC 7427 Appendix A and RFC 8420 Appendix A.
struct Published {
  SignatureAlgorithm algorithm;
  std::string_view der;
};
const std::vector<Published> kPublished{
    {{SignatureFamily::rsa_pkcs1, SignatureHash::sha2_256, 0}, "300d06092a864886f70d01010b0500"},
    {{SignatureFamily::rsa_pkcs1, SignatureHash::sha2_384, 0}, "300d06092a864886f70d01010c0500"},
    {{SignatureFamily::rsa_pkcs1, SignatureHash::sha2_512, 0}, "300d06092a864886f70d01010d0500"},
    {{SignatureFamily::ecdsa, SignatureHash::sha2_256, 0}, "300a06082a8648ce3d040302"},
    {{SignatureFamily::ecdsa, SignatureHash::sha2_384, 0}, "300a06082a8648ce3d040303"},
    {{SignatureFamily::ecdsa, SignatureHash::sha2_512, 0}, "300a06082a8648ce3d040304"},
    {{SignatureFamily::rsa_pss, SignatureHash::sha2_256, 32},
     "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d01010"
     "8"
     "300d06096086480165030402010500a203020120"},
    {{SignatureFamily::ed25519, SignatureHash::identity, 0}, "300506032b6570"},
    {{SignatureFamily::ed448, SignatureHash::identity, 0}, "300506032b6571"},
};

}  // namespace

TEST_CASE("signature: AlgorithmIdentifiers are those of RFC 7427 Appendix A, both ways") {
  for (const Published& row : kPublished) {
    INFO(row.algorithm.name());
    const auto der = from_hex(row.der);
    CHECK(encode_algorithm_identifier(row.algorithm) == der);
    const auto parsed = parse_algorithm_identifier(der);
    REQUIRE(parsed);
    CHECK(*parsed == row.algorithm);
  }
}

TEST_CASE("signature: no prefix of an AlgorithmIdentifier is one, and nothing may follow it") {
  for (const Published& row : kPublished) {
    auto der = from_hex(row.der);
    for (std::size_t length = 0; length < der.size(); ++length) {
      INFO(row.algorithm.name() << ", " << length << " bytes");
      const auto parsed = parse_algorithm_identifier(Bytes(der).first(length));
      REQUIRE_FALSE(parsed);
      CHECK(parsed.error().what == "the AlgorithmIdentifier is malformed");
    }
    der.push_back(0);
    CHECK_FALSE(parse_algorithm_identifier(der));
  }
}

TEST_CASE("signature: what RFC 8247 §4.3 forbids is named") {
  const std::vector<std::pair<std::string_view, std::string_view>> rows{
      {"300d06092a864886f70d0101050500", "sha1WithRSAEncryption"},
      {"300906072a8648ce3d0401", "ecdsa-with-SHA1"},
      {"300d06092a864886f70d01010a3000", "SHA1"},  // PSS with default parameters
      {"300b06092a864886f70d01010a", "SHA-1"},     // PSS without parameters
      {"300d06092a864886f70d01010e0500", "sha224WithRSAEncryption"}};
  for (const auto& [der, word] : rows) {
    const auto parsed = parse_algorithm_identifier(from_hex(der));
    REQUIRE_FALSE(parsed);
    CHECK_THAT(parsed.error().what, Catch::Contains(std::string(word)));
  }
}

TEST_CASE("signature: parameters where there are none are refused") {
  CHECK_FALSE(parse_algorithm_identifier(from_hex("300c06082a8648ce3d0403020500")));
  CHECK_FALSE(parse_algorithm_identifier(from_hex("300706032b65700500")));
}

TEST_CASE("signature: every kind of key signs and verifies with RFC 7427 and RFC 8420") {
  const std::vector<std::pair<KeyKind, std::string>> rows{
      {KeyKind::rsa2048, "RSASSA-PSS with SHA-256"},
      {KeyKind::p256, "ECDSA with SHA-256"},
      {KeyKind::p384, "ECDSA with SHA-384"},
      {KeyKind::p521, "ECDSA with SHA-512"},
      {KeyKind::ed25519, "Ed25519"},
      {KeyKind::ed448, "Ed448"}};
  for (const auto& [kind, name] : rows) {
    INFO(name);
    const Issued& issued = self_signed(kind);
    const auto signature = sign(issued.private_key(), kAllHashes, kOctets);
    REQUIRE(signature);
    CHECK(signature->method == 14);
    CHECK(signature->algorithm == name);
    const auto verified = verify(issued.certificate(), signature->method, signature->data, kOctets);
    REQUIRE(verified);
    CHECK(*verified == name);
  }
}

TEST_CASE("signature: a peer without RFC 7427 gets method 1 or those of RFC 4754") {
  const std::vector<std::tuple<KeyKind, int, std::size_t>> rows{{KeyKind::rsa2048, 1, 256},
                                                                {KeyKind::p256, 9, 64},
                                                                {KeyKind::p384, 10, 96},
                                                                {KeyKind::p521, 11, 132}};
  for (const auto& [kind, method, bytes] : rows) {
    const Issued& issued = self_signed(kind);
    const auto signature = sign(issued.private_key(), std::nullopt, kOctets);
    REQUIRE(signature);
    CHECK(signature->method == method);
    CHECK(signature->data.size() == bytes);
    CHECK(verify(issued.certificate(), signature->method, signature->data, kOctets));
  }
  const auto impossible = sign(self_signed(KeyKind::ed25519).private_key(), std::nullopt, kOctets);
  REQUIRE_FALSE(impossible);
  CHECK_THAT(impossible.error().what, Catch::Contains("RFC 7427"));
}

TEST_CASE("signature: the hash is one that the peer verifies (RFC 7427 §4)") {
  constexpr std::array<std::uint16_t, 1> kOnly512{4};
  const auto signature = sign(self_signed(KeyKind::p256).private_key(), kOnly512, kOctets);
  REQUIRE(signature);
  CHECK(signature->algorithm == "ECDSA with SHA-512");
  CHECK(verify(self_signed(KeyKind::p256).certificate(), 14, signature->data, kOctets));
  constexpr std::array<std::uint16_t, 1> kOnlySha1{1};
  const auto legacy = sign(self_signed(KeyKind::p256).private_key(), kOnlySha1, kOctets);
  REQUIRE(legacy);
  CHECK(legacy->method == 9);
}

TEST_CASE("signature: an RSA signature of SHA-1 is refused with the reason (RFC 8247 §4.3)") {
  const Issued& issued = self_signed(KeyKind::rsa2048);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  std::vector<std::uint8_t> signature(256);
  std::size_t size = signature.size();
  REQUIRE(EVP_DigestSignInit(context, nullptr, EVP_sha1(), nullptr, issued.key()) == 1);
  REQUIRE(EVP_DigestSign(context, signature.data(), &size, kOctets.data(), kOctets.size()) == 1);
  EVP_MD_CTX_free(context);
  const auto verified = verify(issued.certificate(), 1, signature, kOctets);
  REQUIRE_FALSE(verified);
  CHECK_THAT(verified.error().what, Catch::Contains("SHA-1 is not accepted"));
}

TEST_CASE("signature: one changed bit anywhere and no signature verifies") {
  for (const KeyKind kind : {KeyKind::rsa2048, KeyKind::p256, KeyKind::ed25519, KeyKind::ed448}) {
    const Issued& issued = self_signed(kind);
    const auto signature = sign(issued.private_key(), kAllHashes, kOctets);
    REQUIRE(signature);
    for (std::size_t at = 0; at < signature->data.size(); at += 3) {
      auto tampered = signature->data;
      tampered[at] ^= 0x10;
      INFO("octet " << at);
      CHECK_FALSE(verify(issued.certificate(), 14, tampered, kOctets));
    }
    auto other = kOctets;
    other.back() ^= 1;
    CHECK_FALSE(verify(issued.certificate(), 14, signature->data, other));
  }
}

TEST_CASE("signature: no prefix of AUTH data verifies, and none is read beyond its end") {
  for (const KeyKind kind : {KeyKind::p256, KeyKind::ed25519}) {
    const Issued& issued = self_signed(kind);
    for (const auto hashes : {std::optional<std::span<const std::uint16_t>>(kAllHashes),
                              std::optional<std::span<const std::uint16_t>>()}) {
      const auto signature = sign(issued.private_key(), hashes, kOctets);
      if (!signature) continue;
      for (std::size_t length = 0; length < signature->data.size(); ++length) {
        const std::vector<std::uint8_t> prefix(signature->data.begin(),
                                               signature->data.begin() + static_cast<long>(length));
        CHECK_FALSE(verify(issued.certificate(), signature->method, prefix, kOctets));
      }
    }
  }
}

TEST_CASE("signature: a claim that does not fit the certificate's key is named") {
  const auto signature = sign(self_signed(KeyKind::p256).private_key(), kAllHashes, kOctets);
  REQUIRE(signature);
  const auto verified =
      verify(self_signed(KeyKind::ed25519).certificate(), 14, signature->data, kOctets);
  REQUIRE_FALSE(verified);
  CHECK_THAT(verified.error().what,
             Catch::Contains("ECDSA with SHA-256") && Catch::Contains("Ed25519"));
  for (const int method : {0, 2, 3, 9, 10, 11, 12, 13, 15, 255}) {
    CHECK_FALSE(verify(self_signed(KeyKind::rsa2048).certificate(),
                       static_cast<std::uint8_t>(method), signature->data, kOctets));
  }
}

TEST_CASE("private key: PKCS#8 with a passphrase, and what is said without the right one") {
  const auto pem = culvert::test::to_pem(self_signed(KeyKind::p384).key(), "open sesame");
  const auto passphrase = [](std::string_view text) {
    return SecretBytes(Bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  };
  const SecretBytes right = passphrase("open sesame\n"), wrong = passphrase("guess");
  const auto key = pki::PrivateKey::parse(pem, &right);
  REQUIRE(key);
  CHECK(key->belongs_to(self_signed(KeyKind::p384).certificate()));
  CHECK_FALSE(key->belongs_to(self_signed(KeyKind::p256).certificate()));
  CHECK(pki::PrivateKey::parse(pem, &wrong).error().what == "does not open with the passphrase");
  CHECK(pki::PrivateKey::parse(pem, nullptr).error().what ==
        "is encrypted and no passphrase is given");
  CHECK_FALSE(pki::PrivateKey::parse({}, nullptr));
}

}  // namespace culvert::crypto::ike
