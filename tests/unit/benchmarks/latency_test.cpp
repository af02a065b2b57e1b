#include <catch2/catch.hpp>

#include "benchmarks/tester/latency.hpp"

using culvert::benchmarks::Latencies;

TEST_CASE("latencies: percentiles of small values are exact") {
  Latencies latencies;
  for (std::uint64_t value = 1; value <= 20; ++value) latencies.add(value);
  CHECK(latencies.total() == 20);
  CHECK(latencies.percentile(0.5) == 10);
  CHECK(latencies.percentile(0.9) == 18);
  CHECK(latencies.percentile(1) == 20);
  CHECK(latencies.most() == 20);
}

TEST_CASE("latencies: a large value is not told as less, and at most 1/32 more") {
  for (std::uint64_t value = 33; value < (1ULL << 62U); value += value / 7 + 1) {
    Latencies latencies;
    latencies.add(value);
    latencies.add(~0ULL);
    const std::uint64_t told = latencies.percentile(0.5);
    REQUIRE(told >= value);
    REQUIRE(told - value <= value / 32);
  }
}

TEST_CASE("latencies: the rare slow packet shows in the last percentile alone") {
  Latencies latencies;
  for (int packet = 0; packet < 9990; ++packet) latencies.add(100);
  for (int packet = 0; packet < 10; ++packet) latencies.add(1'000'000);
  CHECK(latencies.percentile(0.99) < 110);
  CHECK(latencies.percentile(0.9995) >= 1'000'000);
  CHECK(latencies.most() == 1'000'000);
}

TEST_CASE("latencies: of no packet there are none") {
  const Latencies latencies;
  CHECK(latencies.total() == 0);
  CHECK(latencies.percentile(0.5) == 0);
}
