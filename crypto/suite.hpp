// The one table of algorithms: names as operators write them, IKE numbers, key and tag sizes.
// Algorithms that RFC 8221 and RFC 8247 forbid are not in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace culvert::crypto {

/// Encryption transforms (IKE transform type 1). Values are the IANA transform IDs.
enum class Encryption : std::uint16_t {
  none = 0,
  null = 11,
  aes_cbc = 12,
  aes_ctr = 13,
  aes_ccm_8 = 14,
  aes_ccm_16 = 16,
  aes_gcm_16 = 20,
  null_aes_gmac = 21,
  chacha20_poly1305 = 28,
};
/// Integrity transforms (type 3).
enum class Integrity : std::uint16_t {
  none = 0,
  hmac_sha1_96 = 2,
  hmac_sha2_256_128 = 12,
  hmac_sha2_384_192 = 13,
  hmac_sha2_512_256 = 14,
};
/// Pseudo-random functions (type 2).
enum class Prf : std::uint16_t {
  none = 0,
  hmac_sha2_256 = 5,
  hmac_sha2_384 = 6,
  hmac_sha2_512 = 7
};
/// Key exchange groups (type 4).
enum class Group : std::uint16_t {
  none = 0,
  modp2048 = 14,
  modp3072 = 15,
  modp4096 = 16,
  modp6144 = 17,
  modp8192 = 18,
  ecp256 = 19,
  ecp384 = 20,
  ecp521 = 21,
  x25519 = 31,
  x448 = 32,
};

struct EncryptionInfo {
  Encryption id;
  std::string_view name;     ///< without key length: "aes", "aesgcm16"
  bool aead;                 ///< carries its own integrity
  std::uint8_t salt_bytes;   ///< implicit nonce part from KEYMAT (RFC 4106 §8.1)
  std::uint8_t iv_bytes;     ///< explicit IV on the wire
  std::uint8_t icv_bytes;    ///< tag, AEAD only
  std::uint8_t block_bytes;  ///< payload alignment needed by the cipher (1 for counter modes)
  std::span<const std::uint16_t> key_bits;  ///< permitted key lengths; 0: takes no key
  bool one_key_length;  ///< IKE carries no key length attribute (RFC 7296 §3.3.5), the name no bits
  bool esp;             ///< the ESP engines run it
  bool ike;             ///< the IKE SA runs it
};
struct IntegrityInfo {
  Integrity id;
  std::string_view name;  ///< "sha256", …
  std::uint8_t key_bytes;
  std::uint8_t icv_bytes;
  bool esp;  ///< the ESP engines run it
  bool ike;  ///< the IKE SA runs it
};
struct PrfInfo {
  Prf id;
  std::string_view name;  ///< "prfsha256", …
  std::uint8_t output_bytes;
  std::uint8_t key_bytes;  ///< preferred key length
};
struct GroupInfo {
  Group id;
  std::string_view name;       ///< "ecp256", "x25519", "modp2048", …
  std::uint16_t public_bytes;  ///< length of the KE payload's data
};

/// Rows of the table; nullptr for what we do not have.
const EncryptionInfo* find(Encryption id);
const IntegrityInfo* find(Integrity id);
const PrfInfo* find(Prf id);
const GroupInfo* find(Group id);
std::span<const EncryptionInfo> encryptions();
std::span<const IntegrityInfo> integrities();
std::span<const PrfInfo> prfs();
std::span<const GroupInfo> groups();

/// The PRF that comes with an integrity algorithm when an IKE proposal names none: the same hash.
Prf implied_prf(Integrity id);

/// What one child SA runs with. Trivially copyable: it crosses the channel.
struct EspSuite {
  Encryption encryption = Encryption::none;
  std::uint16_t key_bits = 0;
  Integrity integrity = Integrity::none;

  friend bool operator==(const EspSuite&, const EspSuite&) = default;
  [[nodiscard]] std::string name() const;  ///< "aes256gcm16", "aes128-sha256"
  /// Bytes of KEYMAT one direction takes: cipher key, salt, integrity key (RFC 7296 §2.17).
  [[nodiscard]] std::size_t keymat_bytes() const;
  [[nodiscard]] std::size_t encryption_key_bytes() const { return key_bits / 8U; }
  [[nodiscard]] std::size_t integrity_key_bytes() const;
};

/// What one IKE SA runs with.
struct IkeSuite {
  Encryption encryption = Encryption::none;
  std::uint16_t key_bits = 0;
  Integrity integrity = Integrity::none;
  Prf prf = Prf::none;
  Group group = Group::none;

  friend bool operator==(const IkeSuite&, const IkeSuite&) = default;
  [[nodiscard]] std::string name() const;  ///< "aes256gcm16-prfsha384-ecp384"
};

/// A configured proposal: alternatives of each transform type, in the order written.
/// "aes256gcm16-prfsha384-ecp384", "aes128-aes256-sha256-modp2048", ESP "aes256gcm16-ecp384".
struct Proposal {
  struct Cipher {
    Encryption id;
    std::uint16_t key_bits;
    friend bool operator==(const Cipher&, const Cipher&) = default;
  };
  std::vector<Cipher> encryption;
  std::vector<Integrity> integrity;  ///< empty for AEAD
  std::vector<Prf> prf;              ///< IKE only; derived from integrity when not written
  std::vector<Group> groups;         ///< ESP: none means no PFS
  bool esn = true;                   ///< ESP: offer extended sequence numbers ("noesn" turns off)
  bool no_esn = true;  ///< ESP: offer 32-bit sequence numbers too ("esn" alone turns off)
  friend bool operator==(const Proposal&, const Proposal&) = default;
  [[nodiscard]] std::string to_string() const;
};

/// Why a proposal word was refused, and what to write instead.
struct ProposalError {
  std::string word;      ///< the offending part
  std::size_t offset;    ///< bytes from the start of the text
  std::string problem;   ///< "unknown algorithm", "weak: RFC 8221 forbids it", "mixes AEAD with …"
  std::string expected;  ///< what could stand there
};
std::expected<Proposal, ProposalError> parse_ike_proposal(std::string_view text);
std::expected<Proposal, ProposalError> parse_esp_proposal(std::string_view text);

}  // namespace culvert::crypto
