// One maker for each family of groups. Inside this room only: others call generate_key_exchange.
#pragma once

#include "crypto/ike/ike_crypto.hpp"

namespace culvert::crypto::ike {

Result<std::unique_ptr<KeyExchange>> generate_modp(Group group, Random& random);
Result<std::unique_ptr<KeyExchange>> generate_curve(Group group, Random& random);
Result<std::unique_ptr<KeyExchange>> generate_montgomery(Group group, Random& random);

/// OpenSSL could not do what always works: out of memory, or a broken installation. Empties
/// OpenSSL's error queue, so that a later caller does not find this failure there.
CryptoError library_failure(const char* what);

}  // namespace culvert::crypto::ike
