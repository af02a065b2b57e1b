#include <catch2/catch.hpp>

#include "cli/render.hpp"

namespace culvert::cli {
namespace {

using Catch::Contains;
using nlohmann::json;

}  // namespace

TEST_CASE("tables: an SA is a row, and its drops are named below") {
  const json sas{
      {"sas",
       {{{"connection", "branch"},
         {"child", "office"},
         {"direction", "in"},
         {"spi", "0xc0000101"},
         {"suite", "aes256gcm16"},
         {"packets", 12},
         {"bytes", 2048},
         {"last_packet_seconds", nullptr},
         {"drops", {{"replay_duplicate", 3}}},
         {"last_refused",
          {{"age_seconds", 4.0},
           {"seen",
            {{"source", "10.9.0.1"},
             {"destination", "10.1.0.5"},
             {"protocol", "icmp"},
             {"icmp_type", 8},
             {"icmp_code", 0}}},
           {"expected",
            {{"source", {"10.2.0.0/24", "10.3.0.0/16"}}, {"destination", {"10.1.0.0/24"}}}}}}}}}};
  const std::string text = render_sas(sas);
  CHECK_THAT(text, Contains("branch/office") && Contains("0xc0000101") && Contains("2.0 KiB"));
  CHECK_THAT(text, Contains("3 dropped: replay_duplicate"));
  CHECK_THAT(text, Contains("refused 4s ago: icmp 10.9.0.1 -> 10.1.0.5, type 8 code 0\n") &&
                       Contains("agreed upon: 10.2.0.0/24, 10.3.0.0/16 -> 10.1.0.0/24\n"));
}

TEST_CASE("tables: what a gateway seldom does is counted below the totals, when it has done it") {
  json counters{{"totals", {{"received", 9}, {"mss_clamped", 77}, {"fragments_made", 0}}}};
  CHECK_THAT(render_counters(counters, false),
             Contains("received 9  ") && Contains("\nmss_clamped 77\n") &&
                 !Contains("fragments_made") && !Contains("reassembled"));
  counters["totals"]["fragments_made"] = 3;
  counters["totals"]["reassembled"] = 4;
  CHECK_THAT(render_counters(counters, false),
             Contains("\nmss_clamped 77\nfragments_made 3\nreassembled 4\n"));
  CHECK_THAT(render_counters(counters, true), !Contains("mss_clamped"));
  CHECK(only_drops(counters) == json{{"drops", json::array()}});
}

TEST_CASE("tables: what is empty is said in words") {
  CHECK(render_sas({{"sas", json::array()}}) == "no SA is installed\n");
  CHECK(render_policies({{"policies", json::array()}}) == "no policy\n");
  CHECK(render_routes({{"routes", json::array()}}) == "no route\n");
  CHECK_FALSE(render_neighbors({{"neighbors", json::array()}}).empty());
}

TEST_CASE("tables: answers without the expected fields never throw") {
  for (const json& odd :
       {json(nullptr), json(1), json::object(), json{{"sas", 3}},
        json{{"sas", {{{"drops", 5}, {"last_refused", {{"seen", 1}}}}}}}, json{{"policies", {1}}},
        json{{"drops", {{{"reason", 1}}}}, {"totals", "x"}, {"workers", 1}}}) {
    INFO(odd.dump());
    CHECK_NOTHROW(render_sas(odd));
    CHECK_NOTHROW(render_policies(odd));
    CHECK_NOTHROW(render_routes(odd));
    CHECK_NOTHROW(render_neighbors(odd));
    CHECK_NOTHROW(render_counters(odd, false));
    CHECK_NOTHROW(render_counters(odd, true));
  }
}

}  // namespace culvert::cli
