#include <openssl/err.h>
#include <openssl/pem.h>

#include "crypto/pki/openssl_x509.hpp"
#include "crypto/pki/trust_store.hpp"

namespace culvert::crypto::pki {

Result<RevocationList> RevocationList::from_der(Bytes der) {
  const unsigned char* at = der.data();
  openssl::X509Crl parsed(d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
  if (parsed == nullptr || at != der.data() + der.size()) {
    return std::unexpected(PkiError{"is no revocation list: " + openssl::take_reason()});
  }
  RevocationList list;
  list.crl_ = std::shared_ptr<X509_crl_st>(parsed.release(), X509_CRL_free);
  return list;
}

std::vector<std::uint8_t> RevocationList::der() const {
  const int size = i2d_X509_CRL(crl_.get(), nullptr);
  std::vector<std::uint8_t> bytes(size > 0 ? static_cast<std::size_t>(size) : 0);
  unsigned char* out = bytes.data();
  if (size > 0) i2d_X509_CRL(crl_.get(), &out);
  return bytes;
}
std::string RevocationList::issuer() const {
  return openssl::text_of(X509_CRL_get_issuer(crl_.get()));
}
std::int64_t RevocationList::this_update() const {
  return openssl::unix_seconds(X509_CRL_get0_lastUpdate(crl_.get())).value_or(0);
}
std::optional<std::int64_t> RevocationList::next_update() const {
  return openssl::unix_seconds(X509_CRL_get0_nextUpdate(crl_.get()));
}

Result<std::vector<RevocationList>> parse_revocation_lists(Bytes content) {
  std::vector<RevocationList> all;
  if (!content.empty() && content.front() == 0x30) {
    auto one = RevocationList::from_der(content);
    if (!one) return std::unexpected(one.error());
    all.push_back(std::move(*one));
    return all;
  }
  const openssl::Bio text(BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
  while (text != nullptr) {
    openssl::X509Crl crl(PEM_read_bio_X509_CRL(text.get(), nullptr, nullptr, nullptr));
    if (crl == nullptr) break;
    unsigned char* der = nullptr;
    const int size = i2d_X509_CRL(crl.get(), &der);
    if (size <= 0) break;
    auto one = RevocationList::from_der({der, static_cast<std::size_t>(size)});
    OPENSSL_free(der);
    if (!one) return std::unexpected(one.error());
    all.push_back(std::move(*one));
  }
  ERR_clear_error();
  if (all.empty()) return std::unexpected(PkiError{"holds no revocation list"});
  return all;
}

}  // namespace culvert::crypto::pki
