// Problems of links, losses, workers and the default policy.
#include <catch2/catch.hpp>

#include "cli/render.hpp"
#include "tests/unit/cli/status_json.hpp"

namespace culvert::cli {
namespace {

using Catch::Contains;
using nlohmann::json;
using namespace test;

json status_of(const json& dataplane) {
  return merge_status("hq", dataplane, key_daemon_with(installed_child()));
}

json problems_of_interface(const json& counters) {
  json dataplane = dataplane_with(true, traffic(10, 1), traffic(12, 2));
  json wan = {{"name", "wan"}, {"device", "0000:01:00.0"}, {"link", "up"}};
  wan.update(counters);
  dataplane["interfaces"] = json::array({wan});  // in braces alone clang copies it
  return status_of(dataplane).at("problems");
}

}  // namespace

TEST_CASE("status: whether a daemon runs is known from an answer, or where nobody listens") {
  const auto running = [](const char* code) {
    const json daemon = running_or_error(std::unexpected(runtime::ControlError{code, "why"}));
    CHECK(daemon.at("error") == "why");
    CHECK(daemon.at("error_code") == code);
    return daemon.at("running");
  };
  CHECK(running("not_running") == false);
  CHECK(running("permission_denied").is_null());
  CHECK(running("timeout").is_null());
  CHECK(running_or_error(json{{"pid", 7}}) == json{{"pid", 7}, {"running", true}});
}

TEST_CASE("status: who may not ask is told so, not that nothing runs") {
  const json forbidden{{"running", nullptr},
                       {"error", "no permission to open dataplane.sock"},
                       {"error_code", "permission_denied"}};
  const json status = merge_status("hq", forbidden, forbidden);
  REQUIRE(status["problems"].size() == 1);
  CHECK(first_line(render_status(status)) ==
        "hq: PROBLEM, no children known: the daemons may not be asked: no permission to open "
        "dataplane.sock");
  CHECK_THAT(render_status(status),
             Contains("what to do: run it as root") &&
                 Contains("culvert-dataplane: not known: no permission to ask it") &&
                 !Contains("start culvert-") && !Contains("not running"));
}

TEST_CASE("status: a daemon that does not answer in time is not said to be stopped") {
  const json late{{"running", nullptr}, {"error", "no answer in time"}, {"error_code", "timeout"}};
  const std::string text = render_status(merge_status("hq", late, late));
  CHECK_THAT(text, Contains("the data plane does not answer: no answer in time") &&
                       Contains("culvert-dataplane: does not answer (timeout)") &&
                       Contains("culvert-ike: does not answer (timeout)") &&
                       Contains("what to do: it is there: ask again") &&
                       !Contains("start culvert-") && !Contains("not running"));
  const json stopped{
      {"running", false}, {"error", "nothing answers"}, {"error_code", "not_running"}};
  const json down = dataplane_with(false, traffic(0, nullptr), traffic(0, nullptr));
  CHECK_THAT(render_status(merge_status("hq", down, late)),
             Contains("office is down: no SA is installed, and the key daemon does not answer\n"));
  CHECK_THAT(render_status(merge_status("hq", down, stopped)),
             Contains("office is down: culvert-ike is not running") &&
                 Contains("what to do: start culvert-ike\n"));
  CHECK_THAT(render_status(merge_status("hq", stopped, late)),
             Contains("what to do: start culvert-dataplane") &&
                 Contains("culvert-dataplane: not running"));
}

TEST_CASE("status: an interface without a link is an error in the first line") {
  json dataplane = dataplane_with(true, traffic(10, 1), traffic(12, 2));
  dataplane["interfaces"] = {{{"name", "lan"}, {"device", "0000:02:00.0"}, {"link", "up"}},
                             {{"name", "wan"}, {"device", "0000:01:00.0"}, {"link", "down"}}};
  const std::string text = render_status(status_of(dataplane));
  CHECK(first_line(text) == "hq: PROBLEM, 1 of 1 child up: wan has no link: device 0000:01:00.0");
  CHECK_THAT(text, Contains("what to do: Check the cable"));
  dataplane["interfaces"][1]["link"] = "up";
  CHECK(status_of(dataplane).at("problems").empty());
}

TEST_CASE("status: losses of a hundred packets and one in a thousand are a warning") {
  CHECK(problems_of_interface({{"rx_packets", 99901}, {"rx_missed", 99}}).empty());
  CHECK(problems_of_interface({{"rx_packets", 99901}, {"rx_missed", 100}}).empty());
  const json missed = problems_of_interface({{"rx_packets", 99900}, {"rx_missed", 100}});
  REQUIRE(missed.size() == 1);
  CHECK(missed[0]["severity"] == "warning");
  CHECK(missed[0]["what"] == "wan loses packets");
  CHECK(missed[0]["detail"] ==
        "100 of 100000 received, found no room in the receive queue (rx_missed)");
  CHECK_THAT(missed[0]["remedy"].get<std::string>(), Contains("dataplane.workers"));
  CHECK(problems_of_interface({{"rx_packets", 500}, {"rx_errors", 100}}).size() == 1);
  CHECK(problems_of_interface({{"tx_packets", 500}, {"tx_errors", 100}}).size() == 1);
  CHECK(problems_of_interface({{"rx_packets", 500}, {"tx_packets", 900000}, {"tx_errors", 100}})
            .empty());
}

TEST_CASE("status: packets that came while the pool was empty are an error with that remedy") {
  json dataplane = dataplane_with(true, traffic(10, 1), traffic(12, 2));
  dataplane["interfaces"] = {
      {{"name", "wan"}, {"link", "up"}, {"rx_packets", 90000000}, {"rx_no_buffer", 10}}};
  const json counters{
      {"drops", {{{"reason", "no_buffer"}, {"packets", 0}, {"remedy", "Look at the queues."}}}}};
  const auto problems = [&] {
    return merge_status("hq", dataplane, key_daemon_with(installed_child()), counters)["problems"];
  };
  REQUIRE(problems().size() == 1);
  CHECK(problems()[0]["severity"] == "error");
  CHECK(problems()[0]["detail"] == "10 received while the packet pool was empty (rx_no_buffer)");
  CHECK(problems()[0]["remedy"] == "Look at the queues.");
  dataplane["interfaces"][0]["rx_no_buffer"] = 9;
  CHECK(problems().empty());
}

TEST_CASE("status: a worker that is hardly ever idle is a warning, a busy one is none") {
  json dataplane = dataplane_with(true, traffic(10, 1), traffic(12, 2));
  dataplane["workers"] = {{{"id", 0}, {"core", "2"}, {"idle_percent", 5.0}},
                          {{"id", 1}, {"core", "3"}, {"idle_percent", 4.94}},
                          {{"id", 2}, {"core", "4"}, {"idle_percent", nullptr}}};
  const json problems = status_of(dataplane).at("problems");
  REQUIRE(problems.size() == 1);
  CHECK(problems[0]["what"] == "worker 1 (core 3) is hardly ever idle");
  CHECK(problems[0]["detail"] == "4.9 % of the past second");
}

TEST_CASE("status: a default policy of bypass is a warning") {
  json dataplane = dataplane_with(true, traffic(10, 1), traffic(12, 2));
  dataplane["default_policy"] = "bypass";
  CHECK(first_line(render_status(status_of(dataplane))) ==
        "hq: WARNING, 1 of 1 child up: what no policy names passes in clear: default_policy is "
        "bypass");
}

TEST_CASE("status: an interface on another NUMA node than a worker is a warning") {
  const auto problems_of = [](const json& node_of_device, int node_of_second) {
    json dataplane = dataplane_with(true, traffic(10, 1), traffic(12, 2));
    dataplane["interfaces"] = {{{"name", "wan"}, {"numa_node", node_of_device}}};
    dataplane["workers"] = {{{"id", 0}, {"core", "2"}, {"numa_node", 0}},
                            {{"id", 1}, {"core", "18"}, {"numa_node", node_of_second}}};
    return merge_status("hq", dataplane, key_daemon_with(installed_child())).at("problems");
  };
  CHECK(problems_of(0, 0).empty());
  CHECK(problems_of(nullptr, 1).empty());  // it does not tell
  json spread = dataplane_with(true, traffic(10, 1), traffic(12, 2));
  spread["interfaces"] = {{{"name", "lan"}, {"numa_node", 0}}, {{"name", "wan"}, {"numa_node", 1}}};
  spread["workers"] = {{{"id", 0}, {"core", "2"}, {"numa_node", 0}},
                       {{"id", 1}, {"core", "0,1,2,3"}, {"numa_node", nullptr}}};
  CHECK(merge_status("hq", spread, key_daemon_with(installed_child())).at("problems").empty());
  const json problems = problems_of(0, 1);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].at("severity") == "warning");
  CHECK(problems[0].at("what") == "wan is far from its workers");
  CHECK(problems[0].at("detail") ==
        "its device is on NUMA node 0, not so worker 1 (core 18, node 1)");
}

}  // namespace culvert::cli
