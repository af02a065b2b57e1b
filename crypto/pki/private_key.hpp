// Private keys that sign for us. They live in OpenSSL's secure heap: locked in memory, left out of
// core dumps, wiped when freed.
#pragma once

#include <memory>
#include <optional>

#include "crypto/pki/certificate.hpp"

namespace culvert::crypto::pki {

class PrivateKey {
 public:
  /// PEM: PKCS#8, plain or encrypted with `passphrase` (one newline at its end does not count), or
  /// the older forms of RSA and EC keys.
  [[nodiscard]] static Result<PrivateKey> parse(Bytes content, const SecretBytes* passphrase);

  [[nodiscard]] KeyType type() const { return type_; }
  [[nodiscard]] bool belongs_to(const Certificate& certificate) const;
  [[nodiscard]] evp_pkey_st* handle() const { return key_.get(); }

 private:
  std::shared_ptr<evp_pkey_st> key_;
  KeyType type_{};
};

}  // namespace culvert::crypto::pki
