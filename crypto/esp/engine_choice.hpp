// Which engine a gateway has. Decided once at its start, for its keys and all its workers: a key
// that one kind of engine expanded serves no other.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "crypto/esp/engine_wish.hpp"
#include "crypto/esp/esp_crypto.hpp"

namespace culvert::crypto::esp {

/// What of this processor IPsec-MB may find: a test takes away what others lack.
enum class Processor : std::uint8_t { as_it_is, without_aes };

/// nullptr: the library refuses, as for want of memory.
using EngineMaker = std::unique_ptr<Engine> (*)();

struct EngineChoice {
  EngineMaker make = nullptr;  ///< one more engine of the kind that was chosen
  std::string reason;          ///< why it is not what every gateway has; empty: it is
};

/// IPsec-MB where it can run, else OpenSSL, unless the wish says which. The error says why
/// IPsec-MB, which alone was asked for, cannot.
[[nodiscard]] std::expected<EngineChoice, std::string> choose_engine(
    EngineWish wish, Processor processor = Processor::as_it_is);

/// Why IPsec-MB cannot run; empty: it can.
[[nodiscard]] std::string why_no_ipsec_mb(Processor processor = Processor::as_it_is);

}  // namespace culvert::crypto::esp
