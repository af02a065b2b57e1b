#include "crypto/pki/certificate.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>

#include "crypto/pki/distinguished_name.hpp"
#include "crypto/pki/openssl_x509.hpp"

namespace culvert::crypto::pki {
namespace {

/// One file's certificates: bounds what a wrong path (a bundle of the world's authorities) costs.
constexpr std::size_t kMostCertificates = 1000;

std::uint8_t lower(std::uint8_t octet) {
  return octet >= 'A' && octet <= 'Z' ? static_cast<std::uint8_t>(octet + 32) : octet;
}
bool same_without_case(Bytes a, Bytes b) { return std::ranges::equal(a, b, {}, lower, lower); }
/// RFC 5280 §7.5: the local part as it is, the host without regard to case.
bool same_email(Bytes a, Bytes b) {
  const auto at_a = std::ranges::find(a, '@'), at_b = std::ranges::find(b, '@');
  const auto local_a = static_cast<std::size_t>(at_a - a.begin());
  const auto local_b = static_cast<std::size_t>(at_b - b.begin());
  return local_a == local_b && std::ranges::equal(a.first(local_a), b.first(local_b)) &&
         same_without_case(a.subspan(local_a), b.subspan(local_b));
}

Bytes bytes_of(const ASN1_STRING* text) {
  return {ASN1_STRING_get0_data(text), static_cast<std::size_t>(ASN1_STRING_length(text))};
}

std::string printable(const SubjectName& name) {
  if (name.type == NameType::distinguished_name) return distinguished_name_text(name.value);
  if (name.type == NameType::ip_address) {
    char text[INET6_ADDRSTRLEN] = "";
    ::inet_ntop(name.value.size() == 4 ? AF_INET : AF_INET6, name.value.data(), text, sizeof(text));
    return text;
  }
  std::string text;
  for (const std::uint8_t octet : name.value) {
    text += octet >= 0x20 && octet < 0x7f ? static_cast<char>(octet) : '?';
  }
  return text;
}

}  // namespace

std::string_view name_of(KeyType type) {
  switch (type) {
    case KeyType::rsa:
      return "RSA";
    case KeyType::ecdsa_256:
      return "ECDSA P-256";
    case KeyType::ecdsa_384:
      return "ECDSA P-384";
    case KeyType::ecdsa_521:
      return "ECDSA P-521";
    case KeyType::ed25519:
      return "Ed25519";
    case KeyType::ed448:
      return "Ed448";
  }
  return "unknown";
}

Result<KeyType> key_type_of(const evp_pkey_st* key) {
  if (key == nullptr) return std::unexpected(PkiError{"has a key of a kind that is not known"});
  if (EVP_PKEY_is_a(key, "ED25519")) return KeyType::ed25519;
  if (EVP_PKEY_is_a(key, "ED448")) return KeyType::ed448;
  if (EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS")) {
    const int bits = EVP_PKEY_get_bits(key);
    if (bits >= kMinRsaBits) return KeyType::rsa;
    return std::unexpected(PkiError{"has an RSA key of " + std::to_string(bits) +
                                    " bits; at least " + std::to_string(kMinRsaBits) +
                                    " are needed (RFC 8247 §4.1.1)"});
  }
  if (EVP_PKEY_is_a(key, "EC")) {
    char curve[64] = "";
    EVP_PKEY_get_group_name(key, curve, sizeof(curve), nullptr);
    const std::string_view name = curve;
    if (name == "prime256v1" || name == "P-256") return KeyType::ecdsa_256;
    if (name == "secp384r1" || name == "P-384") return KeyType::ecdsa_384;
    if (name == "secp521r1" || name == "P-521") return KeyType::ecdsa_521;
    return std::unexpected(PkiError{"has a key on the curve " + std::string(name) +
                                    "; P-256, P-384 and P-521 are known"});
  }
  const char* kind = EVP_PKEY_get0_type_name(key);
  return std::unexpected(PkiError{std::string("has a key of the kind ") +
                                  (kind != nullptr ? kind : "unknown") +
                                  "; RSA, ECDSA, Ed25519 and Ed448 are known"});
}

std::string date_text(std::int64_t unix_seconds) {
  const std::time_t time = unix_seconds;
  std::tm fields{};
  char text[32] = "";
  if (::gmtime_r(&time, &fields) != nullptr) {
    std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &fields);
  }
  return text;
}

Result<Certificate> Certificate::from_der(Bytes der) {
  const unsigned char* at = der.data();
  openssl::X509Certificate parsed(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  if (parsed == nullptr) {
    return std::unexpected(PkiError{"is no X.509 certificate: " + openssl::take_reason()});
  }
  if (at != der.data() + der.size()) {
    return std::unexpected(PkiError{"has bytes behind the certificate"});
  }
  Certificate certificate;
  certificate.der_.assign(der.begin(), der.end());
  certificate.not_before_ = openssl::unix_seconds(X509_get0_notBefore(parsed.get())).value_or(0);
  certificate.not_after_ = openssl::unix_seconds(X509_get0_notAfter(parsed.get())).value_or(0);
  certificate.x509_ = std::shared_ptr<x509_st>(parsed.release(), X509_free);
  return certificate;
}

evp_pkey_st* Certificate::public_key() const {
  EVP_PKEY* key = X509_get0_pubkey(x509_.get());
  if (key == nullptr) ERR_clear_error();
  return key;
}

std::string Certificate::subject() const {
  return openssl::text_of(X509_get_subject_name(x509_.get()));
}
std::string Certificate::issuer() const {
  return openssl::text_of(X509_get_issuer_name(x509_.get()));
}

std::string Certificate::serial() const {
  const Bytes octets = bytes_of(X509_get0_serialNumber(x509_.get()));
  std::string text;
  for (const std::uint8_t octet : octets) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", octet);
    text += digits;
  }
  return text;
}

