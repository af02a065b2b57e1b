// ESP's cryptography: seal and open bursts of packets. IPsec-MB does the work; the same two calls
// are served by OpenSSL where IPsec-MB cannot run and as an independent oracle in tests.
// Layout of a packet handed in (RFC 4303 §2, RFC 4106 §3 for GCM); transform.hpp has the sizes:
//   esp → | SPI | seq | IV | payload, padding, pad length, next header | ICV |
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string_view>

#include "crypto/secret.hpp"
#include "crypto/suite.hpp"

namespace culvert::crypto::esp {

/// Bytes an expanded key takes in `KeyTable` memory; cache-line multiple, 64-byte aligned.
#ifdef CULVERT_EXPANDED_KEY_BYTES  // the build has asked a library whose keys are larger
inline constexpr std::size_t kExpandedKeyBytes = CULVERT_EXPANDED_KEY_BYTES;
#else
inline constexpr std::size_t kExpandedKeyBytes = 1024;
#endif

/// A key schedule in place. Opaque bytes owned by the caller (huge pages in the data plane);
/// written by `Engine::expand`, read by any worker, wiped by the caller.
struct alignas(64) ExpandedKey {
  std::uint8_t bytes[kExpandedKeyBytes];
};

/// One packet of a burst. Plain pointers because this is the packet path; the caller guarantees
/// that they lie inside one contiguous buffer, and that the ICV's place is behind `text`. `aad` is
/// 8 bytes (SPI, seq) or 12 (SPI, ESN high, low: RFC 4106 §5); `nonce` is salt and IV in memory of
/// its own, written well before the call (a late store costs a failed store-forward). A suite with
/// HMAC, and AES-GMAC, authenticate the ESP header and IV, which stand in front of `text`, and take
/// the ESN's high half from a 12-byte `aad`; four bytes in front of the header and four behind
/// `text` may be changed and are put back. AES-CBC reads no `nonce`: its IV stands in front of
/// `text`; `seal` expects there a block that no other packet has under this key, and makes the IV
/// of it (RFC 3602 §3: unpredictable).
struct Operation {
  const ExpandedKey* key;
  std::uint8_t* text;         ///< first byte after the IV; sealed or opened in place
  const std::uint8_t* nonce;  ///< 12 bytes, of AES-CCM 11; AES-CBC and NULL have none
  const std::uint8_t* aad;
  std::uint8_t* icv;  ///< seal: written on the wire; open: computed tag goes here, not compared
  std::uint32_t text_bytes;
  std::uint8_t aad_bytes;
};

/// The longest ICV of any suite: room for `Operation::icv` (AES-GCM writes 16 bytes).
inline constexpr std::size_t kMaxIcvBytes = 32;

/// Why a key was not expanded.
enum class KeyError : std::uint8_t { unsupported_suite, wrong_key_size };

/// One per worker (IPsec-MB's manager is not shared between threads). `seal` and `open` do no
/// allocation, locking or system calls. All operations of a burst use one suite, which the engine
/// must support, and keys that were expanded for it; they may differ from packet to packet.
/// An engine that cannot go on (an unsupported suite, a library gone bad) aborts the process:
/// nothing may leave in clear or pass unverified.
class Engine {
 public:
  virtual ~Engine() = default;
  [[nodiscard]] virtual std::string_view name()
      const = 0;  ///< "ipsec-mb 1.3.0 (avx512)", "openssl 3.0.x"
  [[nodiscard]] virtual bool supports(const EspSuite& suite) const = 0;
  /// `key`: cipher key then integrity key, without salt. Control thread. A key expanded by one kind
  /// of engine serves every engine of that kind and no other.
  [[nodiscard]] virtual std::expected<void, KeyError> expand(const EspSuite& suite, Bytes key,
                                                             ExpandedKey& out) const = 0;
  virtual void seal(const EspSuite& suite, std::span<const Operation> burst) = 0;
  /// Decrypts in place and writes the computed ICV to `icv`; the caller compares in constant time
  /// with the received one and must not act on `text` before it agrees.
  virtual void open(const EspSuite& suite, std::span<const Operation> burst) = 0;
};

/// The best engine for this machine, as engine_choice.hpp chooses it when nobody wishes anything.
std::unique_ptr<Engine> make_engine();
std::unique_ptr<Engine> make_ipsec_mb_engine();  ///< nullptr where it cannot run
std::unique_ptr<Engine> make_openssl_engine();

}  // namespace culvert::crypto::esp
