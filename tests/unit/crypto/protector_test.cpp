#include <catch2/catch.hpp>
#include <openssl/evp.h>

#include "crypto/esp/esp_crypto.hpp"
#include "crypto/ike/ike_crypto.hpp"
#include "crypto/openssl_handles.hpp"
#include "vectors.hpp"

using namespace culvert::crypto;
using namespace culvert::crypto::ike;
using culvert::crypto::test::Buffer;
using culvert::crypto::test::copy;

namespace {

std::vector<IkeSuite> all_suites() {
  std::vector<IkeSuite> suites;
  for (const EncryptionInfo& cipher : encryptions()) {
    if (!cipher.ike) continue;
    for (const std::uint16_t bits : cipher.key_bits) {
      if (cipher.aead) {
        suites.push_back({cipher.id, bits, Integrity::none, Prf::hmac_sha2_256, Group::x25519});
        continue;
      }
      for (const IntegrityInfo& integrity : integrities()) {
        if (!integrity.ike) continue;
        suites.push_back({cipher.id, bits, integrity.id, implied_prf(integrity.id), Group::x25519});
      }
    }
  }
  return suites;
}

Buffer pattern(std::size_t size, std::uint64_t seed) {
  Buffer out(size);
  make_seeded_random(seed)->fill(out);
  return out;
}

std::unique_ptr<Protector> make(const IkeSuite& suite, std::uint64_t seed = 1) {
  auto protector = make_protector(suite, pattern(protector_key_bytes(suite), seed),
                                  pattern(protector_integrity_key_bytes(suite), seed + 1));
  REQUIRE(protector.has_value());
  return std::move(*protector);
}

Buffer seal(Protector& protector, Bytes associated, Bytes plain, Random& random) {
  Buffer out(protector.sealed_bytes(plain.size()));
  REQUIRE(protector.seal(associated, plain, random, out).has_value());
  return out;
}

/// The IKE header and the SK payload's generic header: 28 and 4 octets.
const Buffer kAssociated = pattern(32, 99);

const IkeSuite kGcm128{Encryption::aes_gcm_16, 128, Integrity::none, Prf::hmac_sha2_256,
                       Group::x25519};
const IkeSuite kCbc128{Encryption::aes_cbc, 128, Integrity::hmac_sha2_256_128, Prf::hmac_sha2_256,
                       Group::x25519};

/// A CBC payload whose padding the caller chooses, sealed by OpenSSL's calls and not by ours.
Buffer seal_padded_cbc(const Buffer& padded) {
  const Buffer key = pattern(protector_key_bytes(kCbc128), 1);
  const Buffer integrity_key = pattern(protector_integrity_key_bytes(kCbc128), 2);
  Buffer out = pattern(16, 5);  // IV
  out.resize(16 + padded.size());
  const openssl::CipherContext context(EVP_CIPHER_CTX_new());
  int written = 0;
  REQUIRE(EVP_EncryptInit_ex2(context.get(), EVP_aes_128_cbc(), key.data(), out.data(), nullptr) ==
          1);
  REQUIRE(EVP_CIPHER_CTX_set_padding(context.get(), 0) == 1);
  REQUIRE(EVP_EncryptUpdate(context.get(), out.data() + 16, &written, padded.data(),
                            static_cast<int>(padded.size())) == 1);
  Buffer covered = kAssociated;
  covered.insert(covered.end(), out.begin(), out.end());
  Buffer icv(32);
  std::size_t icv_bytes = 0;
  REQUIRE(EVP_Q_mac(nullptr, "HMAC", nullptr, "SHA256", nullptr, integrity_key.data(),
                    integrity_key.size(), covered.data(), covered.size(), icv.data(), icv.size(),
                    &icv_bytes) != nullptr);
  out.insert(out.end(), icv.begin(), icv.begin() + 16);  // RFC 4868: the first 128 bits
  return out;
}

/// A GCM payload whose padding the caller chooses, sealed by an ESP engine.
Buffer seal_padded_gcm(esp::Engine& engine, const Buffer& padded, const Buffer& iv) {
  const Buffer key_and_salt = pattern(protector_key_bytes(kGcm128), 1);
  auto key = std::make_unique<esp::ExpandedKey>();
  const EspSuite suite{Encryption::aes_gcm_16, 128, Integrity::none};
  REQUIRE(engine.expand(suite, Bytes(key_and_salt).first(16), *key).has_value());
  Buffer nonce(key_and_salt.end() - 4, key_and_salt.end());
  nonce.insert(nonce.end(), iv.begin(), iv.end());
  Buffer out = iv;
  out.insert(out.end(), padded.begin(), padded.end());
  out.resize(out.size() + 16);
  const esp::Operation operation{.key = key.get(),
                                 .text = out.data() + 8,
                                 .nonce = nonce.data(),
                                 .aad = kAssociated.data(),
                                 .icv = out.data() + 8 + padded.size(),
                                 .text_bytes = static_cast<std::uint32_t>(padded.size()),
                                 .aad_bytes = static_cast<std::uint8_t>(kAssociated.size())};
  engine.seal(suite, std::span(&operation, 1));
  return out;
}

}  // namespace

