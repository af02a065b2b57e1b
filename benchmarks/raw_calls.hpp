// IPsec-MB's own calls on the packets of a burst, set up once and called bare: the floor for
// crypto::esp::Engine. What a call needs of a packet is prepared before the clock runs.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "crypto/esp/esp_crypto.hpp"
#include "crypto/esp/transform.hpp"

namespace culvert::benchmarks {

/// The floor of sealing and opening one burst. Keys are of its own; times do not depend on them.
struct RawCalls {
  std::function<void()> seal;
  std::function<void()> open;
};

/// `burst` stays as it is while the calls are used. Packets of at most 64.
[[nodiscard]] RawCalls make_raw_calls(const crypto::esp::Transform& transform,
                                      std::span<const crypto::esp::Operation> burst);

}  // namespace culvert::benchmarks
