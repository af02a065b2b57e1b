// Both engines against each other, over every suite: lengths, bursts, tampering, refusals.
#include <bit>

#include "esp_packet.hpp"
#include "tests/random_seed.hpp"

using namespace culvert::crypto;
using namespace culvert::crypto::esp;
using namespace culvert::crypto::test;

namespace {

constexpr std::uint16_t kKeyBits[] = {128, 192, 256};

EspSuite gcm(std::uint16_t key_bits) { return {Encryption::aes_gcm_16, key_bits, Integrity::none}; }

/// AEADs take their header from `aad` and `nonce`; the others from the packet's bytes.
bool authenticates_packet_bytes(const EspSuite& suite) {
  return suite.integrity != Integrity::none || suite.encryption == Encryption::null_aes_gmac;
}

/// Two packets alike, one for each engine.
struct Twins {
  Packet ours, theirs;
};

}  // namespace

TEST_CASE("esp engine: IPsec-MB and OpenSSL agree for every suite, length and header", "[esp]") {
  const auto fast = make_ipsec_mb_engine();
  const auto slow = make_openssl_engine();
  if (fast == nullptr) {
    WARN("this machine has no AES-NI: nothing to compare");
    return;
  }
  Dice dice(20);
  for (const Transform& transform : kTransforms) {
    const auto& [suite, form] = transform;
    const Buffer key = dice.bytes(key_bytes(suite));
    const auto fast_key = expand(*fast, suite, key);
    const auto slow_key = expand(*slow, suite, key);
    // AES-GCM takes any length, an empty text too; each length of a long packet's tail once.
    const bool is_gcm = suite.encryption == Encryption::aes_gcm_16;
    const std::size_t step = is_gcm ? 1 : form.alignment;
    for (std::size_t size = is_gcm ? 0 : step; size <= 2100; size += size < 600 ? step : 9 * step) {
      const Buffer plain = dice.bytes(size);
      const Buffer nonce = dice.bytes(nonce_bytes(form));
      const Buffer aad = dice.bytes(size / step % 2 == 0 ? 8 : 12);
      Packet ours(form, *fast_key, nonce, aad, plain);
      Packet theirs(form, *slow_key, nonce, aad, plain);
      seal_one(*fast, suite, ours);
      seal_one(*slow, suite, theirs);
      INFO(suite.name() << ", " << size << " bytes");
      REQUIRE(ours.memory == theirs.memory);
      const Buffer sealed = ours.memory;
      open_one(*fast, suite, ours);
      open_one(*slow, suite, theirs);
      REQUIRE(ours.verified());
      REQUIRE(theirs.verified());
      REQUIRE(test::copy(ours.text()) == plain);
      REQUIRE(ours.memory == theirs.memory);
      REQUIRE(ours.canaries_alive());
      REQUIRE(theirs.canaries_alive());
      // What is not text is as it was: the engines may borrow bytes, not keep them.
      REQUIRE(std::equal(sealed.begin(),
                         sealed.begin() + static_cast<std::ptrdiff_t>(ours.text_at()),
                         ours.memory.begin()));
    }
  }
}

