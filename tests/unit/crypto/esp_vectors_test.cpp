// Published vectors, byte for byte, through both engines.
#include <openssl/evp.h>

#include "crypto/openssl_handles.hpp"
#include "esp_packet.hpp"
#include "tests/unit/crypto/esp_by_openssl.hpp"

using namespace culvert::crypto;
using namespace culvert::crypto::esp;
using namespace culvert::crypto::test;

namespace {

std::uint16_t bits_of(const Buffer& key) { return static_cast<std::uint16_t>(key.size() * 8); }

const Form& form_of(const EspSuite& suite) {
  const auto id = find_transform(suite);
  REQUIRE(id.has_value());
  return transform(*id).form;
}

/// Seals and opens an AEAD's vector.
void check_aead(const EspSuite& suite, const Vector& vector) {
  for (const auto& engine : engines()) {
    INFO(engine->name() << ", " << suite.name() << ", plaintext " << vector.text("plaintext"));
    const auto expanded = expand(*engine, suite, vector.bytes("key"));
    Packet packet(form_of(suite), *expanded, vector.bytes("nonce"), vector.bytes("aad"),
                  vector.bytes("plaintext"));
    seal_one(*engine, suite, packet);
    CHECK(test::copy(packet.text()) == vector.bytes("ciphertext"));
    CHECK(test::copy(packet.icv()) == vector.bytes("icv"));
    open_one(*engine, suite, packet);
    CHECK(test::copy(packet.text()) == vector.bytes("plaintext"));
    CHECK(packet.verified());
    CHECK(packet.canaries_alive());
  }
}

/// The block that AES encrypts into `iv`: what stands where `seal` makes the IV.
Buffer block_before(const Buffer& key, const Buffer& iv) {
  const std::string name = "AES-" + std::to_string(key.size() * 8) + "-ECB";
  const openssl::Cipher cipher(EVP_CIPHER_fetch(nullptr, name.c_str(), nullptr));
  const openssl::CipherContext context(EVP_CIPHER_CTX_new());
  Buffer block(iv.size());
  int written = 0;
  REQUIRE(EVP_DecryptInit_ex2(context.get(), cipher.get(), key.data(), nullptr, nullptr) == 1);
  REQUIRE(EVP_CIPHER_CTX_set_padding(context.get(), 0) == 1);
  REQUIRE(EVP_DecryptUpdate(context.get(), block.data(), &written, iv.data(),
                            static_cast<int>(iv.size())) == 1);
  return block;
}

struct HashRow {
  const char* name;
  Integrity id;
};
constexpr HashRow kHashes[] = {{"sha1", Integrity::hmac_sha1_96},
                               {"sha256", Integrity::hmac_sha2_256_128},
                               {"sha384", Integrity::hmac_sha2_384_192},
                               {"sha512", Integrity::hmac_sha2_512_256}};

}  // namespace

TEST_CASE("esp vectors: AES-GCM (RFC 4106)", "[esp]") {
  for (const char* file : {"aes_gcm.txt", "aes_gcm_esp.txt"}) {
    for (const Vector& vector : read_vectors(file)) {
      check_aead({Encryption::aes_gcm_16, bits_of(vector.bytes("key")), Integrity::none}, vector);
    }
  }
}

TEST_CASE("esp vectors: ChaCha20-Poly1305 (RFC 7634)", "[esp]") {
  for (const Vector& vector : read_vectors("chacha20_poly1305_esp.txt")) {
    check_aead({Encryption::chacha20_poly1305, 256, Integrity::none}, vector);
  }
}

TEST_CASE("esp vectors: AES-GMAC (RFC 4543)", "[esp]") {
  for (const Vector& vector : read_vectors("aes_gmac_esp.txt")) {
    const EspSuite suite{Encryption::null_aes_gmac, bits_of(vector.bytes("key")), Integrity::none};
    for (const auto& engine : engines()) {
      INFO(engine->name());
      const auto expanded = expand(*engine, suite, vector.bytes("key"));
      Packet packet(form_of(suite), *expanded, vector.bytes("nonce"), vector.bytes("aad"),
                    vector.bytes("text"));
      seal_one(*engine, suite, packet);
      CHECK(test::copy(packet.text()) == vector.bytes("text"));
      CHECK(test::copy(packet.icv()) == vector.bytes("icv"));
      open_one(*engine, suite, packet);
      CHECK(packet.verified());
    }
  }
}

