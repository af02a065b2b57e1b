// ESP that does not get through, and somebody on the way says so: what `culvert status` makes of
// it.
#include <catch2/catch.hpp>

#include "cli/render.hpp"
#include "tests/unit/cli/status_json.hpp"

namespace culvert::cli {
namespace {

using Catch::Contains;
using nlohmann::json;
using namespace test;

const std::string kSaid =
    "198.51.100.254 says of ESP to 203.0.113.7: communication administratively prohibited";
const std::string kRemedy = "what to do: let protocol 50 pass there";

json rejected(const json& in, const json& out, double age, bool in_udp = false, bool up = true) {
  json dataplane = dataplane_with(up, in, out);
  dataplane["children"][0]["unreachable"] = {
      {"from", "198.51.100.254"},
      {"to", "203.0.113.7"},
      {"udp_encapsulation", in_udp},
      {"type", 3},
      {"code", 13},
      {"meaning", "communication administratively prohibited"},
      {"remedy", "let protocol 50 pass there"},
      {"messages", 31},
      {"age_seconds", age}};
  return merge_status("hq", dataplane, key_daemon_with(installed_child()));
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t found = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
    ++found;
  }
  return found;
}

}  // namespace

TEST_CASE("status: a tunnel that is up and silent is explained by who rejects its ESP") {
  const json status = rejected(traffic(0, nullptr), traffic(500, 0), 12);
  CHECK(state_of_office(status) == "one-way");
  const std::string text = render_status(status);
  CHECK(first_line(text) ==
        "hq: WARNING, 1 of 1 child up: office is one-way: packets go out, none "
        "arrive: " +
            kSaid);
  CHECK_THAT(text, Contains("        " + kSaid + ", 12s ago, 31 message(s) in all\n"));
  // Once, above.
  CHECK(count(text, kRemedy) == 1);
  CHECK_THAT(text, Contains('\n' + std::string("  ") + kRemedy));
}

TEST_CASE("status: ESP in UDP is said to be that") {
  const std::string text = render_status(rejected(traffic(0, nullptr), traffic(500, 0), 12, true));
  CHECK_THAT(text, Contains("198.51.100.254 says of ESP in UDP to 203.0.113.7: "));
}

TEST_CASE("status: while traffic passes it is shown, and is no problem: anybody may say so") {
  const json status = rejected(traffic(400, 1), traffic(500, 0), 12);
  CHECK(state_of_office(status) == "up");
  CHECK(status.at("problems").empty());
  const std::string text = render_status(status);
  CHECK_THAT(text, Contains(kSaid + ", 12s ago"));
  CHECK_THAT(text, Contains("          " + kRemedy));
}

TEST_CASE("status: after few packets or none it is shown as well, and once the SA is gone") {
  CHECK_THAT(render_status(rejected(traffic(0, nullptr), traffic(2, 0), 1)),
             Contains(kSaid) && Contains(kRemedy));
  CHECK_THAT(render_status(rejected(traffic(0, nullptr), traffic(20, 200), 200, false, false)),
             Contains(kSaid) && Contains(kRemedy));
}

TEST_CASE("status: what was said long ago counts while nothing came in since") {
  const json before = rejected(traffic(400, 200), traffic(500, 0), 301);
  CHECK(before.at("connections").at(0).at("children").at(0).at("unreachable").is_null());
  CHECK_THAT(render_status(before), !Contains("198.51.100.254"));
  const json since = rejected(traffic(400, 5000), traffic(500, 0), 4000);
  CHECK_THAT(render_status(since), Contains(kSaid + ", 1h06m ago"));
  CHECK_THAT(render_status(rejected(traffic(0, nullptr), traffic(500, 0), 4000)), Contains(kSaid));
}

TEST_CASE("status: a data plane that says nothing of it, or null, changes nothing") {
  json dataplane = dataplane_with(true, traffic(0, nullptr), traffic(500, 0));
  for (const json& odd : {json(nullptr), json(7), json::array()}) {
    dataplane["children"][0]["unreachable"] = odd;
    const json status = merge_status("hq", dataplane, key_daemon_with(installed_child()));
    CHECK_THAT(render_status(status), Contains("check at the peer") && !Contains("says of"));
  }
}

}  // namespace culvert::cli
