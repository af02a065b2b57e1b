// What an operator asks of the choice in engine_choice.hpp; apart, for whoever only reads it.
#pragma once

#include <cstdint>

namespace culvert::crypto::esp {

enum class EngineWish : std::uint8_t { automatic, ipsec_mb, openssl };

}  // namespace culvert::crypto::esp