TEST_CASE("esp vectors: AES-GMAC with 192 and 256 bits (NIST CAVP)", "[esp]") {
  for (const Vector& vector : read_vectors("aes_gmac.txt")) {
    const EspSuite suite{Encryption::null_aes_gmac, bits_of(vector.bytes("key")), Integrity::none};
    const Buffer aad = vector.bytes("aad");
    for (const auto& engine : engines()) {
      INFO(engine->name() << ", " << suite.name());
      const auto expanded = expand(*engine, suite, vector.bytes("key"));
      // The first sixteen bytes stand as SPI, sequence number and IV: here it is not the nonce's.
      Packet packet(form_of(suite), *expanded, vector.bytes("nonce"),
                    Buffer(aad.begin(), aad.begin() + 8), Bytes(aad).subspan(16));
      std::copy_n(aad.begin() + 8, 8, packet.memory.begin() + Packet::kCanaries + 8);
      seal_one(*engine, suite, packet);
      CHECK(test::copy(packet.icv()) == vector.bytes("icv"));
      open_one(*engine, suite, packet);
      CHECK(packet.verified());
      CHECK(packet.canaries_alive());
    }
  }
}

TEST_CASE("esp vectors: AES-CBC (RFC 3602 §4)", "[esp]") {
  for (const Vector& vector : read_vectors("aes_cbc.txt")) {
    const Buffer key = vector.bytes("key");
    const EspSuite suite{Encryption::aes_cbc, bits_of(key), Integrity::hmac_sha2_256_128};
    Buffer both = key;
    both.resize(key_bytes(suite), 0x0b);
    for (const auto& engine : engines()) {
      INFO(engine->name() << ", case " << vector.text("case"));
      const auto expanded = expand(*engine, suite, both);
      Packet packet(form_of(suite), *expanded, block_before(key, vector.bytes("iv")), Buffer(8, 1),
                    vector.bytes("plaintext"));
      seal_one(*engine, suite, packet);
      CHECK(test::copy(packet.iv()) == vector.bytes("iv"));
      CHECK(test::copy(packet.text()) == vector.bytes("ciphertext"));
      open_one(*engine, suite, packet);
      CHECK(test::copy(packet.text()) == vector.bytes("plaintext"));
      CHECK(packet.verified());
    }
  }
}

TEST_CASE("esp vectors: AES-CTR (RFC 3686 §6)", "[esp]") {
  for (const Vector& vector : read_vectors("aes_ctr.txt")) {
    const Buffer key = vector.bytes("key");
    const EspSuite suite{Encryption::aes_ctr, bits_of(key), Integrity::hmac_sha1_96};
    Buffer both = key;
    both.resize(key_bytes(suite), 0x0b);
    for (const auto& engine : engines()) {
      INFO(engine->name() << ", case " << vector.text("case"));
      const auto expanded = expand(*engine, suite, both);
      Packet packet(form_of(suite), *expanded, vector.bytes("nonce"), Buffer(8, 1),
                    vector.bytes("plaintext"));
      seal_one(*engine, suite, packet);
      CHECK(test::copy(packet.text()) == vector.bytes("ciphertext"));
      open_one(*engine, suite, packet);
      CHECK(test::copy(packet.text()) == vector.bytes("plaintext"));
      CHECK(packet.verified());
    }
  }
}

TEST_CASE("esp vectors: AES-CCM with the nonce of RFC 4309", "[esp]") {
  for (const Vector& vector : read_vectors("aes_ccm.txt")) {
    const bool is_long = vector.bytes("icv").size() == 16;
    check_aead({is_long ? Encryption::aes_ccm_16 : Encryption::aes_ccm_8,
                bits_of(vector.bytes("key")), Integrity::none},
               vector);
  }
}

