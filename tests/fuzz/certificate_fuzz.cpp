// The certificate path against any bytes: a certificate as CERT brings it, a list, an
// AlgorithmIdentifier and AUTH data, a distinguished name. Whatever parses is asked everything that
// IKE asks of it, and nothing that a stranger made may be trusted.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "crypto/ike/signature.hpp"
#include "crypto/pki/distinguished_name.hpp"
#include "crypto/pki/trust_store.hpp"

using namespace culvert::crypto;

namespace {

constexpr std::size_t kMostBytes = 65536;

void require(bool claim) {
  if (!claim) std::abort();
}

void check_certificate(Bytes bytes, const pki::Certificate& certificate) {
  require(std::ranges::equal(certificate.der(), bytes));
  static_cast<void>(certificate.subject() + certificate.issuer() + certificate.serial());
  static_cast<void>(certificate.names_text());
  for (const pki::SubjectName& name : certificate.names()) {
    require(name.type != pki::NameType::ip_address || name.value.size() == 4 ||
            name.value.size() == 16);
    require(certificate.has_name(name.type, name.value));
  }
  static_cast<void>(certificate.may_sign() || certificate.may_serve_ike());
  static_cast<void>(certificate.is_authority() || certificate.is_self_issued());
  static_cast<void>(certificate.key_hash());
  // Signed by itself at best: no store without it trusts it, and none by which it did not sign.
  const pki::TrustStore nobody;
  const std::array others{certificate};
  require(!nobody.validate(certificate, others, {1893456000, pki::RevocationPolicy::off, false}));
  pki::TrustStore itself;
  itself.add_authority(certificate);
  static_cast<void>(itself.validate(certificate, others,
                                    {1893456000, pki::RevocationPolicy::if_available, true}));
  const std::array<std::uint8_t, 32> octets{};
  if (certificate.key_type()) {
    for (const std::uint8_t method : {1, 9, 10, 11, 14}) {
      static_cast<void>(ike::verify(certificate, method, bytes.first(bytes.size() / 2), octets));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes bytes(data, std::min(size, kMostBytes));
  if (const auto certificate = pki::Certificate::from_der(bytes)) {
    check_certificate(bytes, *certificate);
  }
  static_cast<void>(pki::parse_certificates(bytes));
  if (const auto lists = pki::parse_revocation_lists(bytes)) {
    for (const auto& list : *lists) {
      static_cast<void>(list.issuer());
      static_cast<void>(list.this_update() + list.next_update().value_or(0));
    }
  }
  if (const auto algorithm = ike::parse_algorithm_identifier(bytes)) {
    const auto encoded = ike::encode_algorithm_identifier(*algorithm);
    const auto again = ike::parse_algorithm_identifier(encoded);
    require(again && *again == *algorithm);
  }
  static_cast<void>(pki::distinguished_name_text(bytes));
  require(bytes.empty() || !pki::same_distinguished_name(bytes, Bytes{}));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (const auto der = pki::parse_distinguished_name(text)) {
    require(pki::same_distinguished_name(*der, *der));
  }
  return 0;
}
