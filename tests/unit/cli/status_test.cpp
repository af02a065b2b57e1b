// Verdicts from the two daemons' JSON, in the operator's words.
#include <catch2/catch.hpp>

#include "cli/render.hpp"
#include "tests/unit/cli/status_json.hpp"

namespace culvert::cli {
namespace {

using Catch::Contains;
using nlohmann::json;
using namespace test;

}  // namespace

TEST_CASE("status: a tunnel with traffic both ways is OK in the first line, with its details") {
  const json status = merge_status("hq", dataplane_with(true, traffic(10, 1), traffic(12, 2)),
                                   key_daemon_with(installed_child()));
  const std::string text = render_status(status);
  CHECK(first_line(text) == "hq: OK, 1 of 1 child up");
  CHECK(state_of_office(status) == "up");
  CHECK(status.at("problems").empty());
  CHECK_THAT(text, Contains("SPI in 0xc0000101 out 0xc0000202") && Contains("aes256gcm16") &&
                       Contains("rekey in 50m00s") && Contains("in  1000 B (10 packets, last 1s") &&
                       Contains("out 1.2 KiB (12 packets, last 2s"));
}

TEST_CASE("status: a failed negotiation names the child, the failure and the remedy") {
  const json failure{{"failure", "no_ike_proposal_chosen"},
                     {"detail", "we offer ecp384, the peer takes modp2048"},
                     {"meaning", "…"},
                     {"remedy", "write the same proposal at both ends"}};
  const json status =
      merge_status("hq", dataplane_with(false, traffic(0, nullptr), traffic(0, nullptr)),
                   key_daemon_with(json::array(), failure));
  const std::string text = render_status(status);
  CHECK(first_line(text) ==
        "hq: PROBLEM, 0 of 1 child up: office is down: "
        "no_ike_proposal_chosen: we offer ecp384, the peer takes modp2048");
  CHECK_THAT(text, Contains("what to do: write the same proposal at both ends"));
}

TEST_CASE("status: what will fail at the next rekey is a warning while traffic passes") {
  const json failure{{"failure", "pfs_mismatch"},
                     {"detail", "ours: x25519; the peer's: none"},
                     {"meaning", "…"},
                     {"remedy", "the same group on both sides"},
                     {"child", "office"},
                     {"while_up", true},
                     {"age_seconds", 130}};
  const json status = merge_status("hq", dataplane_with(true, traffic(10, 1), traffic(12, 2)),
                                   key_daemon_with(installed_child(), failure));
  CHECK(state_of_office(status) == "up");
  CHECK(first_line(render_status(status)) ==
        "hq: WARNING, 1 of 1 child up: office is up, but: pfs_mismatch: "
        "ours: x25519; the peer's: none, 2m10s ago");
  CHECK_THAT(render_status(status), Contains("what to do: the same group on both sides"));
}

TEST_CASE("status: what is told in one place is not told again") {
  const auto times = [](const std::string& text, const std::string& words) {
    int found = 0;
    for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) {
      ++found;
    }
    return found;
  };
  const json failure{{"failure", "peer_unreachable"},
                     {"detail", "no answer from 203.0.113.7"},
                     {"meaning", "…"},
                     {"remedy", "check the path"}};
  json ike = key_daemon_with(json::array(), failure);
  ike["last_stranger"] = {{"failure", "unknown_peer_address"},
                          {"detail", "no connection for 192.0.2.9"},
                          {"remedy", "set remote.address"},
                          {"age_seconds", 3}};
  const std::string text = render_status(
      merge_status("hq", dataplane_with(false, traffic(0, nullptr), traffic(0, nullptr)), ike));
  INFO(text);
  for (const char* once :
       {"peer_unreachable", "no answer from 203.0.113.7", "check the path", "unknown_peer_address",
        "no connection for 192.0.2.9", "set remote.address"}) {
    CHECK(times(text, once) == 1);
  }
  CHECK_THAT(text,
             Contains("no answer from 203.0.113.7\n  what to do: check the path\n") &&
                 Contains("\nwarning: a peer was refused: unknown_peer_address: no connection "
                          "for 192.0.2.9\n  what to do: set remote.address\n") &&
                 Contains("\n  office  down\n"));
}

