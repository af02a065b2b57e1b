#include <algorithm>
#include <random>

#include <catch2/catch.hpp>

#include "crypto/esp/esp_crypto.hpp"
#include "vectors.hpp"

using namespace culvert::crypto;
using namespace culvert::crypto::esp;
using culvert::crypto::test::Buffer;
using culvert::crypto::test::read_vectors;

namespace {

constexpr std::size_t kIcvBytes = 16;
constexpr std::uint16_t kKeyBits[] = {128, 192, 256};

EspSuite gcm(std::uint16_t key_bits) { return {Encryption::aes_gcm_16, key_bits, Integrity::none}; }

std::vector<std::unique_ptr<Engine>> engines() {
  std::vector<std::unique_ptr<Engine>> all;
  all.push_back(make_openssl_engine());
  if (auto engine = make_ipsec_mb_engine()) all.push_back(std::move(engine));
  return all;
}

/// A packet with memory of its own; canaries follow the ICV.
struct Packet {
  static constexpr std::size_t kCanaries = 32;
  static constexpr std::uint8_t kCanary = 0xC5;

  Packet(const ExpandedKey& key, Buffer nonce_bytes, Buffer aad_bytes, Bytes text)
      : expanded(&key),
        nonce(std::move(nonce_bytes)),
        aad(std::move(aad_bytes)),
        size(text.size()) {
    memory.assign(text.begin(), text.end());
    memory.resize(size + kIcvBytes);
    memory.resize(memory.size() + kCanaries, kCanary);
  }

  Operation operation() {
    return {.key = expanded,
            .text = memory.data(),
            .nonce = nonce.data(),
            .aad = aad.data(),
            .icv = memory.data() + size,
            .text_bytes = static_cast<std::uint32_t>(size),
            .aad_bytes = static_cast<std::uint8_t>(aad.size())};
  }
  /// For `open`: the computed ICV goes beside, so that the received one stays to be compared.
  Operation open_operation() {
    Operation opened = operation();
    opened.icv = computed_icv.data();
    return opened;
  }
  [[nodiscard]] Bytes text() const { return Bytes(memory).first(size); }
  [[nodiscard]] Bytes icv() const { return Bytes(memory).subspan(size, kIcvBytes); }
  [[nodiscard]] bool verified() const { return equal_constant_time(icv(), computed_icv); }
  [[nodiscard]] bool canaries_alive() const {
    return std::ranges::all_of(Bytes(memory).last(kCanaries),
                               [](std::uint8_t byte) { return byte == kCanary; });
  }

  const ExpandedKey* expanded;
  Buffer nonce;
  Buffer aad;
  Buffer memory;
  std::array<std::uint8_t, kIcvBytes> computed_icv{};
  std::size_t size;
};

std::unique_ptr<ExpandedKey> expand(const Engine& engine, const EspSuite& suite, Bytes key) {
  auto expanded = std::make_unique<ExpandedKey>();
  REQUIRE(engine.expand(suite, key, *expanded).has_value());
  return expanded;
}

void seal_one(Engine& engine, const EspSuite& suite, Packet& packet) {
  const Operation operation = packet.operation();
  engine.seal(suite, std::span(&operation, 1));
}

void open_one(Engine& engine, const EspSuite& suite, Packet& packet) {
  const Operation operation = packet.open_operation();
  engine.open(suite, std::span(&operation, 1));
}

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : generator_(seed) {}
  Buffer bytes(std::size_t size) {
    Buffer out(size);
    for (std::uint8_t& byte : out) byte = static_cast<std::uint8_t>(generator_());
    return out;
  }
  std::size_t up_to(std::size_t largest) { return generator_() % (largest + 1); }

 private:
  std::mt19937_64 generator_;
};

}  // namespace

