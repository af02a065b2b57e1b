#include "crypto/suite.hpp"

#include <algorithm>
#include <array>

#include "crypto/suite_rows.hpp"

namespace culvert::crypto {
namespace {

constexpr std::array kPrfs{
    // RFC 4868 §2.4
    PrfInfo{Prf::hmac_sha2_256, "prfsha256", 32, 32},
    PrfInfo{Prf::hmac_sha2_384, "prfsha384", 48, 48},
    PrfInfo{Prf::hmac_sha2_512, "prfsha512", 64, 64},
};

constexpr std::array kGroups{
    GroupInfo{Group::modp2048, "modp2048", 256},  // RFC 3526
    GroupInfo{Group::modp3072, "modp3072", 384}, GroupInfo{Group::modp4096, "modp4096", 512},
    GroupInfo{Group::modp6144, "modp6144", 768}, GroupInfo{Group::modp8192, "modp8192", 1024},
    GroupInfo{Group::ecp256, "ecp256", 64},  // RFC 5903 §7: x and y, no leading byte
    GroupInfo{Group::ecp384, "ecp384", 96},      GroupInfo{Group::ecp521, "ecp521", 132},
    GroupInfo{Group::x25519, "x25519", 32},  // RFC 8031
    GroupInfo{Group::x448, "x448", 56},
};

template <typename Rows, typename Id>
auto find_row(const Rows& rows, Id id) -> decltype(rows.data()) {
  const auto found = std::ranges::find_if(rows, [id](const auto& row) { return row.id == id; });
  return found == rows.end() ? nullptr : &*found;
}

/// "aesgcm16" with 256 bits is written "aes256gcm16", "aes" with 128 bits "aes128".
std::string cipher_name(Encryption id, std::uint16_t key_bits) {
  const EncryptionInfo* info = find(id);
  if (info == nullptr) return "none";
  if (info->one_key_length) return std::string(info->name);
  constexpr std::size_t kFamily = std::string_view("aes").size();
  return std::string(info->name.substr(0, kFamily)) + std::to_string(key_bits) +
         std::string(info->name.substr(kFamily));
}

void append(std::string& text, std::string_view word) {
  if (!text.empty()) text += '-';
  text += word;
}

}  // namespace

const EncryptionInfo* find(Encryption id) { return find_row(kEncryptions, id); }
const IntegrityInfo* find(Integrity id) { return find_row(kIntegrities, id); }
const PrfInfo* find(Prf id) { return find_row(kPrfs, id); }
const GroupInfo* find(Group id) { return find_row(kGroups, id); }
std::span<const EncryptionInfo> encryptions() { return kEncryptions; }
std::span<const IntegrityInfo> integrities() { return kIntegrities; }
std::span<const PrfInfo> prfs() { return kPrfs; }
std::span<const GroupInfo> groups() { return kGroups; }

Prf implied_prf(Integrity id) {
  switch (id) {
    case Integrity::none:
    case Integrity::hmac_sha1_96:  // ESP only; RFC 8247 §2.2 phases its PRF out
      return Prf::none;
    case Integrity::hmac_sha2_256_128:
      return Prf::hmac_sha2_256;
    case Integrity::hmac_sha2_384_192:
      return Prf::hmac_sha2_384;
    case Integrity::hmac_sha2_512_256:
      return Prf::hmac_sha2_512;
  }
  return Prf::none;
}

std::string EspSuite::name() const {
  std::string text = cipher_name(encryption, key_bits);
  if (const IntegrityInfo* info = find(integrity)) append(text, info->name);
  return text;
}

std::size_t EspSuite::integrity_key_bytes() const {
  const IntegrityInfo* info = find(integrity);
  return info == nullptr ? 0 : info->key_bytes;
}

std::size_t EspSuite::keymat_bytes() const {
  const EncryptionInfo* info = find(encryption);
  const std::size_t salt = info == nullptr ? 0 : info->salt_bytes;
  return encryption_key_bytes() + salt + integrity_key_bytes();
}

std::string IkeSuite::name() const {
  std::string text = cipher_name(encryption, key_bits);
  if (const IntegrityInfo* info = find(integrity)) append(text, info->name);
  if (const PrfInfo* info = find(prf); info != nullptr && prf != implied_prf(integrity)) {
    append(text, info->name);
  }
  if (const GroupInfo* info = find(group)) append(text, info->name);
  return text;
}

std::string Proposal::to_string() const {
  std::string text;
  for (const Cipher& cipher : encryption) append(text, cipher_name(cipher.id, cipher.key_bits));
  for (const Integrity id : integrity) append(text, find(id)->name);
  std::vector<Prf> implied;
  implied.reserve(integrity.size());
  for (const Integrity id : integrity) implied.push_back(implied_prf(id));
  if (prf != implied) {
    for (const Prf id : prf) append(text, find(id)->name);
  }
  for (const Group id : groups) append(text, find(id)->name);
  if (!no_esn) append(text, "esn");
  if (!esn) append(text, "noesn");
  return text;
}

}  // namespace culvert::crypto
