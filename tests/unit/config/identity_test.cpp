#include <catch2/catch.hpp>

#include "config/config.hpp"

namespace culvert::config {

using Type = Identity::Type;

TEST_CASE("identity: each notation gives the ID type and data of RFC 7296 §3.5") {
  struct Row {
    const char* text;
    Type type;
    std::vector<std::uint8_t> encoded;
  };
  const std::vector<Row> rows{
      {"hq.example", Type::fqdn, {'h', 'q', '.', 'e', 'x', 'a', 'm', 'p', 'l', 'e'}},
      {"a@b.c", Type::email, {'a', '@', 'b', '.', 'c'}},
      {"192.0.2.1", Type::ipv4, {192, 0, 2, 1}},
      {"2001:db8::1", Type::ipv6, {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
      {"@#cafe01", Type::key_id, {0xca, 0xfe, 0x01}},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    const auto identity = parse_identity(row.text);
    REQUIRE(identity);
    CHECK(identity->type == row.type);
    CHECK(identity->encoded == row.encoded);
    CHECK(identity->text == row.text);
  }
}

TEST_CASE("identity: what no peer could mean is refused") {
  for (const char* text : {"", "hq example", "@", "@#", "@#caf", "@#zz", "a@", "@b", "a@b@c", ".x",
                           "x.", "hq/1", "a@b c"}) {
    INFO(text);
    CHECK_FALSE(parse_identity(text));
  }
  CHECK_FALSE(parse_identity(std::string(300, 'a')));
}

}  // namespace culvert::config
