#include "crypto/pki/private_key.hpp"

#include <algorithm>
#include <cstring>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "crypto/pki/openssl_x509.hpp"

namespace culvert::crypto::pki {
namespace {

struct PassphraseRequest {
  const SecretBytes* passphrase = nullptr;
  bool asked = false;
};

int give_passphrase(char* buffer, int size, int /*writing*/, void* context) {
  auto& request = *static_cast<PassphraseRequest*>(context);
  request.asked = true;
  if (request.passphrase == nullptr) return -1;
  Bytes text = request.passphrase->view();
  if (!text.empty() && text.back() == '\n') text = text.first(text.size() - 1);
  if (text.empty() || text.size() > static_cast<std::size_t>(size)) return -1;
  std::memcpy(buffer, text.data(), text.size());
  return static_cast<int>(text.size());
}

}  // namespace

Result<PrivateKey> PrivateKey::parse(Bytes content, const SecretBytes* passphrase) {
  const openssl::Bio text(BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
  PassphraseRequest request{passphrase, false};
  EVP_PKEY* parsed = text == nullptr
                         ? nullptr
                         : PEM_read_bio_PrivateKey(text.get(), nullptr, give_passphrase, &request);
  if (parsed == nullptr) {
    const std::string reason = openssl::take_reason();
    if (request.asked && passphrase == nullptr) {
      return std::unexpected(PkiError{"is encrypted and no passphrase is given"});
    }
    if (request.asked) return std::unexpected(PkiError{"does not open with the passphrase"});
    return std::unexpected(PkiError{"holds no private key in PEM: " + reason});
  }
  PrivateKey key;
  key.key_ = std::shared_ptr<evp_pkey_st>(parsed, EVP_PKEY_free);
  const auto type = key_type_of(parsed);
  if (!type) return std::unexpected(type.error());
  key.type_ = *type;
  return key;
}

bool PrivateKey::belongs_to(const Certificate& certificate) const {
  const EVP_PKEY* theirs = certificate.public_key();
  return theirs != nullptr && EVP_PKEY_eq(key_.get(), theirs) == 1;
}

}  // namespace culvert::crypto::pki
