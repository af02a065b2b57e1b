#include "crypto/esp/esp_crypto.hpp"

namespace culvert::crypto::esp {

std::unique_ptr<Engine> make_engine() {
  if (auto engine = make_ipsec_mb_engine()) return engine;
  return make_openssl_engine();
}

}  // namespace culvert::crypto::esp
