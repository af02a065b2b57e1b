#include "crypto/esp/engine_choice.hpp"

namespace culvert::crypto::esp {

std::expected<EngineChoice, std::string> choose_engine(EngineWish wish, Processor processor) {
  if (wish == EngineWish::openssl) {
    return EngineChoice{make_openssl_engine, "as configured"};
  }
  const std::string obstacle = why_no_ipsec_mb(processor);
  if (wish == EngineWish::ipsec_mb) {
    if (!obstacle.empty()) return std::unexpected(obstacle);
    return EngineChoice{make_ipsec_mb_engine, "as configured"};
  }
  if (!obstacle.empty()) {
    return EngineChoice{make_openssl_engine, "IPsec-MB cannot run: " + obstacle};
  }
  return EngineChoice{make_ipsec_mb_engine, ""};
}

std::unique_ptr<Engine> make_engine() { return choose_engine(EngineWish::automatic)->make(); }

}  // namespace culvert::crypto::esp
