// Children whose packets come and are dropped: what `culvert status` says of them.
#include <catch2/catch.hpp>

#include "cli/problems.hpp"
#include "cli/render.hpp"
#include "tests/unit/cli/status_json.hpp"

namespace culvert::cli {
namespace {

using Catch::Contains;
using nlohmann::json;
using namespace test;

json dropping(int packets, const json& last, const json& drops) {
  json direction = traffic(packets, last);
  direction["drops"] = drops;
  return direction;
}

/// As the data plane names them: "icv_mismatch means this." and "icv_mismatch: do that."
json counters_of(const std::vector<std::string>& reasons) {
  json drops = json::array();
  for (const std::string& reason : reasons) {
    drops.push_back({{"reason", reason},
                     {"direction", "in"},
                     {"packets", 5000},
                     {"meaning", reason + " means this."},
                     {"remedy", reason + ": do that."}});
  }
  return {{"drops", drops}};
}

json status_of(const json& in, const json& out, const json& counters = nullptr) {
  return merge_status("hq", dataplane_with(true, in, out), key_daemon_with(installed_child()),
                      counters);
}

json refused(double age_seconds) {
  return {{"age_seconds", age_seconds},
          {"seen",
           {{"source", "10.3.0.1"},
            {"destination", "10.1.0.5"},
            {"protocol", "tcp"},
            {"source_port", 4000},
            {"destination_port", 80}}},
          {"expected", {{"source", {"10.2.0.0/24"}}, {"destination", {"10.1.0.0/24"}}}}};
}

}  // namespace

TEST_CASE("status: drops worth knowing come with their remedy, ordinary ones stay away") {
  const auto drop = [](const char* reason, const char* severity, int packets) {
    return json{{"reason", reason},
                {"direction", "in"},
                {"severity", severity},
                {"packets", packets},
                {"remedy", "same keys?"}};
  };
  const json counters{
      {"drops",
       {drop("not_for_us", "ordinary", 900000), drop("no_policy_match", "notable", 7),
        drop("replay_duplicate", "notable", 70000), drop("icv_mismatch", "serious", 5),
        drop("no_route", "serious", 0), drop("ttl_exceeded", "notable", 6)}}};
  const json drops = notable_drops(counters);
  REQUIRE(drops.size() == 3);
  CHECK(drops[0]["reason"] == "icv_mismatch");
  CHECK(drops[1]["reason"] == "replay_duplicate");
  CHECK(drops[2]["reason"] == "no_policy_match");
  const std::string text = render_status(status_of(traffic(1, 1), traffic(1, 1), counters));
  CHECK_THAT(text, Contains("5 icv_mismatch (in)") && Contains("same keys?") &&
                       !Contains("not_for_us") && !Contains("ttl_exceeded"));
  CHECK(notable_drops(nullptr).empty());
  // A data plane that does not say is of another version: better named than left out.
  CHECK(notable_drops({{"drops", {{{"reason", "no_route"}, {"packets", 2}}}}}).size() == 1);
}

TEST_CASE("status: a child whose every packet is refused is a problem, with the packet that was") {
  json in = dropping(5000, 1, {{"inner_selector_mismatch", 5000}});
  in["last_refused"] = refused(1);
  const json status =
      status_of(in, traffic(100, 1), counters_of({"not_for_us", "inner_selector_mismatch"}));
  CHECK(state_of_office(status) == "dropping");
  REQUIRE(status["problems"].size() == 1);
  CHECK(status["problems"][0]["severity"] == "error");
  const std::string text = render_status(status);
  CHECK(first_line(text) ==
        "hq: PROBLEM, 1 of 1 child up: office drops 5000 of 5000 packets that arrive: "
        "inner_selector_mismatch: inner_selector_mismatch means this.");
  const std::string told =
      "\n  what to do: inner_selector_mismatch: do that.\n"
      "  refused 1s ago: tcp 10.3.0.1 -> 10.1.0.5, port 4000 -> 80\n"
      "    agreed upon: 10.2.0.0/24 -> 10.1.0.0/24\n";
  CHECK_THAT(text, Contains(told) && Contains("\n  office  dropping\n"));
  CHECK(text.find("refused 1s ago") == text.rfind("refused 1s ago"));
}

TEST_CASE("status: what was refused and has been mended since is no problem") {
  json in = dropping(5000, 1, {{"inner_selector_mismatch", 4000}});
  in["last_refused"] = refused(3600);
  const json status = status_of(in, traffic(100, 1));
  CHECK(status["problems"].empty());
  CHECK(state_of_office(status) == "up");
  CHECK_THAT(render_status(status), Contains("refused 1h00m ago"));
  in["last_refused"] = refused(299);
  CHECK(state_of_office(status_of(in, traffic(100, 1))) == "dropping");
}

TEST_CASE("status: a tenth of a direction's packets, and five, are many; half of them an error") {
  const auto severity = [](const json& in) {
    const json problems = status_of(in, traffic(100, 1))["problems"];
    return problems.empty() ? "none" : problems[0]["severity"].get<std::string>();
  };
  CHECK(severity(dropping(4, 1, {{"esp_padding_invalid", 4}})) == "none");
  CHECK(severity(dropping(5, 1, {{"esp_padding_invalid", 5}})) == "error");
  CHECK(severity(dropping(100, 1, {{"esp_padding_invalid", 9}})) == "none");
  CHECK(severity(dropping(100, 1, {{"esp_padding_invalid", 10}})) == "warning");
  CHECK(severity(dropping(100, 1, {{"esp_padding_invalid", 50}})) == "error");
  // What never authenticated is not among the packets.
  CHECK(severity(dropping(100, 1, {{"icv_mismatch", 11}})) == "none");
  CHECK(severity(dropping(100, 1, {{"icv_mismatch", 12}})) == "warning");
  CHECK(severity(dropping(100, 1, {{"icv_mismatch", 99}})) == "warning");
  CHECK(severity(dropping(100, 1, {{"icv_mismatch", 100}})) == "error");
  // Dummies end here as they should, and are nobody's packets.
  json dummies = dropping(100, 1, {{"dummy_packet", 90}});
  dummies["dummy_packets"] = 90;
  CHECK(severity(dummies) == "none");
  dummies["drops"]["inner_header_invalid"] = 5;
  CHECK(severity(dummies) == "error");
}

TEST_CASE("status: what the data plane calls ordinary is no problem of a child's") {
  const json in = dropping(100, 1, {{"arp_ignored", 90}});
  json counters = counters_of({"arp_ignored"});
  CHECK(status_of(in, traffic(100, 1), counters)["problems"].size() == 1);
  counters["drops"][0]["severity"] = "ordinary";
  CHECK(status_of(in, traffic(100, 1), counters)["problems"].empty());
}

TEST_CASE("status: what comes and is dropped here is no fault of the peer's firewall") {
  const json status = status_of(dropping(0, nullptr, {{"icv_mismatch", 5000}}), traffic(100, 1),
                                counters_of({"icv_mismatch"}));
  CHECK(state_of_office(status) == "dropping");
  REQUIRE(status["problems"].size() == 1);
  CHECK(status["problems"][0]["what"] == "office drops 5000 of 5000 packets that arrive");
  CHECK(status["problems"][0]["remedy"] == "icv_mismatch: do that.");
  CHECK_THAT(render_status(status), !Contains("UDP 4500") && !Contains("one-way"));
}

TEST_CASE("status: silence beside drops that are few of all there ever were names them first") {
  const json status = status_of(dropping(100000, 60, {{"icv_mismatch", 5000}}), traffic(200000, 1),
                                counters_of({"icv_mismatch"}));
  CHECK(state_of_office(status) == "one-way");
  REQUIRE(status["problems"].size() == 1);
  CHECK(status["problems"][0]["detail"] ==
        "packets go out, none arrive; 5000 were dropped here: icv_mismatch");
  CHECK_THAT(status["problems"][0]["remedy"].get<std::string>(),
             Contains("icv_mismatch: do that. If that number stands still: check at the peer"));
}

TEST_CASE("status: a packet left of the window comes with the window that would have taken it") {
  json in = dropping(100, 1, {{"replay_left_of_window", 60}});
  in["late"] = {{"advised_window", 4096}};
  CHECK_THAT(render_status(status_of(in, traffic(100, 1), counters_of({"replay_left_of_window"}))),
             Contains("what to do: replay_left_of_window: do that. Here replay_window: 4096 would "
                      "have taken them."));
}

TEST_CASE("status: no replay window is advised that would not have taken the packets") {
  const auto remedy = [](const json& late) {
    json in = traffic(100, 1);
    in["drops"] = {{"replay_left_of_window", 60}};
    in["late"] = late;
    return merge_status("hq", dataplane_with(true, in, traffic(100, 1)),
                        key_daemon_with(installed_child()))
        .at("problems")
        .at(0)
        .at("remedy")
        .get<std::string>();
  };
  CHECK_THAT(remedy({{"advised_window", 65536}, {"missed", {{"65536", 60}}}}),
             Contains("Here replay_window: 65536 would have taken them."));
  CHECK_THAT(remedy({{"advised_window", 65536}, {"missed", {{"64", 59}, {"1048576", 1}}}}),
             !Contains("would have taken them") &&
                 Contains("No replay_window takes all of them: some came 65536 packets behind"));
}

TEST_CASE("status: each direction and each reason that takes many is a problem of its own") {
  const json status =
      status_of(dropping(100, 1, {{"inner_header_invalid", 20}, {"esp_padding_invalid", 30}}),
                dropping(0, nullptr, {{"packet_too_big", 7}}), counters_of({"packet_too_big"}));
  const json& problems = status["problems"];
  REQUIRE(problems.size() == 3);
  CHECK(problems[0]["reason"] == "esp_padding_invalid");
  CHECK(problems[0]["severity"] == "warning");
  CHECK(problems[1]["reason"] == "inner_header_invalid");
  CHECK(problems[2]["what"] == "office drops 7 of 7 packets to send");
  CHECK(problems[2]["direction"] == "out");
  CHECK(problems[2]["severity"] == "error");
  // Without the data plane's table the name is all there is.
  CHECK(problems[0]["detail"] == "esp_padding_invalid");
  CHECK(problems[0]["remedy"] == "See `culvert counters --drops`.");
}

TEST_CASE("status: of a child that is down, and beside others, drops are told where they belong") {
  json dataplane =
      dataplane_with(false, dropping(100, 1, {{"inner_header_invalid", 50}}), traffic(100, 1));
  json& children = dataplane["children"];
  for (const char* name : {"lab", "voice"}) {
    children.push_back(children[0]);
    children.back()["child"] = name;
  }
  children[1]["up"] = true;
  const json problems = merge_status("hq", dataplane, key_daemon_with(json::array()))["problems"];
  REQUIRE(problems.size() == 2);
  CHECK(problems[0]["what"] == "office, voice are down");
  CHECK(problems[1]["what"] == "lab drops 50 of 100 packets that arrive");
}

}  // namespace culvert::cli
