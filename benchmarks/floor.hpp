// The floor that efficiency is measured against: the raw IPsec-MB call on packets of the same sizes
// with one key, in cache, and nothing around it.
#pragma once

#include <vector>

#include "benchmarks/workload.hpp"

namespace culvert::benchmarks {

/// Nanoseconds per packet of the case's suite over its sizes, by worker, all workers at once, each
/// on its own lcore.
[[nodiscard]] std::vector<double> raw_crypto_nanoseconds(const Case& test, double seconds);

}  // namespace culvert::benchmarks
