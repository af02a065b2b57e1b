// The floor that efficiency is measured against: the raw IPsec-MB call on packets of the same sizes
// with one key, in cache, and nothing around it.
#pragma once

#include "benchmarks/workload.hpp"

namespace culvert::benchmarks {

/// Nanoseconds per packet of AES-128-GCM over the sizes of `frames`, on the calling thread's core.
[[nodiscard]] double raw_crypto_nanoseconds(Direction direction, const Frames& frames,
                                            double seconds);

}  // namespace culvert::benchmarks