TEST_CASE("status: children that are down for one reason are one problem") {
  json dataplane = dataplane_with(false, traffic(0, nullptr), traffic(0, nullptr));
  json& children = dataplane["children"];
  for (const char* name : {"lab", "voice"}) {
    children.push_back(children[0]);
    children.back()["child"] = name;
  }
  children.push_back(children[0]);
  children.back()["connection"] = "other";
  const json failure{
      {"failure", "no_shared_secret"}, {"detail", "ours: none"}, {"remedy", "add one"}};
  const json status = merge_status("hq", dataplane, key_daemon_with(json::array(), failure));
  REQUIRE(status.at("problems").size() == 2);
  CHECK(status["problems"][0]["what"] == "office, lab, voice are down");
  CHECK(status["problems"][0]["detail"] == "no_shared_secret: ours: none");
  CHECK(status["problems"][1]["what"] == "office is down");
  CHECK(status["problems"][1]["detail"] == "no negotiation has been started");
}

TEST_CASE("status: a child that is up for less than configured says so, whatever passes") {
  json children = installed_child();
  children[0]["notice"] = {{"failure", "selectors_narrowed"},
                           {"detail", "ours: 10.2.0.0/16; agreed upon: 10.2.0.0/24"},
                           {"remedy", "the same on both sides"}};
  const std::string told =
      "    selectors_narrowed: ours: 10.2.0.0/16; agreed upon: 10.2.0.0/24\n"
      "    what to do: the same on both sides\n";
  const auto shown = [&](const json& in, const json& out) {
    return render_status(
        merge_status("hq", dataplane_with(true, in, out), key_daemon_with(children)));
  };
  CHECK_THAT(shown(traffic(10, 1), traffic(12, 2)),
             Contains("hq: OK") && Contains("  office  up\n" + told));
  CHECK_THAT(shown(traffic(0, nullptr), traffic(0, nullptr)),
             Contains("  office  idle  (no packet has passed yet)\n" + told));
  CHECK_THAT(shown(traffic(0, nullptr), traffic(500, 0)),
             Contains("hq: WARNING") && Contains("  office  one-way\n" + told));
}

TEST_CASE("status: packets go out and none ever arrives: one-way, and what to check at the peer") {
  const json status = merge_status("hq", dataplane_with(true, traffic(0, nullptr), traffic(500, 0)),
                                   key_daemon_with(installed_child()));
  CHECK(state_of_office(status) == "one-way");
  CHECK_THAT(first_line(render_status(status)), Contains("WARNING") && Contains("none arrive"));
  CHECK_THAT(render_status(status), Contains("UDP 4500") && Contains("none yet"));
}

TEST_CASE("status: what came in a minute ago does not excuse silence while we send") {
  const auto state = [](const json& in, const json& out) {
    return state_of_office(
        merge_status("hq", dataplane_with(true, in, out), key_daemon_with(installed_child())));
  };
  CHECK(state(traffic(50, 60), traffic(500, 0)) == "one-way");
  CHECK(state(traffic(50, 5), traffic(500, 0)) == "up");
  CHECK(state(traffic(50, 600), traffic(500, 600)) == "up");
  CHECK(state(traffic(50, 320), traffic(500, 300)) == "one-way");
  // Nobody sends any more: how the last exchange ended says nothing of now.
  CHECK(state(traffic(50, 321), traffic(500, 301)) == "up");
  CHECK(state(traffic(500, 259200), traffic(50, 259220)) == "up");
  CHECK(state(traffic(0, nullptr), traffic(500, 259200)) == "one-way");
  CHECK(state(traffic(0, nullptr), traffic(2, 0)) == "up");
  CHECK(state(traffic(500, 0), traffic(0, nullptr)) == "one-way");
  CHECK(state(traffic(0, nullptr), traffic(0, nullptr)) == "idle");
}

TEST_CASE("status: dummy packets that nobody answers are neither traffic nor one-way") {
  const auto shown = [](const json& in, json out, int dummies) {
    out["dummy_packets"] = dummies;
    return merge_status("hq", dataplane_with(true, in, out), key_daemon_with(installed_child()));
  };
  const json idle = shown(traffic(0, nullptr), traffic(500, 0), 500);
  CHECK(state_of_office(idle) == "idle");
  CHECK_THAT(render_status(idle), Contains("(500 packets, 500 of them dummies, last "));
  CHECK(state_of_office(shown(traffic(50, 60), traffic(500, 0), 400)) == "up");
  CHECK(state_of_office(shown(traffic(0, nullptr), traffic(500, 0), 400)) == "one-way");
  // Nor do the peer's hide that nothing else comes.
  json dummies = traffic(300, 0);
  dummies["dummy_packets"] = 300;
  CHECK(state_of_office(shown(dummies, traffic(500, 0), 0)) == "one-way");
  dummies["dummy_packets"] = 299;
  CHECK(state_of_office(shown(dummies, traffic(500, 0), 0)) == "up");
}

