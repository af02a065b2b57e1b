#include "wire/cursor.hpp"

#include <array>

#include <catch2/catch.hpp>

#include "tests/unit/wire/bytes.hpp"

namespace culvert::wire {

TEST_CASE("cursor: integers are read in network order") {
  const auto bytes = from_hex("01 0203 04050607 08090a0b0c0d0e0f");
  Reader reader(bytes);
  CHECK(*reader.u8("a") == 0x01);
  CHECK(*reader.u16("b") == 0x0203);
  CHECK(*reader.u32("c") == 0x04050607);
  CHECK(*reader.u64("d") == 0x08090a0b0c0d0e0f);
  CHECK(reader.empty());
}

TEST_CASE("cursor: a read that does not fit names the field and does not advance") {
  const auto bytes = from_hex("010203");
  Reader reader(bytes, 100);
  REQUIRE(reader.u8("first"));
  const auto failed = reader.u32("sequence number");
  REQUIRE_FALSE(failed);
  CHECK(failed.error().field == "sequence number");
  CHECK(failed.error().problem == "truncated");
  CHECK(failed.error().offset == 101);
  CHECK(failed.error().needed == 4);
  CHECK(failed.error().available == 2);
  CHECK(*reader.u16("what is left") == 0x0203);
}

TEST_CASE("cursor: a length near the top of size_t is truncated, not wrapped") {
  const auto bytes = from_hex("0102");
  Reader reader(bytes);
  REQUIRE(reader.u8("first"));
  const std::size_t huge = ~std::size_t{0};
  CHECK_FALSE(reader.bytes(huge, "x"));
  CHECK_FALSE(reader.sub(huge, "x"));
  CHECK_FALSE(reader.skip(huge, "x"));
  CHECK(reader.remaining() == 1);
}

TEST_CASE("cursor: a sub-reader keeps counting offsets and cannot see beyond its part") {
  const auto bytes = from_hex("aa bbcc dd");
  Reader reader(bytes, 28);
  REQUIRE(reader.u8("first"));
  auto part = reader.sub(2, "part");
  REQUIRE(part);
  CHECK(part->offset() == 29);
  const auto too_far = part->u32("x");
  REQUIRE_FALSE(too_far);
  CHECK(too_far.error().available == 2);
  CHECK(*reader.u8("behind the part") == 0xdd);
}

TEST_CASE("cursor: an empty buffer yields nothing but empty views") {
  Reader reader{Bytes{}};
  CHECK(reader.bytes(0, "nothing"));
  CHECK_FALSE(reader.u8("something"));
}

TEST_CASE("cursor: a write that does not fit writes nothing and is remembered") {
  std::array<std::uint8_t, 4> buffer{0xee, 0xee, 0xee, 0xee};
  Writer writer(buffer);
  writer.u16(0x0102);
  writer.u32(0x03040506);
  CHECK(writer.overflowed());
  CHECK(writer.size() == 2);
  CHECK(to_hex(buffer) == "0102eeee");
  writer.u8(0x07);  // would fit, but the message is spoilt already
  CHECK(writer.size() == 2);
}

TEST_CASE("cursor: a length is patched only where something was written") {
  std::array<std::uint8_t, 6> buffer{};
  Writer writer(buffer);
  writer.u32(0);
  writer.patch_u16(2, 0x1234);
  CHECK_FALSE(writer.overflowed());
  CHECK(to_hex(writer.written()) == "00001234");
  writer.patch_u16(3, 0xffff);
  CHECK(writer.overflowed());
  CHECK(to_hex(writer.written()) == "00001234");
}

TEST_CASE("cursor: patching at the top of size_t does not wrap into the buffer") {
  std::array<std::uint8_t, 6> buffer{};
  Writer writer(buffer);
  writer.u32(0);
  writer.patch_u16(~std::size_t{0}, 0xffff);
  CHECK(writer.overflowed());
  CHECK(to_hex(writer.written()) == "00000000");
}

TEST_CASE("cursor: big-endian integers hold network bytes and convert explicitly") {
  const Be32 value{0x01020304};
  std::array<std::uint8_t, 4> raw{};
  const std::uint32_t network = value.raw();
  std::memcpy(raw.data(), &network, sizeof(network));
  CHECK(to_hex(raw) == "01020304");
  CHECK(Be32::from_raw(network) == value);
  CHECK(value.host() == 0x01020304);
}

}  // namespace culvert::wire