TEST_CASE("protector: what is sealed opens again, at every length, in every suite", "[protector]") {
  const auto random = make_seeded_random(11);
  for (const IkeSuite& suite : all_suites()) {
    const auto sender = make(suite);
    const auto receiver = make(suite);
    for (std::size_t size = 0; size <= 300; ++size) {
      const Buffer plain = pattern(size, size);
      const Buffer sealed = seal(*sender, kAssociated, plain, *random);
      INFO(suite.name() << ", " << size << " bytes");
      const auto opened = receiver->open(kAssociated, sealed);
      REQUIRE(opened.has_value());
      REQUIRE(copy(opened->view()) == plain);
    }
  }
}

TEST_CASE("protector: lengths are those of RFC 7296 §3.14 and RFC 5282", "[protector]") {
  const auto gcm = make(kGcm128);
  CHECK(gcm->iv_bytes() == 8);
  CHECK(gcm->icv_bytes() == 16);
  CHECK(gcm->sealed_bytes(0) == 8 + 1 + 16);
  CHECK(gcm->sealed_bytes(100) == 8 + 101 + 16);
  const auto cbc = make(kCbc128);
  CHECK(cbc->iv_bytes() == 16);
  CHECK(cbc->icv_bytes() == 16);
  CHECK(cbc->sealed_bytes(0) == 16 + 16 + 16);
  CHECK(cbc->sealed_bytes(15) == 16 + 16 + 16);
  CHECK(cbc->sealed_bytes(16) == 16 + 32 + 16);
}

TEST_CASE("protector: every truncation is refused", "[protector]") {
  const auto random = make_seeded_random(12);
  for (const IkeSuite& suite : all_suites()) {
    const auto protector = make(suite);
    const Buffer sealed = seal(*protector, kAssociated, pattern(70, 3), *random);
    for (std::size_t size = 0; size < sealed.size(); ++size) {
      INFO(suite.name() << ", the first " << size << " of " << sealed.size());
      REQUIRE_FALSE(protector->open(kAssociated, Bytes(sealed).first(size)).has_value());
    }
    for (std::size_t size = 0; size < kAssociated.size(); ++size) {
      INFO(suite.name() << ", associated data cut to " << size);
      REQUIRE_FALSE(protector->open(Bytes(kAssociated).first(size), sealed).has_value());
    }
    Buffer longer = sealed;
    longer.insert(longer.end(), 16, 0);
    CHECK_FALSE(protector->open(kAssociated, longer).has_value());
  }
}

TEST_CASE("protector: every flipped bit is noticed", "[protector]") {
  const auto random = make_seeded_random(13);
  for (const IkeSuite& suite : all_suites()) {
    const auto protector = make(suite);
    Buffer sealed = seal(*protector, kAssociated, pattern(37, 4), *random);
    for (std::size_t bit = 0; bit < 8 * sealed.size(); ++bit) {
      const auto mask = static_cast<std::uint8_t>(1U << (bit % 8));
      sealed[bit / 8] ^= mask;
      INFO(suite.name() << ", bit " << bit << " of the payload");
      REQUIRE_FALSE(protector->open(kAssociated, sealed).has_value());
      sealed[bit / 8] ^= mask;
    }
    Buffer associated = kAssociated;
    for (std::size_t bit = 0; bit < 8 * associated.size(); ++bit) {
      const auto mask = static_cast<std::uint8_t>(1U << (bit % 8));
      associated[bit / 8] ^= mask;
      INFO(suite.name() << ", bit " << bit << " of the headers");
      REQUIRE_FALSE(protector->open(associated, sealed).has_value());
      associated[bit / 8] ^= mask;
    }
    CHECK(protector->open(kAssociated, sealed).has_value());
  }
}

TEST_CASE("protector: another key opens nothing", "[protector]") {
  const auto random = make_seeded_random(14);
  for (const IkeSuite& suite : all_suites()) {
    const Buffer sealed = seal(*make(suite, 1), kAssociated, pattern(40, 1), *random);
    INFO(suite.name());
    CHECK_FALSE(make(suite, 50)->open(kAssociated, sealed).has_value());
  }
}

