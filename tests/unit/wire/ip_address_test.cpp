#include "wire/ip_address.hpp"

#include <string>

#include <catch2/catch.hpp>

#include "tests/unit/wire/bytes.hpp"

namespace culvert::wire {
namespace {

Prefix prefix(std::string_view text) { return Prefix::parse(text).value(); }

}  // namespace

TEST_CASE("ip_address: text and value turn into each other") {
  for (const char* text : {"0.0.0.0", "255.255.255.255", "192.0.2.1", "::", "::1", "2001:db8::7",
                           "fe80::1:2:3:4", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}) {
    INFO(text);
    CHECK(address(text).to_string() == text);
  }
}

TEST_CASE("ip_address: what is not exactly an address is refused") {
  for (const std::string_view text :
       {std::string_view(""), std::string_view("1.2.3"), std::string_view("1.2.3.4.5"),
        std::string_view("256.0.0.1"), std::string_view("1.2.3.4 "), std::string_view(" 1.2.3.4"),
        std::string_view("01.2.3.4x"), std::string_view("::1::"), std::string_view("fe80::1%eth0"),
        std::string_view("1:2:3:4:5:6:7:8:9"), std::string_view("1.2.3.4\0.example", 16),
        std::string_view("::1\0", 4)}) {
    INFO(std::string(text));
    CHECK_FALSE(IpAddress::parse(text));
  }
}

TEST_CASE("ip_address: the bytes stand in network order and the rest is zero") {
  CHECK(to_hex(IpAddress::v4(0xc0000201).bytes) == "c0000201000000000000000000000000");
  CHECK(address("192.0.2.1").v4_host() == 0xc0000201);
  CHECK(to_hex(address("2001:db8::ff").view()) == "20010db80000000000000000000000ff");
}

TEST_CASE("ip_address: order is by family, then as numbers") {
  CHECK(address("9.255.0.0") < address("10.0.0.0"));
  CHECK(address("127.255.255.255") < address("128.0.0.0"));
  CHECK(address("255.255.255.255") < address("::"));
  CHECK(address("2001:db8::ff") < address("2001:db8::100"));
}

TEST_CASE("prefix: first and last address at every length") {
  CHECK(prefix("10.1.2.3/0").first() == address("0.0.0.0"));
  CHECK(prefix("10.1.2.3/0").last() == address("255.255.255.255"));
  CHECK(prefix("10.1.2.3/9").first() == address("10.0.0.0"));
  CHECK(prefix("10.1.2.3/9").last() == address("10.127.255.255"));
  CHECK(prefix("10.1.2.3/31").first() == address("10.1.2.2"));
  CHECK(prefix("10.1.2.3/32").first() == prefix("10.1.2.3/32").last());
  CHECK(prefix("2001:db8::1/33").last() == address("2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"));
  CHECK(prefix("::1/128").first() == address("::1"));
  CHECK(prefix("::/0").last() == highest(Family::v6));
}

TEST_CASE("prefix: host bits are kept and said") {
  CHECK(prefix("10.1.0.1/24").address == address("10.1.0.1"));
  CHECK(prefix("10.1.0.1/24").has_host_bits());
  CHECK_FALSE(prefix("10.1.0.0/24").has_host_bits());
  CHECK_FALSE(prefix("10.1.0.1").has_host_bits());
  CHECK(prefix("10.1.0.1").length == 32);
}

TEST_CASE("prefix: a length that is none or too long is refused") {
  for (const char* text :
       {"10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8 ", "10.0.0.0/8/8",
        "::/129", "::/256", "/8", "10.0.0.0/0x8", "10.0.0.0/08x"}) {
    INFO(text);
    CHECK_FALSE(Prefix::parse(text));
  }
}

TEST_CASE("prefix: contains the ends and nothing beyond, and never the other family") {
  const Prefix net = prefix("10.1.0.0/16");
  CHECK(net.contains(address("10.1.0.0")));
  CHECK(net.contains(address("10.1.255.255")));
  CHECK_FALSE(net.contains(address("10.0.255.255")));
  CHECK_FALSE(net.contains(address("10.2.0.0")));
  CHECK_FALSE(prefix("0.0.0.0/0").contains(address("::")));
  CHECK_FALSE(prefix("::/0").contains(address("0.0.0.0")));
}

TEST_CASE("endpoint: IPv6 stands in brackets") {
  CHECK(Endpoint{address("192.0.2.1"), 500}.to_string() == "192.0.2.1:500");
  CHECK(Endpoint{address("2001:db8::1"), 4500}.to_string() == "[2001:db8::1]:4500");
}

}  // namespace culvert::wire
