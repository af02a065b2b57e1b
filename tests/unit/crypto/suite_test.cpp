#include "crypto/suite.hpp"

#include <catch2/catch.hpp>

using namespace culvert::crypto;

TEST_CASE("suite: names are what an operator writes", "[suite]") {
  CHECK(EspSuite{Encryption::aes_gcm_16, 256, Integrity::none}.name() == "aes256gcm16");
  CHECK(EspSuite{Encryption::aes_cbc, 128, Integrity::hmac_sha2_256_128}.name() == "aes128-sha256");
  CHECK(IkeSuite{Encryption::aes_gcm_16, 256, Integrity::none, Prf::hmac_sha2_384, Group::ecp384}
            .name() == "aes256gcm16-prfsha384-ecp384");
  CHECK(IkeSuite{Encryption::aes_cbc, 128, Integrity::hmac_sha2_256_128, Prf::hmac_sha2_256,
                 Group::modp2048}
            .name() == "aes128-sha256-modp2048");
  CHECK(IkeSuite{Encryption::aes_cbc, 128, Integrity::hmac_sha2_256_128, Prf::hmac_sha2_512,
                 Group::x25519}
            .name() == "aes128-sha256-prfsha512-x25519");
}

TEST_CASE("suite: KEYMAT of one direction is key, salt, integrity key (RFC 7296 §2.17)",
          "[suite]") {
  // RFC 4106 §8.1: 20, 28 and 36 octets.
  CHECK(EspSuite{Encryption::aes_gcm_16, 128, Integrity::none}.keymat_bytes() == 20);
  CHECK(EspSuite{Encryption::aes_gcm_16, 192, Integrity::none}.keymat_bytes() == 28);
  CHECK(EspSuite{Encryption::aes_gcm_16, 256, Integrity::none}.keymat_bytes() == 36);
  const EspSuite cbc{Encryption::aes_cbc, 256, Integrity::hmac_sha2_384_192};
  CHECK(cbc.keymat_bytes() == 32 + 48);
  CHECK(cbc.encryption_key_bytes() == 32);
  CHECK(cbc.integrity_key_bytes() == 48);
}

TEST_CASE("suite: IANA numbers find their rows, and only those", "[suite]") {
  REQUIRE(find(Encryption::aes_gcm_16) != nullptr);
  CHECK(find(Encryption::aes_gcm_16)->icv_bytes == 16);
  CHECK(find(Encryption::aes_gcm_16)->salt_bytes == 4);
  CHECK(find(Encryption::aes_cbc)->block_bytes == 16);
  CHECK(find(Integrity::hmac_sha2_512_256)->icv_bytes == 32);  // RFC 4868 §2.6
  CHECK(find(Prf::hmac_sha2_384)->output_bytes == 48);
  CHECK(find(Group::ecp521)->public_bytes == 132);  // RFC 5903 §7
  CHECK(find(Encryption::none) == nullptr);
  CHECK(find(Integrity::none) == nullptr);
  CHECK(find(Prf::none) == nullptr);
  CHECK(find(Group::none) == nullptr);
  CHECK(find(static_cast<Encryption>(3)) == nullptr);  // 3DES
  CHECK(find(static_cast<Group>(2)) == nullptr);       // modp1024
}

TEST_CASE("suite: nothing that RFC 8221 or RFC 8247 forbids is in the table", "[suite]") {
  // RFC 8221 §5: DES, DES_IV64, 3DES, Blowfish, CAST, IDEA; RFC 8221 §6: MD5, DES-MAC, KPDK.
  for (std::uint16_t id = 1; id <= 9; ++id) {
    CHECK(find(static_cast<Encryption>(id)) == nullptr);
  }
  for (const unsigned id : {1U, 3U, 4U}) {
    CHECK(find(static_cast<Integrity>(id)) == nullptr);
  }
  for (const EncryptionInfo& row : encryptions()) {
    const bool is_null = row.id == Encryption::null;
    for (const std::uint16_t bits : row.key_bits) CHECK((bits >= 128 || is_null));
    CHECK_FALSE((is_null && row.ike));
  }
  for (const IntegrityInfo& row : integrities()) {
    // SHA-1 stays for ESP with old peers (RFC 8221 §6: "MUST-") and never protects an IKE SA.
    CHECK((row.icv_bytes >= 16 || (row.id == Integrity::hmac_sha1_96 && !row.ike)));
  }
  for (const PrfInfo& row : prfs()) CHECK(row.output_bytes >= 32);
  for (const GroupInfo& row : groups()) CHECK(static_cast<std::uint16_t>(row.id) >= 14);
}
