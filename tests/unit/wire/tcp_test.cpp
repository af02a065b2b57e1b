#include "wire/tcp.hpp"

#include <array>
#include <vector>

#include <catch2/catch.hpp>

#include "wire/checksum.hpp"

namespace culvert::wire::tcp {
namespace {

using Segment = std::vector<std::uint8_t>;

std::uint16_t sum_of(const Segment& segment) {
  ChecksumSum sum;
  sum.add(segment);
  return sum.finish();
}

/// A segment whose checksum is right over itself; the pseudo-header does not change here.
Segment segment(std::uint8_t flags, const Segment& options) {
  Segment bytes(kHeaderBytes + (options.size() + 3) / 4 * 4);
  std::copy(options.begin(), options.end(), bytes.begin() + kHeaderBytes);
  bytes[0] = 0x12;
  bytes[7] = 0x99;
  bytes[kDataOffset] = static_cast<std::uint8_t>(bytes.size() / 4U << 4U);
  bytes[kFlags] = flags;
  store_u16(bytes.data() + kChecksum, sum_of(bytes));
  REQUIRE(sum_of(bytes) == 0);
  return bytes;
}

std::uint16_t mss_in(const Segment& bytes) { return load_u16(bytes.data() + *find_mss(bytes)); }

}  // namespace

TEST_CASE("tcp: a SYN's MSS is lowered to what fits, and its checksum stays right (RFC 1624)") {
  for (const std::uint8_t flags : {kSyn, std::uint8_t{kSyn | 0x10}}) {
    for (const Segment& options :
         {Segment{2, 4, 0x05, 0xb4}, Segment{1, 2, 4, 0x05, 0xb4, 1, 1, 0},
          Segment{1, 1, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 0x23, 0x00}}) {
      Segment bytes = segment(flags, options);
      CHECK(clamp_mss(bytes, 1360));
      CHECK(mss_in(bytes) == 1360);
      CHECK(sum_of(bytes) == 0);
    }
  }
}

TEST_CASE("tcp: every MSS over every limit leaves a right checksum, at even and odd offsets") {
  for (std::uint32_t mss = 0; mss <= 0xffff; mss += 251) {
    for (const std::uint16_t most : {std::uint16_t{0}, std::uint16_t{536}, std::uint16_t{1379}}) {
      const auto high = static_cast<std::uint8_t>(mss >> 8U);
      const auto low = static_cast<std::uint8_t>(mss);
      for (const Segment& options : {Segment{2, 4, high, low}, Segment{1, 2, 4, high, low}}) {
        Segment bytes = segment(kSyn, options);
        CHECK(clamp_mss(bytes, most) == (mss > most));
        CHECK(mss_in(bytes) == std::min<std::uint32_t>(mss, most));
        CHECK(sum_of(bytes) == 0);
      }
    }
  }
}

TEST_CASE("tcp: an MSS that fits is never raised") {
  Segment bytes = segment(kSyn, {2, 4, 0x02, 0x18});
  const Segment before = bytes;
  CHECK_FALSE(clamp_mss(bytes, 1360));
  CHECK(bytes == before);
}

TEST_CASE("tcp: what is no SYN is left alone, whatever its options say") {
  Segment bytes = segment(0x10, {2, 4, 0x05, 0xb4});
  const Segment before = bytes;
  CHECK_FALSE(clamp_mss(bytes, 100));
  CHECK(bytes == before);
}

TEST_CASE("tcp: options that do not hold together change nothing, at every length of a segment") {
  for (const Segment& options :
       {Segment{2, 3, 0x05, 0xb4}, Segment{2, 0, 0x05, 0xb4}, Segment{0, 2, 4, 5},
        Segment{8, 40, 2, 4}, Segment{1, 1, 1, 2}, Segment{2, 1, 0x05, 0xb4}}) {
    Segment bytes = segment(kSyn, options);
    const Segment before = bytes;
    CHECK_FALSE(clamp_mss(bytes, 100));
    CHECK(bytes == before);
  }
  const Segment whole = segment(kSyn, {1, 1, 2, 4, 0x05, 0xb4, 0, 0});
  for (std::size_t length = 0; length < whole.size(); ++length) {
    Segment cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    const Segment before = cut;
    CHECK_FALSE(clamp_mss(cut, 100));
    CHECK(cut == before);
  }
}

}  // namespace culvert::wire::tcp
