#include <openssl/err.h>

#include "crypto/ike/key_exchange_groups.hpp"

namespace culvert::crypto::ike {

CryptoError library_failure(const char* what) {
  ERR_clear_error();
  return CryptoError{std::string("OpenSSL failed: ") + what};
}

Result<std::unique_ptr<KeyExchange>> generate_key_exchange(Group group, Random& random) {
  switch (group) {
    case Group::modp2048:
    case Group::modp3072:
    case Group::modp4096:
    case Group::modp6144:
    case Group::modp8192:
      return generate_modp(group, random);
    case Group::ecp256:
    case Group::ecp384:
    case Group::ecp521:
      return generate_curve(group, random);
    case Group::x25519:
    case Group::x448:
      return generate_montgomery(group, random);
    case Group::none:
      break;
  }
  return std::unexpected(CryptoError{"no such key exchange group"});
}

}  // namespace culvert::crypto::ike
