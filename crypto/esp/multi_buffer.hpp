// What IPsec-MB runs beside AES-GCM: ciphers and HMACs whose blocks depend on each other fly only
// when many packets go through one core's lanes at once, so each call takes the whole burst.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include <intel-ipsec-mb.h>

#include "crypto/esp/esp_crypto.hpp"
#include "crypto/esp/transform.hpp"

namespace culvert::crypto::esp {

/// Seals and opens bursts of one suite by the library's burst and job calls. Holds no packet
/// between two calls: what a call submits it also flushes.
class MultiBuffer {
 public:
  /// `manager` outlives this.
  explicit MultiBuffer(IMB_MGR& manager) : manager_(manager) {}

  /// Whether a suite runs here: every row but AES-GCM.
  [[nodiscard]] static bool supports(const EspSuite& suite);
  /// `key` has the suite's length.
  static void expand(IMB_MGR& manager, const EspSuite& suite, Bytes key, ExpandedKey& out);

  void seal(const EspSuite& suite, std::span<const Operation> burst);
  void open(const EspSuite& suite, std::span<const Operation> burst);

 private:
  static constexpr std::size_t kLanes = 64;  ///< packets a call to the library takes
  using Chunk = std::span<const Operation>;

  void encrypt(const EspSuite& suite, Chunk chunk);
  void decrypt(const EspSuite& suite, Chunk chunk);
  void submit_ciphers(const EspSuite& suite, std::size_t count, IMB_CIPHER_MODE mode,
                      IMB_CIPHER_DIRECTION direction);
  void authenticate(const EspSuite& suite, Chunk chunk);
  void run_aead(const EspSuite& suite, Chunk chunk, IMB_CIPHER_DIRECTION direction);
  void run_gmac(const EspSuite& suite, Chunk chunk);

  IMB_MGR& manager_;
  std::array<IMB_JOB, kLanes> jobs_{};
};

}  // namespace culvert::crypto::esp