TEST_CASE("status: negotiated by IKE but without an SA in the data plane is down") {
  const json status =
      merge_status("hq", dataplane_with(false, traffic(0, nullptr), traffic(0, nullptr)),
                   key_daemon_with(installed_child()));
  CHECK(state_of_office(status) == "down");
  CHECK_THAT(render_status(status), Contains("negotiated, but the data plane has no SA"));
}

TEST_CASE("status: a manual SA of one direction is up, and needs neither an answer nor IKE") {
  json dataplane = dataplane_with(true, traffic(0, nullptr), traffic(500, 0));
  json& child = dataplane["children"][0];
  child["manual"] = true;
  child["directions"] = {"out"};
  const json status = merge_status("hq", dataplane, kStopped);
  CHECK(state_of_office(status) == "up");
  CHECK(status.at("problems").empty());
  CHECK_THAT(first_line(render_status(status)), Contains("OK"));

  child["directions"] = {"in", "out"};
  CHECK(state_of_office(merge_status("hq", dataplane, kStopped)) == "one-way");

  child["up"] = false;
  CHECK_THAT(render_status(merge_status("hq", dataplane, kStopped)),
             Contains("office is down: an SA without IKE has ended") && Contains("key_file") &&
                 Contains("systemctl reload culvert-dataplane@NAME"));
}

TEST_CASE("status: a packet that was not for the tunnel is shown beside what was agreed upon") {
  json in = traffic(10, 1);
  in["last_refused"] = {
      {"age_seconds", 130.0},
      {"seen",
       {{"source", "10.9.0.1"},
        {"destination", "10.1.0.5"},
        {"protocol", "udp"},
        {"source_port", 4000},
        {"destination_port", 53}}},
      {"expected", {{"source", {"10.2.0.0/24"}}, {"destination", {"10.1.0.0/24"}}}}};
  const auto shown = [&](const json& arriving) {
    return render_status(merge_status("hq", dataplane_with(true, arriving, traffic(12, 1)),
                                      key_daemon_with(installed_child())));
  };
  CHECK_THAT(shown(in), Contains("refused 2m10s ago: udp 10.9.0.1 -> 10.1.0.5, port 4000 -> 53") &&
                            Contains("agreed upon: 10.2.0.0/24 -> 10.1.0.0/24"));
  in["last_refused"]["seen"]["source_port"] = nullptr;  // of a later fragment
  CHECK_THAT(shown(in), Contains("udp 10.9.0.1 -> 10.1.0.5\n"));
  in["last_refused"] = nullptr;
  CHECK_THAT(shown(in), !Contains("refused"));
}

TEST_CASE("status: which engine seals packets, and why it is another than usual") {
  json dataplane = dataplane_with(true, traffic(10, 1), traffic(12, 2));
  const auto shown = [&] {
    return render_status(merge_status("hq", dataplane, key_daemon_with(installed_child())));
  };
  CHECK_THAT(shown(), Contains("\n  crypto ipsec-mb, default policy discard\n"));
  dataplane["engine_reason"] = nullptr;
  CHECK_THAT(shown(), Contains("\n  crypto ipsec-mb, default policy discard\n"));
  dataplane["engine"] = "openssl 3.0.17";
  dataplane["engine_reason"] = "IPsec-MB cannot run: the processor lacks AES-NI";
  CHECK_THAT(shown(), Contains("hq: OK") &&
                          Contains("\n  crypto openssl 3.0.17 (IPsec-MB cannot run: the processor "
                                   "lacks AES-NI), default policy discard\n"));
}

TEST_CASE("status: without the key daemon traffic goes on, and status says so") {
  const json status =
      merge_status("hq", dataplane_with(true, traffic(10, 1), traffic(12, 1)), kStopped);
  const std::string text = render_status(status);
  CHECK(state_of_office(status) == "up");
  CHECK_THAT(first_line(text), Contains("WARNING, 1 of 1 child up: the key daemon"));
  CHECK_THAT(text, Contains("installed SAs carry traffic until they expire") &&
                       Contains("culvert-ike: not running"));
}

TEST_CASE("status: without the data plane nothing passes, and the error comes before the warning") {
  const json status = merge_status("hq", {{"running", false}, {"error", "no socket"}}, kStopped);
  CHECK_THAT(first_line(render_status(status)),
             Contains("PROBLEM, no children known: the data plane"));
}

