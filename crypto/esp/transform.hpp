// The ESP suites by number, and what a packet of each looks like. An SA carries the number: one
// byte instead of a suite, and equal numbers are equal suites.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "crypto/suite.hpp"

namespace culvert::crypto::esp {

/// Index into `kTransforms`. AES-GCM-16 has the first three, by key length.
enum class TransformId : std::uint8_t {};

/// Sizes in bytes of what stands around the text of an ESP packet.
struct Form {
  std::uint8_t salt_bytes;  ///< of KEYMAT, behind the cipher key; in front of the IV in the nonce
  std::uint8_t iv_bytes;    ///< explicit, on the wire
  std::uint8_t icv_bytes;
  std::uint8_t alignment;  ///< of payload, padding and trailer: 4 (RFC 4303 §2.4) or the block
};

struct Transform {
  EspSuite suite;
  Form form;
};

/// AES-GCM 3, ChaCha20-Poly1305, CCM 2 × 2, GMAC 3; (CBC 3, CTR 3, NULL) × 4 integrities.
inline constexpr std::size_t kTransformCount = 3 + 1 + 4 + 3 + (3 + 3 + 1) * 4;
extern const std::array<Transform, kTransformCount> kTransforms;

inline constexpr std::uint8_t kGcmTransforms = 3;
inline constexpr Form kGcmForm{.salt_bytes = 4, .iv_bytes = 8, .icv_bytes = 16, .alignment = 4};

[[nodiscard]] inline const Transform& transform(TransformId id) {
  return kTransforms[static_cast<std::size_t>(id)];
}
/// AES-GCM's form is known without a load.
[[nodiscard]] inline Form form_of(TransformId id) {
  if (static_cast<std::uint8_t>(id) < kGcmTransforms) [[likely]]
    return kGcmForm;
  return transform(id).form;
}
/// nullopt: a combination that is no ESP suite.
[[nodiscard]] std::optional<TransformId> find_transform(const EspSuite& suite);

}  // namespace culvert::crypto::esp
