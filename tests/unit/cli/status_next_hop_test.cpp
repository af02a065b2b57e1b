// Packets that never leave: what `culvert status` says where a peer seems silent.
#include <catch2/catch.hpp>

#include "cli/next_hop.hpp"
#include "cli/render.hpp"
#include "tests/unit/cli/status_json.hpp"

namespace culvert::cli {
namespace {

using Catch::Contains;
using nlohmann::json;
using namespace test;

json links_with(const std::string& state) {
  return {
      {"routes",
       {{{"to", "0.0.0.0/0"}, {"via", "198.51.100.254"}, {"interface", "wan"}, {"kind", "static"}},
        {{"to", "198.51.100.0/24"}, {"via", nullptr}, {"interface", "wan"}, {"kind", "connected"}},
        {{"to", "198.51.100.1/32"}, {"via", nullptr}, {"interface", "wan"}, {"kind", "local"}},
        {{"to", "2001:db8:7::/48"}, {"via", "fe80::1"}, {"interface", "wan"}, {"kind", "static"}}}},
      {"neighbors",
       {{{"interface", "lan"}, {"address", "198.51.100.254"}, {"state", "reachable"}},
        {{"interface", "wan"}, {"address", "198.51.100.254"}, {"state", state}},
        {{"interface", "wan"}, {"address", "198.51.100.9"}, {"state", state}},
        {{"interface", "wan"}, {"address", "fe80::1"}, {"state", state}}}}};
}

std::string why(const std::string& peer, const json& links) {
  const auto way = dead_way(peer, links);
  return way ? way->why : "";
}

json one_way_child() { return dataplane_with(true, traffic(0, nullptr), traffic(500, 0)); }

const json kUnreachable{{"failure", "peer_unreachable"},
                        {"detail", "no answer from 203.0.113.7"},
                        {"remedy", "check the path"}};

}  // namespace

TEST_CASE("next hop: by the most specific route, with a port or without, of both families") {
  const json dead = links_with("failed");
  CHECK(why("203.0.113.7", dead) == "the next hop 198.51.100.254 on wan does not answer ARP");
  CHECK(why("203.0.113.7:4500", dead) == "the next hop 198.51.100.254 on wan does not answer ARP");
  CHECK(why("198.51.100.9:500", dead) == "the next hop 198.51.100.9 on wan does not answer ARP");
  CHECK(why("198.51.100.8", dead).empty());  // never asked
  CHECK(why("198.51.100.1", dead).empty());  // ourselves
  const char* const v6 = "the next hop fe80::1 on wan does not answer neighbour solicitations";
  CHECK(why("[2001:db8:7::1]:500", dead) == v6);
  CHECK(why("2001:db8:7::1", dead) == v6);
  CHECK(why("2001:db8:8::1", dead) == "no route leads to 2001:db8:8::1");
  CHECK(why("203.0.113.7", links_with("incomplete")) == why("203.0.113.7", dead));
  CHECK(why("203.0.113.7", links_with("reachable")).empty());
  CHECK(why("203.0.113.7", links_with("static")).empty());
}

TEST_CASE("next hop: a link that is down comes before the neighbour behind it") {
  json links = links_with("reachable");
  links["interfaces"] = {{{"name", "lan"}, {"link", "down"}}, {{"name", "wan"}, {"link", "up"}}};
  CHECK(why("203.0.113.7", links).empty());
  links["interfaces"][1]["link"] = "down";
  CHECK(why("203.0.113.7", links) == "wan, which leads to 198.51.100.254, has no link");
}

TEST_CASE("next hop: what is missing or odd says nothing against the way") {
  for (const json& odd : {json(nullptr), json(7), json::array(), json::object(),
                          json{{"neighbors", {1}}}, json{{"routes", "x"}}}) {
    CHECK(why("203.0.113.7", odd).empty());
  }
  for (const char* odd : {"", "-", "[", "[]", ":", "%any", "203.0.113:7:"}) {
    CHECK(why(odd, links_with("failed")).empty());
  }
  CHECK(why("203.0.113.7", {{"routes", {1, {{"to", "x"}}}}}) == "no route leads to 203.0.113.7");
}

TEST_CASE("status: packets that end at a dead next hop are no fault of the peer's firewall") {
  const auto problem = [](const json& links) {
    return merge_status("hq", one_way_child(), key_daemon_with(installed_child()), nullptr, links)
        .at("problems")
        .at(0);
  };
  const json dead = problem(links_with("failed"));
  CHECK(dead["what"] == "office is one-way");
  CHECK(dead["detail"] ==
        "packets go out, none arrive: the next hop 198.51.100.254 on wan does not answer ARP");
  CHECK_THAT(dead["remedy"].get<std::string>(), Contains("up and on that interface's network"));
  const json well = problem(links_with("reachable"));
  CHECK(well["detail"] == "packets go out, none arrive");
  CHECK_THAT(well["remedy"].get<std::string>(), Contains("UDP 4500"));
}

TEST_CASE("status: packets that ended behind the SAs, where the next hop is not known") {
  const auto detail = [](const char* reason, int packets) {
    const json counters{{"drops",
                         {{{"reason", reason},
                           {"direction", "out"},
                           {"packets", packets},
                           {"remedy", "shape at the sender"}}}}};
    return merge_status("hq", one_way_child(), key_daemon_with(installed_child()), counters)
        .at("problems")
        .at(0)
        .at("detail")
        .get<std::string>();
  };
  CHECK(detail("tx_queue_full", 250) ==
        "packets go out, none arrive: 250 packets of this gateway never left: tx_queue_full");
  CHECK_THAT(detail("neighbor_unresolved", 400), Contains("never left: neighbor_unresolved"));
  CHECK(detail("tx_queue_full", 249) == "packets go out, none arrive");
  CHECK(detail("no_policy_match", 5000) == "packets go out, none arrive");
}

TEST_CASE("status: a connection that is down as peer_unreachable names the dead next hop") {
  const json dataplane = dataplane_with(false, traffic(0, nullptr), traffic(0, nullptr));
  const auto problem = [&](const json& failure, const json& remote) {
    json ike = key_daemon_with(json::array(), failure);
    ike["ike_sas"] = json::array();
    ike["connections"][0]["remote"] = remote;
    if (failure.is_null()) ike["connections"][0]["state"] = "negotiating";
    return merge_status("hq", dataplane, ike, nullptr, links_with("failed")).at("problems").at(0);
  };
  const json dead = problem(kUnreachable, "203.0.113.7");
  CHECK(dead["detail"] ==
        "peer_unreachable: no answer from 203.0.113.7: the next hop 198.51.100.254 on wan does not "
        "answer ARP");
  CHECK_THAT(dead["remedy"].get<std::string>(), Contains("culvert neighbors"));
  CHECK_THAT(problem(nullptr, "203.0.113.7")["detail"].get<std::string>(),
             Contains("negotiation is under way: the next hop"));
  CHECK(problem(kUnreachable, nullptr)["remedy"] == "check the path");
  json refused = kUnreachable;
  refused["failure"] = "no_ike_proposal_chosen";
  CHECK(problem(refused, "203.0.113.7")["remedy"] == "check the path");
}

}  // namespace culvert::cli
