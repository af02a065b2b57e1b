#include <array>
#include <random>

#include <catch2/catch.hpp>

#include "wire/ip.hpp"

using namespace culvert::wire;

TEST_CASE("IPv4 checksum: without a fold, the same headers are right (RFC 1071)") {
  std::mt19937 random(7);
  std::array<std::uint8_t, ipv4::kHeaderBytes> header{};
  for (int n = 0; n < 20'000; ++n) {
    // Many words of zeros and ones: that is where sums carry.
    for (auto& byte : header) {
      const unsigned kind = random() % 4;
      byte = kind == 0 ? 0x00 : kind == 1 ? 0xff : static_cast<std::uint8_t>(random());
    }
    header[0] = 0x45;
    if (n % 2 == 0) write_ipv4_checksum(header.data(), header.size());
    if (n % 8 == 0) header[random() % header.size()] ^= static_cast<std::uint8_t>(random());
    header[0] |= 0x40;
    const bool is_right = ipv4_header_sum(header.data(), header.size()) == 0xffff;
    CHECK(plain_ipv4_checksum_is_right(header.data()) == is_right);
  }
}