TEST_CASE("protector: the AES-GCM IV counts and never repeats under a key (RFC 5282 §3.1)",
          "[protector]") {
  const auto random = make_seeded_random(15);
  const auto protector = make(kGcm128);
  const Buffer plain(10, 0);
  std::uint64_t previous = 0;
  for (int i = 0; i < 1000; ++i) {
    const Buffer sealed = seal(*protector, kAssociated, plain, *random);
    std::uint64_t iv = 0;
    for (std::size_t at = 0; at < 8; ++at) iv = iv << 8 | sealed[at];
    if (i > 0) REQUIRE(iv == previous + 1);
    previous = iv;
  }
}

TEST_CASE("protector: an IKE SA resumed with the same keys begins at another IV", "[protector]") {
  const auto random = make_seeded_random(16);
  const Buffer before = seal(*make(kGcm128), kAssociated, Buffer(4, 1), *random);
  const Buffer after = seal(*make(kGcm128), kAssociated, Buffer(4, 1), *random);
  CHECK(Buffer(before.begin(), before.begin() + 8) != Buffer(after.begin(), after.begin() + 8));
}

TEST_CASE("protector: the AES-CBC IV is drawn anew for every message", "[protector]") {
  const auto random = make_seeded_random(17);
  const auto protector = make(kCbc128);
  const Buffer first = seal(*protector, kAssociated, Buffer(40, 0), *random);
  const Buffer second = seal(*protector, kAssociated, Buffer(40, 0), *random);
  CHECK(Buffer(first.begin(), first.begin() + 16) != Buffer(second.begin(), second.begin() + 16));
  CHECK(Buffer(first.begin() + 16, first.begin() + 32) !=
        Buffer(second.begin() + 16, second.begin() + 32));
}

TEST_CASE("protector: AES-CBC accepts any padding that fits, whatever its bytes", "[protector]") {
  const auto protector = make(kCbc128);
  Buffer padded = pattern(64, 6);
  for (const int pad : {0, 1, 15, 16, 40, 63}) {
    padded.back() = static_cast<std::uint8_t>(pad);
    INFO("pad length " << pad);
    const auto opened = protector->open(kAssociated, seal_padded_cbc(padded));
    REQUIRE(opened.has_value());
    CHECK(copy(opened->view()) == Buffer(padded.begin(), padded.end() - pad - 1));
  }
}

TEST_CASE("protector: padding longer than the payload is refused though the ICV is right",
          "[protector]") {
  const auto cbc = make(kCbc128);
  Buffer padded = pattern(64, 6);
  for (const int pad : {64, 65, 255}) {
    padded.back() = static_cast<std::uint8_t>(pad);
    const auto opened = cbc->open(kAssociated, seal_padded_cbc(padded));
    REQUIRE_FALSE(opened.has_value());
    CHECK_THAT(opened.error().what, Catch::Contains("padding"));
  }
  const auto engine = esp::make_engine();
  const auto gcm = make(kGcm128);
  padded.back() = 64;
  const auto opened = gcm->open(kAssociated, seal_padded_gcm(*engine, padded, pattern(8, 7)));
  REQUIRE_FALSE(opened.has_value());
  CHECK_THAT(opened.error().what, Catch::Contains("padding"));
}

TEST_CASE("protector: AES-GCM opens what an independent engine sealed, and the reverse",
          "[protector]") {
  const auto engine = esp::make_engine();
  const auto protector = make(kGcm128);
  const auto random = make_seeded_random(18);
  const Buffer plain = pattern(77, 8);
  Buffer padded = plain;
  padded.insert(padded.end(), {9, 9, 9, 3});  // three octets of padding and their count
  const auto opened = protector->open(kAssociated, seal_padded_gcm(*engine, padded, pattern(8, 7)));
  REQUIRE(opened.has_value());
  CHECK(copy(opened->view()) == plain);

  const Buffer ours = seal(*protector, kAssociated, plain, *random);
  padded = plain;
  padded.push_back(0);
  CHECK(ours == seal_padded_gcm(*engine, padded, Buffer(ours.begin(), ours.begin() + 8)));
}

TEST_CASE("protector: room of the wrong length is refused", "[protector]") {
  const auto random = make_seeded_random(19);
  for (const IkeSuite& suite : {kGcm128, kCbc128}) {
    const auto protector = make(suite);
    for (const int difference : {-1, 1}) {
      Buffer out(
          static_cast<std::size_t>(static_cast<int>(protector->sealed_bytes(20)) + difference));
      CHECK_FALSE(protector->seal(kAssociated, Buffer(20, 0), *random, out).has_value());
    }
    Buffer huge(protector->sealed_bytes(65536));
    CHECK_FALSE(protector->seal(kAssociated, Buffer(65536, 0), *random, huge).has_value());
  }
}