// No vector of CCM has eleven bytes of nonce and eight of ICV: the ciphertext is the published one,
// for it does not depend on how long the ICV is; the ICV is what OpenSSL makes of it.
TEST_CASE("esp vectors: AES-CCM with an ICV of eight bytes seals what is published", "[esp]") {
  for (const Vector& vector : read_vectors("aes_ccm.txt")) {
    const Buffer key = vector.bytes("key"), nonce = vector.bytes("nonce");
    const EspSuite suite{Encryption::aes_ccm_8, bits_of(key), Integrity::none};
    const EspByHand by_hand{suite, key + Buffer(nonce.begin(), nonce.begin() + 3), 0x1234'5678,
                            0x9abc'def0'1122'3344, true};
    const Buffer expected =
        seal_by_openssl(by_hand, Buffer(nonce.begin() + 3, nonce.end()), vector.bytes("plaintext"));
    const Buffer ciphertext = vector.bytes("ciphertext");
    for (const auto& engine : engines()) {
      INFO(engine->name() << ", " << suite.name());
      const auto expanded = expand(*engine, suite, key);
      Packet packet(form_of(suite), *expanded, nonce, from_hex("123456789abcdef011223344"),
                    vector.bytes("plaintext"));
      seal_one(*engine, suite, packet);
      CHECK(test::copy(packet.text()) == ciphertext);
      CHECK(test::copy(packet.text()) + test::copy(packet.icv()) ==
            Buffer(expected.begin() + 16, expected.end()));
      open_one(*engine, suite, packet);
      CHECK(test::copy(packet.text()) == vector.bytes("plaintext"));
      CHECK(packet.verified());
    }
  }
}

TEST_CASE("esp vectors: HMAC, truncated as ESP does (RFC 4868 §2.1, RFC 2404 §2)", "[esp]") {
  for (const Vector& vector : read_vectors("hmac_esp.txt")) {
    const HashRow* const hash = std::ranges::find(kHashes, vector.text("hash"),
                                                  [](const HashRow& row) { return row.name; });
    REQUIRE(hash != std::end(kHashes));
    const EspSuite suite{Encryption::null, 0, hash->id};
    const Form& form = form_of(suite);
    const Buffer data = vector.bytes("data");
    Buffer mac = vector.bytes("mac");
    mac.resize(form.icv_bytes);
    for (const auto& engine : engines()) {
      INFO(engine->name() << ", " << suite.name());
      const auto expanded = expand(*engine, suite, vector.bytes("key"));
      // The data's first eight bytes stand as SPI and sequence number, the rest as text …
      Packet packet(form, *expanded, {}, Buffer(data.begin(), data.begin() + 8),
                    Bytes(data).subspan(8));
      seal_one(*engine, suite, packet);
      CHECK(test::copy(packet.icv()) == mac);
      // … and with ESN the last four as the high half, which follows the text (RFC 4303 §2.2.1).
      if (data.size() < 12) continue;
      Buffer aad(data.begin(), data.begin() + 4);
      aad.insert(aad.end(), data.end() - 4, data.end());
      aad.insert(aad.end(), data.begin() + 4, data.begin() + 8);
      Packet extended(form, *expanded, {}, aad, Bytes(data).subspan(8, data.size() - 12));
      seal_one(*engine, suite, extended);
      CHECK(test::copy(extended.icv()) == mac);
    }
  }
}

namespace {

/// The packet of an AEAD's vector, and what the oracle makes of its plaintext.
void check_oracle(Encryption encryption, const Vector& vector, const std::string& text_name) {
  const Buffer key = vector.bytes("key"), nonce = vector.bytes("nonce"), aad = vector.bytes("aad");
  const auto word = [&](std::size_t at) {
    return std::uint32_t{aad[at]} << 24U | std::uint32_t{aad[at + 1]} << 16U |
           std::uint32_t{aad[at + 2]} << 8U | std::uint32_t{aad[at + 3]};
  };
  EspByHand by_hand{{encryption, bits_of(key), Integrity::none},
                    key + Buffer(nonce.begin(), nonce.begin() + 4),
                    word(0),
                    word(aad.size() - 4),
                    aad.size() == 12};
  if (by_hand.has_esn) by_hand.sequence |= std::uint64_t{word(4)} << 32U;
  const Buffer iv(nonce.begin() + 4, nonce.end());
  const Buffer text = vector.bytes(text_name);
  const Buffer sealed = encryption == Encryption::null_aes_gmac ? text : vector.bytes("ciphertext");
  const Buffer header(aad.begin(), aad.begin() + 4), low(aad.end() - 4, aad.end());
  CHECK(seal_by_openssl(by_hand, iv, text) == header + low + iv + sealed + vector.bytes("icv"));
}

}  // namespace

TEST_CASE("esp by OpenSSL: what the other tests compare with is what is published", "[esp]") {
  for (const Vector& vector : read_vectors("aes_gcm_esp.txt")) {
    check_oracle(Encryption::aes_gcm_16, vector, "plaintext");
  }
  for (const Vector& vector : read_vectors("chacha20_poly1305_esp.txt")) {
    check_oracle(Encryption::chacha20_poly1305, vector, "plaintext");
  }
  for (const Vector& vector : read_vectors("aes_gmac_esp.txt")) {
    check_oracle(Encryption::null_aes_gmac, vector, "text");
  }
  for (const Vector& vector : read_vectors("hmac_esp.txt")) {
    const std::string hash =
        vector.text("hash") == "sha1" ? "SHA1" : "SHA2-" + vector.text("hash").substr(3);
    CHECK(hmac_by_openssl(hash.c_str(), vector.bytes("key"), vector.bytes("data")) ==
          vector.bytes("mac"));
  }
}
