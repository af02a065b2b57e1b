// Children that are down because nobody has asked for them, and those that somebody should bring
// up.
#include <catch2/catch.hpp>

#include "cli/render.hpp"
#include "tests/unit/cli/status_json.hpp"

namespace culvert::cli {
namespace {

using Catch::Contains;
using nlohmann::json;
using namespace test;

/// One child without an SA, as the data plane tells of it.
json down(const char* started_by, bool wanted) {
  json dataplane = dataplane_with(false, traffic(0, nullptr), traffic(0, nullptr));
  dataplane["children"][0]["started_by"] = started_by;
  dataplane["children"][0]["wanted"] = wanted;
  return dataplane;
}

/// What the key daemon is about to do for office.
json key_daemon_that(bool negotiates, bool was_told_to_end, const json& failure = nullptr) {
  json ike = key_daemon_with(json::array(), failure);
  ike["connections"][0]["children"] = {
      {{"child", "office"}, {"negotiating", negotiates}, {"terminated", was_told_to_end}}};
  return ike;
}

json failure_of(const char* name, const char* child = nullptr) {
  return {{"failure", name},
          {"detail", "ours: this; the peer's: that"},
          {"remedy", "mend it"},
          {"child", child == nullptr ? json(nullptr) : json(child)},
          {"while_up", false}};
}

}  // namespace

TEST_CASE("status: a child that nobody has asked for is no problem, and says what it waits for") {
  for (const auto& [started_by, words] :
       {std::pair{"traffic", "waits for the next packet"},
        std::pair{"command", "waits for `culvert initiate`"},
        std::pair{"peer", "waits for the peer, which may be anywhere"}}) {
    INFO(started_by);
    const json status = merge_status("hq", down(started_by, false), key_daemon_that(false, false));
    CHECK(state_of_office(status) == "waiting");
    CHECK(status.at("problems").empty());
    CHECK(first_line(render_status(status)) == "hq: OK, 0 of 1 child up, 1 waiting");
    CHECK_THAT(render_status(status), Contains("  office  waiting  (" + std::string(words)));
  }
}

TEST_CASE("status: a child that should be up and is not is an error") {
  for (const char* started_by : {"configuration", "traffic"}) {
    const json status = merge_status("hq", down(started_by, true), key_daemon_that(false, false));
    CHECK(state_of_office(status) == "down");
    REQUIRE(status.at("problems").size() == 1);
    CHECK(status["problems"][0]["severity"] == "error");
    CHECK(status["problems"][0]["detail"] == "no negotiation has been started");
    CHECK_THAT(status["problems"][0]["remedy"].get<std::string>(), !Contains("start_action"));
  }
}

TEST_CASE("status: what a command took down is not down for what failed before") {
  const json ike = key_daemon_that(false, true, failure_of("peer_unreachable"));
  const json status = merge_status("hq", down("traffic", false), ike);
  CHECK(state_of_office(status) == "waiting");
  CHECK_THAT(render_status(status), Contains("taken down by `culvert terminate`"));
}

TEST_CASE("status: negotiation is under way for the child that it is under way for") {
  // The IKE SA stands with another child.
  json ike = key_daemon_that(false, false);
  ike["connections"][0]["state"] = "negotiating";
  CHECK(state_of_office(merge_status("hq", down("traffic", false), ike)) == "waiting");
  ike = key_daemon_that(true, false);
  ike["connections"][0]["state"] = "partial";
  const json status = merge_status("hq", down("traffic", true), ike);
  CHECK(status.at("problems").at(0).at("detail") == "negotiation is under way");
}

TEST_CASE("status: what a command took down is brought up by a command") {
  const json ended = merge_status("hq", down("traffic", false), key_daemon_that(false, true));
  CHECK(state_of_office(ended) == "waiting");
  CHECK(ended.at("problems").empty());
  CHECK_THAT(render_status(ended),
             Contains("(taken down by `culvert terminate`, waits for the next packet"));
  const json wanted = merge_status("hq", down("configuration", true), key_daemon_that(false, true));
  CHECK(wanted.at("problems").at(0).at("detail") == "taken down by `culvert terminate`");
  CHECK(wanted.at("problems").at(0).at("remedy") == "`culvert initiate` brings it up again");
}

TEST_CASE("status: another child's failure is not why this one is down") {
  const auto shown = [](const json& dataplane, const json& failure) {
    return merge_status("hq", dataplane, key_daemon_that(false, false, failure));
  };
  const json dataplane = down("traffic", false);
  CHECK(state_of_office(shown(dataplane, failure_of("pfs_mismatch", "lab"))) == "waiting");
  CHECK(state_of_office(shown(dataplane, failure_of("pfs_mismatch", "office"))) == "down");
  CHECK(state_of_office(shown(dataplane, failure_of("peer_unreachable"))) == "down");
}

TEST_CASE("status: a peer that dials in may leave; one that is refused is told of") {
  const auto state = [](const char* started_by, const char* failure) {
    return state_of_office(merge_status("hq", down(started_by, false),
                                        key_daemon_that(false, false, failure_of(failure))));
  };
  CHECK(state("peer", "peer_vanished") == "waiting");
  CHECK(state("peer", "peer_deleted") == "waiting");
  CHECK(state("peer", "certificate_revoked") == "down");
  CHECK(state("traffic", "peer_vanished") == "down");
}

TEST_CASE("status: an SA that is never rekeyed by time does not say that it is due") {
  json children = installed_child();
  children[0]["rekey_in_seconds"] = nullptr;
  const auto shown = [&] {
    return render_status(merge_status("hq", dataplane_with(true, traffic(10, 1), traffic(12, 2)),
                                      key_daemon_with(children)));
  };
  CHECK_THAT(shown(), Contains("out 0xc0000202, no rekey by time\n"));
  children[0]["rekey_in_seconds"] = 0;
  CHECK_THAT(shown(), Contains("out 0xc0000202, rekey in 0s\n"));
}

}  // namespace culvert::cli
