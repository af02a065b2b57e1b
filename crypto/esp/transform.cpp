#include "crypto/esp/transform.hpp"

#include <algorithm>

#include "crypto/suite_rows.hpp"

namespace culvert::crypto::esp {
namespace {

constexpr std::uint8_t kWord = 4;  // RFC 4303 §2.4: what is encrypted ends on a four-byte boundary

constexpr Form make_form(const EncryptionInfo& cipher, std::uint8_t icv_bytes) {
  return {cipher.salt_bytes, cipher.iv_bytes, icv_bytes, std::max(cipher.block_bytes, kWord)};
}

/// Every cipher with every key length, and with every integrity where it has none of its own
/// (RFC 8221 §4: no encryption without integrity).
constexpr std::array<Transform, kTransformCount> make_transforms() {
  std::array<Transform, kTransformCount> all{};
  std::size_t count = 0;
  for (const EncryptionInfo& cipher : kEncryptions) {
    for (const std::uint16_t bits : cipher.key_bits) {
      if (cipher.aead) {
        all[count++] = {{cipher.id, bits, Integrity::none}, make_form(cipher, cipher.icv_bytes)};
        continue;
      }
      for (const IntegrityInfo& integrity : kIntegrities) {
        all[count++] = {{cipher.id, bits, integrity.id}, make_form(cipher, integrity.icv_bytes)};
      }
    }
  }
  return all;
}

constexpr auto kMade = make_transforms();
static_assert(kMade.back().suite.integrity != Integrity::none, "a row too few");
static_assert(kMade[0].suite.encryption == Encryption::aes_gcm_16 &&
              kMade[kGcmTransforms - 1].suite.encryption == Encryption::aes_gcm_16 &&
              kMade[kGcmTransforms].suite.encryption != Encryption::aes_gcm_16);
static_assert(kMade[0].form.salt_bytes == kGcmForm.salt_bytes &&
              kMade[0].form.iv_bytes == kGcmForm.iv_bytes &&
              kMade[0].form.icv_bytes == kGcmForm.icv_bytes &&
              kMade[0].form.alignment == kGcmForm.alignment);

}  // namespace

constinit const std::array<Transform, kTransformCount> kTransforms = kMade;

std::optional<TransformId> find_transform(const EspSuite& suite) {
  const auto found = std::ranges::find(kTransforms, suite, &Transform::suite);
  if (found == kTransforms.end()) return std::nullopt;
  return TransformId{static_cast<std::uint8_t>(found - kTransforms.begin())};
}

}  // namespace culvert::crypto::esp