TEST_CASE("esp engine: bursts with keys that differ from packet to packet agree with OpenSSL",
          "[esp]") {
  const auto fast = make_engine();
  const auto slow = make_openssl_engine();
  const std::uint64_t seed = culvert::test::random_seed();
  INFO("seed " << seed);
  Dice dice(seed);
  for (std::size_t round = 0; round < 4 * kTransforms.size(); ++round) {
    const auto& [suite, form] = kTransforms[round % kTransforms.size()];
    std::vector<std::unique_ptr<ExpandedKey>> keys;
    std::vector<Twins> packets;
    std::vector<Buffer> plain;
    const std::size_t count = dice.up_to(round % 3 == 0 ? 200 : 64);
    for (std::size_t i = 0; i < count; ++i) {
      if (keys.empty() || dice.up_to(1) == 0) {
        const Buffer key = dice.bytes(key_bytes(suite));
        keys.push_back(expand(*fast, suite, key));
        keys.push_back(expand(*slow, suite, key));
      }
      plain.push_back(dice.bytes((1 + dice.up_to(1500 / form.alignment)) * form.alignment));
      const Buffer nonce = dice.bytes(nonce_bytes(form));
      const Buffer aad = dice.bytes(dice.up_to(1) == 0 ? 8 : 12);
      packets.push_back({Packet(form, *keys[keys.size() - 2], nonce, aad, plain.back()),
                         Packet(form, *keys[keys.size() - 1], nonce, aad, plain.back())});
    }
    std::vector<Operation> our_burst;
    std::vector<Operation> their_burst;
    for (Twins& twins : packets) {
      our_burst.push_back(twins.ours.operation());
      their_burst.push_back(twins.theirs.operation());
    }
    fast->seal(suite, our_burst);
    slow->seal(suite, their_burst);
    INFO(suite.name() << ", round " << round << ", " << count << " packets");
    for (Twins& twins : packets) REQUIRE(twins.ours.memory == twins.theirs.memory);
    our_burst.clear();
    for (Twins& twins : packets) our_burst.push_back(twins.ours.open_operation());
    fast->open(suite, our_burst);
    for (std::size_t i = 0; i < count; ++i) {
      REQUIRE(packets[i].ours.verified());
      REQUIRE(test::copy(packets[i].ours.text()) == plain[i]);
      REQUIRE(packets[i].ours.canaries_alive());
    }
  }
}