TEST_CASE("esp engine: AES-GCM agrees with the published vectors", "[esp]") {
  for (const char* file : {"aes_gcm.txt", "aes_gcm_esp.txt"}) {
    for (const auto& vector : read_vectors(file)) {
      const Buffer key = vector.bytes("key");
      const EspSuite suite = gcm(static_cast<std::uint16_t>(key.size() * 8));
      for (const auto& engine : engines()) {
        INFO(engine->name() << ", " << file << ", plaintext " << vector.text("plaintext"));
        const auto expanded = expand(*engine, suite, key);
        Packet packet(*expanded, vector.bytes("nonce"), vector.bytes("aad"),
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
  }
}

TEST_CASE("esp engine: IPsec-MB and OpenSSL agree at every length, key size and header", "[esp]") {
  const auto fast = make_ipsec_mb_engine();
  const auto slow = make_openssl_engine();
  if (fast == nullptr) {
    WARN("this machine has no AES-NI: nothing to compare");
    return;
  }
  Dice dice(20);
  for (const std::uint16_t bits : kKeyBits) {
    const EspSuite suite = gcm(bits);
    const Buffer key = dice.bytes(bits / 8);
    const auto fast_key = expand(*fast, suite, key);
    const auto slow_key = expand(*slow, suite, key);
    for (std::size_t size = 0; size <= 2100; ++size) {
      const Buffer plain = dice.bytes(size);
      const Buffer nonce = dice.bytes(12);
      const Buffer aad = dice.bytes(size % 2 == 0 ? 8 : 12);
      Packet ours(*fast_key, nonce, aad, plain);
      Packet theirs(*slow_key, nonce, aad, plain);
      seal_one(*fast, suite, ours);
      seal_one(*slow, suite, theirs);
      INFO(bits << " bits, " << size << " bytes");
      REQUIRE(ours.memory == theirs.memory);
      open_one(*fast, suite, ours);
      open_one(*slow, suite, theirs);
      REQUIRE(ours.verified());
      REQUIRE(theirs.verified());
      REQUIRE(test::copy(ours.text()) == plain);
      REQUIRE(ours.memory == theirs.memory);
    }
  }
}

TEST_CASE("esp engine: bursts with keys that differ from packet to packet agree with OpenSSL",
          "[esp]") {
  const auto fast = make_engine();
  const auto slow = make_openssl_engine();
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  Dice dice(seed);
  for (int round = 0; round < 60; ++round) {
    const std::uint16_t bits = kKeyBits[dice.up_to(2)];
    const EspSuite suite = gcm(bits);
    std::vector<std::unique_ptr<ExpandedKey>> keys;
    std::vector<Packet> ours;
    std::vector<Packet> theirs;
    std::vector<Buffer> plain;
    const std::size_t count = dice.up_to(64);
    for (std::size_t i = 0; i < count; ++i) {
      if (keys.empty() || dice.up_to(1) == 0) {
        const Buffer key = dice.bytes(bits / 8);
        keys.push_back(expand(*fast, suite, key));
        keys.push_back(expand(*slow, suite, key));
      }
      plain.push_back(dice.bytes(dice.up_to(1500)));
      const Buffer nonce = dice.bytes(12);
      const Buffer aad = dice.bytes(dice.up_to(1) == 0 ? 8 : 12);
      ours.emplace_back(*keys[keys.size() - 2], nonce, aad, plain.back());
      theirs.emplace_back(*keys[keys.size() - 1], nonce, aad, plain.back());
    }
    std::vector<Operation> our_burst;
    std::vector<Operation> their_burst;
    for (Packet& packet : ours) our_burst.push_back(packet.operation());
    for (Packet& packet : theirs) their_burst.push_back(packet.operation());
    fast->seal(suite, our_burst);
    slow->seal(suite, their_burst);
    for (std::size_t i = 0; i < count; ++i) {
      INFO("round " << round << ", packet " << i << " of " << count);
      REQUIRE(ours[i].memory == theirs[i].memory);
    }
    our_burst.clear();
    for (Packet& packet : ours) our_burst.push_back(packet.open_operation());
    fast->open(suite, our_burst);
    for (std::size_t i = 0; i < count; ++i) {
      INFO("round " << round << ", packet " << i << " of " << count);
      REQUIRE(ours[i].verified());
      REQUIRE(test::copy(ours[i].text()) == plain[i]);
      REQUIRE(ours[i].canaries_alive());
    }
  }
}

TEST_CASE("esp engine: a bit flipped anywhere yields another ICV", "[esp]") {
  Dice dice(21);
  for (const auto& engine : engines()) {
    for (const std::uint16_t bits : kKeyBits) {
      const EspSuite suite = gcm(bits);
      const auto key = expand(*engine, suite, dice.bytes(bits / 8));
      for (const std::size_t aad_size : {8U, 12U}) {
        Packet sealed(*key, dice.bytes(12), dice.bytes(aad_size), dice.bytes(70));
        seal_one(*engine, suite, sealed);
        const auto check_flips = [&](Buffer Packet::* region, std::size_t size, const char* what) {
          for (std::size_t bit = 0; bit < 8 * size; ++bit) {
            Packet tampered = sealed;
            (tampered.*region)[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
            open_one(*engine, suite, tampered);
            INFO(engine->name() << ", " << bits << " bits: bit " << bit << " of the " << what);
            REQUIRE_FALSE(tampered.verified());
          }
        };
        check_flips(&Packet::nonce, 12, "nonce");
        check_flips(&Packet::aad, aad_size, "header");
        check_flips(&Packet::memory, 70 + kIcvBytes, "text and ICV");
        Packet untouched = sealed;
        open_one(*engine, suite, untouched);
        CHECK(untouched.verified());
      }
    }
  }
}

TEST_CASE("esp engine: the high half of an extended sequence number is authenticated", "[esp]") {
  // RFC 4106 §5: it is not on the wire, so a receiver that guesses it wrong must see a wrong ICV.
  const auto engine = make_engine();
  const EspSuite suite = gcm(128);
  const auto key = expand(*engine, suite, Buffer(16, 7));
  Buffer aad{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9};
  Packet packet(*key, Buffer(12, 3), aad, Buffer(40, 5));
  seal_one(*engine, suite, packet);
  packet.aad[7] = 1;
  open_one(*engine, suite, packet);
  CHECK_FALSE(packet.verified());
}

TEST_CASE("esp engine: a key expanded by one engine serves another of its kind", "[esp]") {
  // The control thread expands; each worker seals and opens with an engine of its own.
  const std::unique_ptr<Engine> kinds[][2] = {{make_openssl_engine(), make_openssl_engine()},
                                              {make_engine(), make_engine()}};
  for (const auto& [control, worker] : kinds) {
    const EspSuite suite = gcm(256);
    const auto key = expand(*control, suite, Buffer(32, 9));
    Packet packet(*key, Buffer(12, 1), Buffer(8, 2), Buffer(100, 3));
    seal_one(*control, suite, packet);
    open_one(*worker, suite, packet);
    CHECK(packet.verified());
  }
}

TEST_CASE("esp engine: an empty burst is nothing", "[esp]") {
  for (const auto& engine : engines()) {
    engine->seal(gcm(128), {});
    engine->open(gcm(128), {});
  }
  SUCCEED();
}

TEST_CASE("esp engine: suites and key sizes that do not fit are refused", "[esp]") {
  for (const auto& engine : engines()) {
    INFO(engine->name());
    ExpandedKey key{};
    for (const std::uint16_t bits : kKeyBits) {
      const EspSuite suite = gcm(bits);
      CHECK(engine->supports(suite));
      const std::size_t right = bits / 8U;
      for (const std::size_t size : {std::size_t{0}, right - 1, right + 1, right + 4}) {
        const auto expanded = engine->expand(suite, Buffer(size, 1), key);
        REQUIRE_FALSE(expanded.has_value());
        CHECK(expanded.error() == KeyError::wrong_key_size);
      }
    }
    const EspSuite unsupported[] = {{},
                                    gcm(0),
                                    gcm(129),
                                    {Encryption::aes_gcm_16, 128, Integrity::hmac_sha2_256_128},
                                    {Encryption::aes_cbc, 128, Integrity::hmac_sha2_256_128}};
    for (const EspSuite& suite : unsupported) {
      CHECK_FALSE(engine->supports(suite));
      const auto expanded = engine->expand(suite, Buffer(16, 1), key);
      REQUIRE_FALSE(expanded.has_value());
      CHECK(expanded.error() == KeyError::unsupported_suite);
    }
  }
}

TEST_CASE("esp engine: every suite that the table marks for ESP is one the engines run", "[esp]") {
  for (const auto& engine : engines()) {
    for (const EncryptionInfo& cipher : encryptions()) {
      if (!cipher.aead) continue;
      for (const std::uint16_t bits : cipher.key_bits) {
        CHECK(engine->supports({cipher.id, bits, Integrity::none}) == cipher.esp);
      }
    }
  }
}

TEST_CASE("esp engine: names say the library and its version", "[esp]") {
  CHECK_THAT(std::string(make_openssl_engine()->name()), Catch::StartsWith("openssl 3."));
  if (const auto engine = make_ipsec_mb_engine()) {
    CHECK_THAT(std::string(engine->name()), Catch::StartsWith("ipsec-mb 1."));
    CHECK(make_engine()->name() == engine->name());
  }
}
