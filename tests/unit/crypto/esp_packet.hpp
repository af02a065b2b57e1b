// An ESP packet with memory of its own, for tests of crypto::esp::Engine, and dice for its
// contents.
#pragma once

#include <algorithm>
#include <random>

#include <catch2/catch.hpp>

#include "crypto/esp/esp_crypto.hpp"
#include "crypto/esp/transform.hpp"
#include "vectors.hpp"

namespace culvert::crypto::test {

inline std::vector<std::unique_ptr<esp::Engine>> engines() {
  std::vector<std::unique_ptr<esp::Engine>> all;
  all.push_back(esp::make_openssl_engine());
  if (auto engine = esp::make_ipsec_mb_engine()) all.push_back(std::move(engine));
  return all;
}

/// | canaries | SPI | seq | IV | text | ICV | canaries |
struct Packet {
  static constexpr std::size_t kCanaries = 32, kHeaderBytes = 8;
  static constexpr std::uint8_t kCanary = 0xC5;

  /// `nonce`: salt and IV; for AES-CBC the block that becomes the IV. `aad`: of 8 or 12 bytes, SPI
  /// and sequence number of the packet.
  Packet(const esp::Form& form_of_packet, const esp::ExpandedKey& key, Buffer nonce_bytes,
         Buffer aad_bytes, Bytes text_bytes)
      : form(form_of_packet),
        expanded(&key),
        nonce(std::move(nonce_bytes)),
        aad(std::move(aad_bytes)),
        size(text_bytes.size()) {
    memory.assign(kCanaries, kCanary);
    Buffer header(kHeaderBytes);
    if (aad.size() >= kHeaderBytes) {
      std::copy_n(aad.begin(), 4, header.begin());
      std::copy_n(aad.end() - 4, 4, header.begin() + 4);
    }
    memory.insert(memory.end(), header.begin(), header.end());
    memory.insert(memory.end(), nonce.end() - form.iv_bytes, nonce.end());
    memory.insert(memory.end(), text_bytes.begin(), text_bytes.end());
    memory.resize(memory.size() + form.icv_bytes);
    memory.resize(memory.size() + kCanaries, kCanary);
  }

  [[nodiscard]] std::size_t text_at() const { return kCanaries + kHeaderBytes + form.iv_bytes; }
  esp::Operation operation() {
    return {.key = expanded,
            .text = memory.data() + text_at(),
            .nonce = nonce.data(),
            .aad = aad.data(),
            .icv = memory.data() + text_at() + size,
            .text_bytes = static_cast<std::uint32_t>(size),
            .aad_bytes = static_cast<std::uint8_t>(aad.size())};
  }
  /// For `open`: the computed ICV goes beside, so that the received one stays to be compared.
  esp::Operation open_operation() {
    esp::Operation opened = operation();
    opened.icv = computed_icv.data();
    return opened;
  }
  [[nodiscard]] Bytes text() const { return Bytes(memory).subspan(text_at(), size); }
  [[nodiscard]] Bytes iv() const {
    return Bytes(memory).subspan(kCanaries + kHeaderBytes, form.iv_bytes);
  }
  [[nodiscard]] Bytes icv() const {
    return Bytes(memory).subspan(text_at() + size, form.icv_bytes);
  }
  [[nodiscard]] bool verified() const {
    return equal_constant_time(icv(), Bytes(computed_icv).first(form.icv_bytes));
  }
  [[nodiscard]] bool canaries_alive() const {
    const auto alive = [](Bytes bytes) {
      return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == kCanary; });
    };
    return alive(Bytes(memory).first(kCanaries)) && alive(Bytes(memory).last(kCanaries)) &&
           alive(Bytes(computed_icv).subspan(form.icv_bytes));
  }

  esp::Form form;
  const esp::ExpandedKey* expanded;
  Buffer nonce;
  Buffer aad;
  Buffer memory;
  std::array<std::uint8_t, esp::kMaxIcvBytes> computed_icv = canaries();
  std::size_t size;

 private:
  static std::array<std::uint8_t, esp::kMaxIcvBytes> canaries() {
    std::array<std::uint8_t, esp::kMaxIcvBytes> bytes;
    bytes.fill(kCanary);
    return bytes;
  }
};

inline std::unique_ptr<esp::ExpandedKey> expand(const esp::Engine& engine, const EspSuite& suite,
                                                Bytes key) {
  auto expanded = std::make_unique<esp::ExpandedKey>();
  REQUIRE(engine.expand(suite, key, *expanded).has_value());
  return expanded;
}

inline void seal_one(esp::Engine& engine, const EspSuite& suite, Packet& packet) {
  const esp::Operation operation = packet.operation();
  engine.seal(suite, std::span(&operation, 1));
}
inline void open_one(esp::Engine& engine, const EspSuite& suite, Packet& packet) {
  const esp::Operation operation = packet.open_operation();
  engine.open(suite, std::span(&operation, 1));
}

/// What `expand` takes for a suite.
inline std::size_t key_bytes(const EspSuite& suite) {
  return suite.encryption_key_bytes() + suite.integrity_key_bytes();
}
/// Bytes of a Packet's `nonce`.
inline std::size_t nonce_bytes(const esp::Form& form) {
  return std::size_t{form.salt_bytes} + form.iv_bytes;
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

}  // namespace culvert::crypto::test
