#include "wire/vlan.hpp"

#include <catch2/catch.hpp>

#include "tests/unit/wire/bytes.hpp"

namespace culvert::wire::vlan {
namespace {

constexpr const char* kAddresses = "020000000001 020000000009";

std::vector<std::uint8_t> frame(const std::string& rest) {
  return from_hex(kAddresses + std::string(" ") + rest);
}

TEST_CASE("vlan: tags are read from the outermost on (IEEE 802.1Q §9)") {
  CHECK(read(frame("0800 45"))->bytes == 0);
  CHECK_FALSE(read(frame("0800 45"))->ids.any());
  const auto one = read(frame("8100 6064 0800 45"));
  REQUIRE(one);
  CHECK(one->ids == Ids{{100, 0}});  // the priority is not part of the ID
  CHECK(one->bytes == 4);
  const auto two = read(frame("88a8 00c8 8100 0064 86dd 60"));
  REQUIRE(two);
  CHECK(two->ids == Ids{{200, 100}});
  CHECK(two->bytes == 8);
  const auto priority = read(frame("8100 e000 0800 45"));
  REQUIRE(priority);
  CHECK_FALSE(priority->ids.any());
  CHECK(priority->bytes == 4);
}

TEST_CASE("vlan: what the device took off counts as the outermost") {
  const auto rest = read(frame("8100 0064 0800"), Ids{{200, 0}});
  REQUIRE(rest);
  CHECK(rest->ids == Ids{{200, 100}});
  CHECK(rest->bytes == 4);
  CHECK_FALSE(read(frame("8100 0064 0800"), Ids{{300, 200}}));
}

TEST_CASE("vlan: three tags, and a frame that ends within one, are refused") {
  CHECK_FALSE(read(frame("88a8 012c 88a8 00c8 8100 0064 0800")));
  CHECK_FALSE(read(frame("8100 0000 8100 0000 8100 0064 0800")));
  const auto whole = frame("88a8 00c8 8100 0064 0800");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO(size);
    CHECK_FALSE(read(Bytes(whole.data(), size)));
  }
  CHECK(read(whole));
}

TEST_CASE("vlan: what is put on is what is read, and comes off again") {
  for (const Ids ids : {Ids{{100, 0}}, Ids{{4094, 1}}}) {
    const auto plain = frame("0800 4500 0102");
    std::vector<std::uint8_t> tagged(ids.count() * kTagBytes);
    tagged.insert(tagged.end(), plain.begin(), plain.end());
    insert(tagged.data(), ids);
    CHECK(ethernet::type_of(tagged) == (ids.count() == 2 ? kService : kCustomer));
    const auto tags = read(tagged);
    REQUIRE(tags);
    CHECK(tags->ids == ids);
    std::uint8_t* const begin = remove(tagged.data(), tags->bytes);
    CHECK(std::vector<std::uint8_t>(begin, tagged.data() + tagged.size()) == plain);
  }
}

}  // namespace
}  // namespace culvert::wire::vlan
