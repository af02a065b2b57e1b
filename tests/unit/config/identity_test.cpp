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

TEST_CASE("identity: a pattern stands for the names below a domain, or for all") {
  const auto matches = [](std::string_view pattern, std::string_view identity) {
    return is_identity_of(pattern, *parse_identity(identity));
  };
  CHECK(matches("*.example.org", "hq.example.org"));
  CHECK(matches("*.example.org", "hq.south.example.org"));
  CHECK_FALSE(matches("*.example.org", "example.org"));
  CHECK_FALSE(matches("*.example.org", "hq.badexample.org"));
  CHECK_FALSE(matches("*.example.org", "hq.example.org.evil.net"));
  CHECK_FALSE(matches("*.example.org", "ops@hq.example.org"));
  CHECK(matches("*@example.org", "ops@example.org"));
  CHECK_FALSE(matches("*@example.org", "ops@south.example.org"));
  CHECK_FALSE(matches("*.0.0.1", "10.0.0.1"));
  for (const auto* identity : {"hq.example.org", "10.0.0.1", "CN=hq", "@#cafe"}) {
    CHECK(matches("%any", identity));
  }
  for (const auto* text :
       {"*", "*.", "*@", "**.example.org", "hq.*.org", "*example.org", "*.a b"}) {
    CHECK_FALSE(is_identity_pattern(text));
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