std::vector<std::uint8_t> Certificate::subject_der() const {
  const unsigned char* der = nullptr;
  std::size_t size = 0;
  if (X509_NAME_get0_der(X509_get_subject_name(x509_.get()), &der, &size) != 1) return {};
  return {der, der + size};
}

bool Certificate::is_authority() const { return X509_check_ca(x509_.get()) > 0; }

bool Certificate::is_self_issued() const {
  return X509_NAME_cmp(X509_get_subject_name(x509_.get()), X509_get_issuer_name(x509_.get())) == 0;
}

std::array<std::uint8_t, 20> Certificate::key_hash() const {
  std::array<std::uint8_t, 20> hash{};
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509_.get()), &der);
  if (size > 0) {
    unsigned written = 0;
    static_cast<void>(EVP_Digest(der, static_cast<std::size_t>(size), hash.data(), &written,
                                 EVP_sha1(), nullptr));
  }
  OPENSSL_free(der);
  return hash;
}

Result<KeyType> Certificate::key_type() const { return key_type_of(public_key()); }

std::vector<SubjectName> Certificate::names() const {
  std::vector<SubjectName> all;
  const auto add = [&all](NameType type, Bytes value) {
    all.push_back({type, {value.begin(), value.end()}});
  };
  const openssl::GeneralNames alternatives(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(x509_.get(), NID_subject_alt_name, nullptr, nullptr)));
  const int count = alternatives == nullptr ? 0 : sk_GENERAL_NAME_num(alternatives.get());
  for (int index = 0; index < count; ++index) {
    int kind = 0;
    const auto* value =
        GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(alternatives.get(), index), &kind);
    if (kind == GEN_DNS) add(NameType::dns, bytes_of(static_cast<const ASN1_STRING*>(value)));
    if (kind == GEN_EMAIL) add(NameType::email, bytes_of(static_cast<const ASN1_STRING*>(value)));
    if (kind == GEN_IPADD) {
      const Bytes address = bytes_of(static_cast<const ASN1_STRING*>(value));
      if (address.size() == 4 || address.size() == 16) add(NameType::ip_address, address);
    }
  }
  ERR_clear_error();
  if (X509_NAME_entry_count(X509_get_subject_name(x509_.get())) > 0) {
    all.push_back({NameType::distinguished_name, subject_der()});
  }
  return all;
}

bool Certificate::has_name(NameType type, Bytes value) const {
  return std::ranges::any_of(names(), [&](const SubjectName& name) {
    if (name.type != type) return false;
    switch (type) {
      case NameType::dns:
        return same_without_case(name.value, value);
      case NameType::email:
        return same_email(name.value, value);
      case NameType::ip_address:
        return std::ranges::equal(name.value, value);
      case NameType::distinguished_name:
        return same_distinguished_name(name.value, value);
    }
    return false;
  });
}

std::string Certificate::names_text() const {
  std::string text;
  for (const SubjectName& name : names()) text += (text.empty() ? "" : "; ") + printable(name);
  return text.empty() ? "no name" : text;
}

bool Certificate::may_sign() const {
  const std::uint32_t usage = X509_get_key_usage(x509_.get());
  // UINT32_MAX: there is no keyUsage.
  return usage == UINT32_MAX || (usage & (KU_DIGITAL_SIGNATURE | KU_NON_REPUDIATION)) != 0;
}

bool Certificate::may_serve_ike() const {
  int critical = 0;
  const openssl::KeyUsages usages(static_cast<EXTENDED_KEY_USAGE*>(
      X509_get_ext_d2i(x509_.get(), NID_ext_key_usage, &critical, nullptr)));
  ERR_clear_error();
  // -1: there is none; another negative value: it stands twice or is malformed.
  if (usages == nullptr) return critical == -1;
  for (int index = 0; index < sk_ASN1_OBJECT_num(usages.get()); ++index) {
    const int usage = OBJ_obj2nid(sk_ASN1_OBJECT_value(usages.get(), index));
    if (usage == NID_ipsec_IKE || usage == NID_anyExtendedKeyUsage) return true;
  }
  return false;
}

Result<std::vector<Certificate>> parse_certificates(Bytes content) {
  std::vector<Certificate> all;
  if (!content.empty() && content.front() == 0x30) {
    auto one = Certificate::from_der(content);
    if (!one) return std::unexpected(one.error());
    all.push_back(std::move(*one));
    return all;
  }
  const openssl::Bio text(BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
  while (text != nullptr && all.size() < kMostCertificates) {
    char* name = nullptr;
    char* header = nullptr;
    unsigned char* der = nullptr;
    long size = 0;
    if (PEM_read_bio(text.get(), &name, &header, &der, &size) != 1) break;
    const std::string_view kind = name;
    const bool wanted = kind == PEM_STRING_X509 || kind == PEM_STRING_X509_OLD;
    auto one = wanted ? Certificate::from_der({der, static_cast<std::size_t>(size)})
                      : Result<Certificate>(Certificate{});
    OPENSSL_free(name);
    OPENSSL_free(header);
    // A private key may stand in the same file: nothing of it stays.
    OPENSSL_clear_free(der, static_cast<std::size_t>(size));
    if (!one) return std::unexpected(one.error());
    if (wanted) all.push_back(std::move(*one));
  }
  ERR_clear_error();
  if (all.empty()) return std::unexpected(PkiError{"holds no certificate"});
  return all;
}

}  // namespace culvert::crypto::pki
