// IKE's cryptography on OpenSSL 3: PRF and prf+, Diffie-Hellman, the SK payload's protection,
// random bytes. No state beyond what is returned; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "crypto/secret.hpp"
#include "crypto/suite.hpp"

namespace culvert::crypto::ike {

struct CryptoError {
  std::string what;  ///< what failed, in words; never key material
};
template <typename T>
using Result = std::expected<T, CryptoError>;

/// A source of unpredictable bytes; tests own a seeded one.
class Random {
 public:
  virtual ~Random() = default;
  virtual void fill(MutableBytes out) = 0;
};
/// OpenSSL's generator. Aborts the process if it fails: nothing sensible can go on.
std::unique_ptr<Random> make_system_random();
/// Deterministic, for tests and the simulator only: same seed, same bytes.
std::unique_ptr<Random> make_seeded_random(std::uint64_t seed);

/// prf(key, data) with data given in pieces (RFC 7296 §2.13).
Result<SecretBytes> prf(Prf id, Bytes key, std::span<const Bytes> data);
/// prf+(key, seed), `length` bytes (RFC 7296 §2.13).
Result<SecretBytes> prf_plus(Prf id, Bytes key, Bytes seed, std::size_t length);

/// One side's ephemeral key of a group.
class KeyExchange {
 public:
  virtual ~KeyExchange() = default;
  [[nodiscard]] virtual Group group() const = 0;
  /// What goes into the KE payload (RFC 7296 §3.4; x||y for ECP: RFC 5903 §7; RFC 8031).
  [[nodiscard]] virtual const std::vector<std::uint8_t>& public_value() const = 0;
  /// g^ir. Peer values are checked (RFC 6989): length, on the curve, not 0/1/p-1, not all-zero
  /// result for X25519.
  [[nodiscard]] virtual Result<SecretBytes> shared_secret(Bytes peer_public) const = 0;
  /// What `restore_key_exchange` makes the same key of; empty when OpenSSL fails.
  [[nodiscard]] virtual SecretBytes private_key() const = 0;
};
/// With `random` the private key is drawn from it (so that simulations replay exactly).
Result<std::unique_ptr<KeyExchange>> generate_key_exchange(Group group, Random& random);
/// The key of an earlier life of this process. The error: the bytes are no private key of `group`.
Result<std::unique_ptr<KeyExchange>> restore_key_exchange(Group group, Bytes private_key);

/// How far the IVs of one direction have come: the next seal uses `first_iv + seals`. Zero seals:
/// none was drawn yet. Random IVs (AES-CBC) have no position.
struct IvPosition {
  std::uint64_t first_iv = 0;
  std::uint64_t seals = 0;
  friend bool operator==(const IvPosition&, const IvPosition&) = default;
};

/// Protects one direction of an IKE SA's SK payloads (RFC 7296 §3.14, RFC 5282 for AES-GCM, RFC 7634).
/// Layout: | IV | ciphertext (data, padding, pad length) | ICV |.
/// The AES-GCM IV counts up from a point drawn from `random` at the first seal. An IKE SA resumed
/// from a checkpoint goes on at the position on record: no IV is used twice under one key.
class Protector {
 public:
  virtual ~Protector() = default;
  [[nodiscard]] virtual std::size_t iv_bytes() const = 0;
  [[nodiscard]] virtual std::size_t icv_bytes() const = 0;
  /// Bytes of IV + padded ciphertext + ICV for `plain_bytes` of inner payloads.
  [[nodiscard]] virtual std::size_t sealed_bytes(std::size_t plain_bytes) const = 0;
  /// `associated`: the IKE header up to and including the SK payload's generic header. For
  /// AES-CBC+HMAC it is what the ICV covers in front of the IV. Writes sealed_bytes() into `out`.
  [[nodiscard]] virtual Result<void> seal(Bytes associated, Bytes plain, Random& random,
                                          MutableBytes out) = 0;
  /// The inner payloads without padding; an error when the ICV is wrong or the padding impossible.
  [[nodiscard]] virtual Result<SecretBytes> open(Bytes associated, Bytes sealed) const = 0;

  /// What it was made with, for a checkpoint.
  [[nodiscard]] virtual Bytes encryption_key() const = 0;
  [[nodiscard]] virtual Bytes integrity_key() const = 0;
  [[nodiscard]] virtual IvPosition iv_position() const { return {}; }
  virtual void resume_at(IvPosition) {}
};
/// `encryption_key` includes the 4-byte salt for AES-GCM; `integrity_key` is empty for AEAD.
Result<std::unique_ptr<Protector>> make_protector(const IkeSuite& suite, Bytes encryption_key,
                                                  Bytes integrity_key);
/// Bytes of SK_e (with salt) and SK_a for a suite.
std::size_t protector_key_bytes(const IkeSuite& suite);
std::size_t protector_integrity_key_bytes(const IkeSuite& suite);

/// SHA-1 over pieces, only for NAT detection hashes (RFC 7296 §2.23) — no security rests on it.
std::array<std::uint8_t, 20> sha1(std::span<const Bytes> data);
/// SHA-256 over pieces (cookies, key fingerprints in tests).
std::array<std::uint8_t, 32> sha256(std::span<const Bytes> data);

}  // namespace culvert::crypto::ike