TEST_CASE("esp engine: a bit flipped anywhere yields another ICV", "[esp]") {
  Dice dice(21);
  for (const auto& engine : engines()) {
    for (const auto& [suite, form] : kTransforms) {
      const auto key = expand(*engine, suite, dice.bytes(key_bytes(suite)));
      for (const std::size_t aad_size : {8U, 12U}) {
        constexpr std::size_t kText = 48;
        Packet sealed(form, *key, dice.bytes(nonce_bytes(form)), dice.bytes(aad_size),
                      dice.bytes(kText));
        seal_one(*engine, suite, sealed);
        const auto check_flips = [&](Buffer Packet::* region, std::size_t from, std::size_t to,
                                     const char* what) {
          for (std::size_t bit = 8 * from; bit < 8 * to; ++bit) {
            Packet tampered = sealed;
            (tampered.*region)[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
            open_one(*engine, suite, tampered);
            INFO(engine->name() << ", " << suite.name() << ": bit " << bit << " of " << what);
            REQUIRE_FALSE(tampered.verified());
          }
        };
        const std::size_t end = sealed.text_at() + kText + form.icv_bytes;
        if (authenticates_packet_bytes(suite)) {
          check_flips(&Packet::memory, Packet::kCanaries, end, "the packet");
          // RFC 4303 §2.2.1: the high half of the sequence number, which is not in the packet.
          if (aad_size == 12) check_flips(&Packet::aad, 4, 8, "the ESN's high half");
        } else {
          check_flips(&Packet::nonce, 0, nonce_bytes(form), "the nonce");
          check_flips(&Packet::aad, 0, aad_size, "the header");
          check_flips(&Packet::memory, sealed.text_at(), end, "text and ICV");
        }
        Packet untouched = sealed;
        open_one(*engine, suite, untouched);
        CHECK(untouched.verified());
      }
    }
  }
}

TEST_CASE("esp engine: AES-CBC makes an unpredictable IV of each counter (RFC 3602 §3)", "[esp]") {
  for (const auto& engine : engines()) {
    for (const std::uint16_t bits : kKeyBits) {
      const EspSuite suite{Encryption::aes_cbc, bits, Integrity::hmac_sha2_256_128};
      const Form form = transform(*find_transform(suite)).form;
      const auto key = expand(*engine, suite, Buffer(key_bytes(suite), 7));
      std::vector<Buffer> ivs;
      for (std::uint8_t counter = 0; counter < 64; ++counter) {
        Buffer block(16, 0);
        block[15] = counter;
        Packet packet(form, *key, block, Buffer(8, 1), Buffer(32, 2));
        seal_one(*engine, suite, packet);
        ivs.push_back(test::copy(packet.iv()));
        CHECK(ivs.back() != block);
        // As from a random function: half of the bits differ from the neighbour's.
        if (ivs.size() < 2) continue;
        int different = 0;
        for (std::size_t i = 0; i < 16; ++i) {
          different += std::popcount(static_cast<unsigned>(ivs.back()[i] ^ ivs[ivs.size() - 2][i]));
        }
        CHECK((different > 24 && different < 104));
      }
      std::ranges::sort(ivs);
      CHECK(std::ranges::adjacent_find(ivs) == ivs.end());
    }
  }
}

TEST_CASE("esp engine: a key expanded by one engine serves another of its kind", "[esp]") {
  // The control thread expands; each worker seals and opens with an engine of its own.
  const std::unique_ptr<Engine> kinds[][2] = {{make_openssl_engine(), make_openssl_engine()},
                                              {make_engine(), make_engine()}};
  for (const auto& [control, worker] : kinds) {
    for (const auto& [suite, form] : kTransforms) {
      const auto key = expand(*control, suite, Buffer(key_bytes(suite), 9));
      Packet packet(form, *key, Buffer(nonce_bytes(form), 1), Buffer(8, 2), Buffer(112, 3));
      seal_one(*control, suite, packet);
      open_one(*worker, suite, packet);
      INFO(suite.name());
      CHECK(packet.verified());
    }
  }
}

TEST_CASE("esp engine: an empty burst is nothing", "[esp]") {
  for (const auto& engine : engines()) {
    for (const auto& [suite, form] : kTransforms) {
      engine->seal(suite, {});
      engine->open(suite, {});
    }
  }
  SUCCEED();
}

TEST_CASE("esp engine: suites and key sizes that do not fit are refused", "[esp]") {
  for (const auto& engine : engines()) {
    INFO(engine->name());
    ExpandedKey key{};
    for (const auto& [suite, form] : kTransforms) {
      CHECK(engine->supports(suite));
      const std::size_t right = key_bytes(suite);
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
                                    {Encryption::aes_cbc, 128, Integrity::none},
                                    {Encryption::null, 0, Integrity::none},
                                    {Encryption::aes_ctr, 128, Integrity::none},
                                    {Encryption::aes_ccm_16, 192, Integrity::none},
                                    {Encryption::chacha20_poly1305, 128, Integrity::none}};
    for (const EspSuite& suite : unsupported) {
      CHECK_FALSE(engine->supports(suite));
      const auto expanded = engine->expand(suite, Buffer(16, 1), key);
      REQUIRE_FALSE(expanded.has_value());
      CHECK(expanded.error() == KeyError::unsupported_suite);
    }
  }
}

TEST_CASE("esp engine: every row that the table marks for ESP is in a suite the engines run",
          "[esp]") {
  for (const auto& engine : engines()) {
    for (const EncryptionInfo& cipher : encryptions()) {
      for (const std::uint16_t bits : cipher.key_bits) {
        if (cipher.aead) CHECK(engine->supports({cipher.id, bits, Integrity::none}) == cipher.esp);
        for (const IntegrityInfo& integrity : integrities()) {
          const bool wanted = !cipher.aead && cipher.esp && integrity.esp;
          CHECK(engine->supports({cipher.id, bits, integrity.id}) == wanted);
        }
      }
    }
  }
}

TEST_CASE("esp engine: names say the library and its version", "[esp]") {
  CHECK_THAT(std::string(make_openssl_engine()->name()), Catch::StartsWith("openssl 3."));
  if (const auto engine = make_ipsec_mb_engine()) {
    CHECK_THAT(std::string(engine->name()), Catch::StartsWith("ipsec-mb "));
    CHECK(make_engine()->name() == engine->name());
  }
}