TEST_CASE("status: fields of the wrong type or missing altogether never throw") {
  for (const json& odd :
       {json(nullptr), json(7), json("text"), json::array(), json::object(),
        json{{"running", "yes"}, {"children", 5}, {"ike_sas", {1, 2}}, {"connections", "x"}},
        json{{"running", true}, {"children", {1, {{"connection", 3}}}}, {"drops", {{"a", 1}}}}}) {
    INFO(odd.dump());
    CHECK_FALSE(render_status(merge_status("hq", odd, odd, odd)).empty());
  }
}

TEST_CASE("status: durations and sizes as people say them") {
  CHECK(human_duration(3) == "3s");
  CHECK(human_duration(252) == "4m12s");
  CHECK(human_duration(7500) == "2h05m");
  CHECK(human_duration(273600) == "3d04h");
  CHECK(human_duration(nullptr) == "-");
  CHECK(human_bytes(17) == "17 B");
  CHECK(human_bytes(1536) == "1.5 KiB");
  CHECK(human_bytes(std::uint64_t{3} << 40U) == "3.0 TiB");
}

TEST_CASE("status: how the key daemon found its IKE SAs, and whether the next one will") {
  const auto with = [](const json& recovery) {
    json ike = key_daemon_with(installed_child());
    ike["recovery"] = recovery;
    return render_status(
        merge_status("hq", dataplane_with(true, traffic(10, 1), traffic(12, 1)), ike));
  };
  CHECK_THAT(with({{"resumed_ike_sas", 3},
                   {"refused_records", {{"configuration_changed", 1}}},
                   {"not_resumed", nullptr},
                   {"recording", true}}),
             Contains("resumed 3 IKE SA(s)") &&
                 Contains("1 record(s) refused: configuration_changed") &&
                 !Contains("records nothing"));
  CHECK_THAT(with({{"resumed_ike_sas", 0},
                   {"refused_records", json::object()},
                   {"not_resumed", {{"reason", "other_build"}, {"meaning", "another release"}}},
                   {"recording", false}}),
             Contains("nothing to resume when it started: other_build: another release") &&
                 Contains("records nothing") && !Contains("resumed 0"));
}

TEST_CASE(
    "status: whether a device steers ESP stands below the interfaces, one that could not says "
    "why") {
  const auto line_of = [](const json& steering) {
    json dataplane = dataplane_with(true, traffic(10, 1), traffic(12, 2));
    dataplane["interfaces"] = {{{"name", "wan"}, {"vlan", 100}, {"steering", steering}}};
    const std::string all =
        render_status(merge_status("hq", dataplane, key_daemon_with(installed_child())));
    const auto begin = all.find("  wan (vlan 100) steering: ");
    return begin == std::string::npos ? "" : all.substr(begin, all.find('\n', begin) - begin);
  };
  CHECK(line_of(nullptr).empty());  // one queue
  json steering = {{"sas_with_rule", 120},
                   {"sas_without_rule", 3},
                   {"takes", {"esp-ipv4", "esp-ipv6"}},
                   {"refuses", json::object()},
                   {"last_refusal", nullptr}};
  CHECK(line_of(steering) ==
        "  wan (vlan 100) steering: by rte_flow: 120 SA(s) with a rule, 3 without");
  steering["last_refusal"] = "no space: No space left on device";
  CHECK(line_of(steering) ==
        "  wan (vlan 100) steering: by rte_flow: 120 SA(s) with a rule, 3 without (the device: no "
        "space: No space left on device)");
  steering["last_refusal"] = nullptr;
  steering["refuses"] = {{"esp-udp-ipv4", "input set"}, {"esp-udp-ipv6", "pattern"}};
  CHECK(
      line_of(steering) ==
      "  wan (vlan 100) steering: by rte_flow: 120 SA(s) with a rule, 3 without; not esp-udp-ipv4 "
      "(input set); not esp-udp-ipv6 (pattern)");
  steering["takes"] = json::array();
  CHECK(line_of(steering) ==
        "  wan (vlan 100) steering: none: the device takes no rule for ESP (esp-udp-ipv4: input "
        "set; esp-udp-ipv6: pattern)");
  steering["refuses"] = {{"esp-ipv4", "its driver has no flow rules"},
                         {"esp-ipv6", "its driver has no flow rules"}};
  CHECK(line_of(steering) ==
        "  wan (vlan 100) steering: none: the device takes no rule for ESP (its driver has no flow "
        "rules)");
}

}  // namespace culvert::cli
