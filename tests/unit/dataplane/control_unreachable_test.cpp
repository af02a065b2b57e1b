#include <catch2/catch.hpp>

#include "dataplane/control/report_json.hpp"
#include "dataplane/control/unreachable.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

using Catch::Contains;
using test::address;

Unreachable said(bool is_v4, std::uint8_t code, bool is_in_udp = false) {
  return {.from = address(is_v4 ? "198.51.100.254" : "2001:db8::fe"),
          .to = address(is_v4 ? "203.0.113.7" : "2001:db8:7::7"),
          .is_in_udp = is_in_udp,
          .type = static_cast<std::uint8_t>(is_v4 ? 3 : 1),
          .code = code};
}

std::string meaning(bool is_v4, std::uint8_t code) {
  return std::string(text_of(said(is_v4, code)).meaning);
}
std::string remedy(bool is_v4, std::uint8_t code, bool is_in_udp) {
  return std::string(text_of(said(is_v4, code, is_in_udp)).remedy);
}

}  // namespace

TEST_CASE("unreachable: codes have the RFCs' names (RFC 1812 §5.2.7.1, RFC 4443 §3.1)") {
  CHECK(meaning(true, 1) == "host unreachable");
  CHECK(meaning(true, 2) == "protocol unreachable");
  CHECK(meaning(true, 3) == "port unreachable");
  CHECK(meaning(true, 9) == "network administratively prohibited");
  CHECK(meaning(true, 10) == "host administratively prohibited");
  CHECK(meaning(true, 13) == "communication administratively prohibited");
  CHECK(meaning(false, 0) == "no route to destination");
  CHECK(meaning(false, 1) == "communication administratively prohibited");
  CHECK(meaning(false, 4) == "port unreachable");
  CHECK(meaning(false, 6) == "reject route to destination");
  CHECK(meaning(true, 200) == "destination unreachable");
  CHECK(meaning(false, 13) == "destination unreachable");
}

TEST_CASE("unreachable: what to do depends on what was sent, ESP or ESP in UDP") {
  // A port of plain ESP's that is unreachable is a firewall's default of rejecting.
  for (const auto& [is_v4, code] : {std::pair{true, 13}, {true, 3}, {false, 1}, {false, 4}}) {
    const auto number = static_cast<std::uint8_t>(code);
    CHECK_THAT(remedy(is_v4, number, false), Contains("protocol 50") && Contains("encap: yes"));
    CHECK_THAT(remedy(is_v4, number, true), Contains("UDP port 4500") && !Contains("encap"));
  }
  CHECK_THAT(remedy(true, 0, false), Contains("route"));
  CHECK_THAT(remedy(true, 2, false), Contains("IPsec"));
  CHECK_THAT(remedy(false, 5, false), Contains("our address"));
}

TEST_CASE("unreachable: one a child is kept, until the child is no more") {
  Unreachables last;
  IcmpAboutEsp message;
  message.from = address("198.51.100.254");
  message.code = 13;
  const config::ChildId first{1}, second{2};
  for (std::uint64_t i = 0; i < 3; ++i) last.told(first, message, i + 1);
  message.code = 1;
  last.told(second, message, 9);
  CHECK(last.of(first)->messages == 3);
  CHECK(last.of(first)->tsc == 3);
  CHECK(last.of(second)->code == 1);
  last.forget([&](config::ChildId child) { return child == first; });
  CHECK_FALSE(last.of(first));
  CHECK(last.of(second));
}

TEST_CASE("unreachable: a child's report has it, or null") {
  ChildReport child;
  CHECK(to_json(child).at("unreachable").is_null());
  child.unreachable = UnreachableReport{.from = "198.51.100.254",
                                        .to = "203.0.113.7",
                                        .meaning = "host unreachable",
                                        .remedy = "look",
                                        .is_in_udp = true,
                                        .type = 3,
                                        .code = 1,
                                        .messages = 4,
                                        .age_seconds = 12};
  CHECK(to_json(child).at("unreachable") == nlohmann::json{{"from", "198.51.100.254"},
                                                           {"to", "203.0.113.7"},
                                                           {"udp_encapsulation", true},
                                                           {"type", 3},
                                                           {"code", 1},
                                                           {"meaning", "host unreachable"},
                                                           {"remedy", "look"},
                                                           {"messages", 4},
                                                           {"age_seconds", 12.0}});
}

}  // namespace culvert::dataplane::control