TEST_CASE("protector: suites and keys that do not fit are refused", "[protector]") {
  const Buffer key20(20, 1);
  const Buffer key16(16, 1);
  const Buffer key32(32, 1);
  IkeSuite suite = kGcm128;
  CHECK(make_protector(suite, key20, {}).has_value());
  CHECK_FALSE(make_protector(suite, key16, {}).has_value());  // without its salt
  CHECK_FALSE(make_protector(suite, key20, key32).has_value());
  suite.integrity = Integrity::hmac_sha2_256_128;
  CHECK_FALSE(make_protector(suite, key20, key32).has_value());
  suite = kCbc128;
  CHECK(make_protector(suite, key16, key32).has_value());
  CHECK_FALSE(make_protector(suite, key16, {}).has_value());
  CHECK_FALSE(make_protector(suite, key16, key16).has_value());
  suite.integrity = Integrity::none;
  CHECK_FALSE(make_protector(suite, key16, {}).has_value());
  suite = kCbc128;
  suite.key_bits = 64;
  CHECK_FALSE(make_protector(suite, Buffer(8, 1), key32).has_value());
  // What ESP alone has: with sizes that would fit, and with any.
  for (const Encryption of_esp : {Encryption::null, Encryption::aes_ctr, Encryption::aes_ccm_8,
                                  Encryption::aes_ccm_16, Encryption::null_aes_gmac}) {
    suite.encryption = of_esp;
    for (const Integrity integrity : {Integrity::none, Integrity::hmac_sha2_256_128}) {
      suite.integrity = integrity;
      suite.key_bits = 128;
      const Buffer fitting(protector_key_bytes(suite), 1);
      const Buffer authentic(protector_integrity_key_bytes(suite), 1);
      CHECK_FALSE(make_protector(suite, fitting, authentic).has_value());
    }
  }
  suite.encryption = Encryption::none;
  CHECK_FALSE(make_protector(suite, {}, key32).has_value());
}

TEST_CASE("protector: the vector for ChaCha20-Poly1305 in IKEv2 (RFC 7634 Appendix B)",
          "[protector]") {
  Buffer key(32);
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<std::uint8_t>(0x80 + i);
  key.insert(key.end(), {0xa0, 0xa1, 0xa2, 0xa3});
  const Buffer associated{0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xd0, 0xd1, 0xd2,
                          0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0x2e, 0x20, 0x25, 0x00, 0x00, 0x00,
                          0x00, 0x09, 0x00, 0x00, 0x00, 0x45, 0x29, 0x00, 0x00, 0x29};
  const Buffer sealed{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x61, 0x03, 0x94, 0x70, 0x1f,
                      0x8d, 0x01, 0x7f, 0x7c, 0x12, 0x92, 0x48, 0x89, 0x6b, 0x71, 0xbf, 0xe2, 0x52,
                      0x36, 0xef, 0xd7, 0xcd, 0xc6, 0x70, 0x66, 0x90, 0x63, 0x15, 0xb2};
  const Buffer plain{0x00, 0x00, 0x00, 0x0c, 0x00, 0x00, 0x40, 0x01, 0x00, 0x00, 0x00, 0x0a};
  const IkeSuite suite{Encryption::chacha20_poly1305, 256, Integrity::none, Prf::hmac_sha2_256,
                       Group::x25519};
  const auto protector = make_protector(suite, key, {});
  REQUIRE(protector.has_value());
  const auto opened = (*protector)->open(associated, sealed);
  REQUIRE(opened.has_value());
  CHECK(Buffer(opened->view().begin(), opened->view().end()) == plain);
}

TEST_CASE(
    "protector: made again from its own keys it opens what was sealed, and goes on where the "
    "IVs were",
    "[protector]") {
  const Buffer plain = pattern(100, 3);
  for (const IkeSuite& suite : all_suites()) {
    INFO(suite.name());
    const auto first = make(suite);
    const auto random = make_seeded_random(4);
    const Buffer before = seal(*first, kAssociated, plain, *random);
    seal(*first, kAssociated, plain, *random);

    auto again = make_protector(suite, first->encryption_key(), first->integrity_key());
    REQUIRE(again.has_value());
    (*again)->resume_at(first->iv_position());
    const auto opened = (*again)->open(kAssociated, before);
    REQUIRE(opened.has_value());
    CHECK(copy(opened->view()) == plain);

    // With an AEAD the next IV is the one that the first life would have used; CBC draws its own.
    const auto one = make_seeded_random(5), other = make_seeded_random(5);
    CHECK(seal(**again, kAssociated, plain, *one) == seal(*first, kAssociated, plain, *other));
    CHECK((*again)->iv_position() == first->iv_position());
  }
}
