#include "benchmarks/cores.hpp"

#include <catch2/catch.hpp>

namespace culvert::benchmarks {
namespace {

using Cores = std::vector<unsigned>;

}  // namespace

TEST_CASE("bench cores: lists as the kernel writes them") {
  CHECK(parse_core_list("") == Cores{});
  CHECK(parse_core_list("7") == Cores{7});
  CHECK(parse_core_list("2-3,8,10-12") == Cores{2, 3, 8, 10, 11, 12});
  CHECK(parse_core_list("2,x") == Cores{2});
  CHECK(parse_core_list("2-") == Cores{});
}

TEST_CASE("bench cores: without isolated ones, those of the process in their order") {
  CHECK(cores_to_measure_on({0, 1, 2, 3}, {0, 1, 2, 3}, {}) == Cores{0, 1, 2, 3});
  CHECK(cores_to_measure_on({}, {}, {}) == Cores{});
}

TEST_CASE("bench cores: what is measured runs on isolated cores, the main thread does not") {
  CHECK(cores_to_measure_on({0, 1}, {0, 1, 2, 3}, {2, 3}) == Cores{0, 2, 3, 1});
  CHECK(cores_to_measure_on({0}, {0, 1}, {1}) == Cores{0, 1});
  // Isolated, and outside of the container.
  CHECK(cores_to_measure_on({0, 1}, {0, 1, 2}, {2, 3}) == Cores{0, 2, 1});
}

TEST_CASE("bench cores: who has chosen some gets these alone") {
  CHECK(cores_to_measure_on({1}, {0, 1, 2, 3}, {}) == Cores{1});
  CHECK(cores_to_measure_on({1}, {0, 1, 2, 3}, {2, 3}) == Cores{1});
  CHECK(cores_to_measure_on({0, 3}, {0, 1, 2, 3}, {2, 3}) == Cores{0, 3});
}

}  // namespace culvert::benchmarks
