#include <algorithm>

#include <catch2/catch.hpp>
#include <rte_ethdev.h>

#include "dataplane/control/child_accounts.hpp"
#include "dataplane/control/link_watch.hpp"
#include "dataplane/control/report_json.hpp"
#include "dataplane/control/report_metrics.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

StatusReport gateway_with_one_child() {
  StatusReport status;
  status.workers.push_back({});
  InterfaceReport wan;
  wan.name = "wan";
  wan.addresses = {test::prefix("198.51.100.1/24")};
  wan.queues = 2;
  wan.spread = ports::hashed_fields(RTE_ETH_RSS_IP | RTE_ETH_RSS_ESP);
  status.interfaces.push_back(wan);
  ChildReport child;
  child.connection = "branch";
  child.child = "office";
  child.in.packets = 7;
  child.in.last_packet_age_seconds = 2.0;
  child.in.drops = {{"replay_duplicate", 3}};
  status.children.push_back(child);
  return status;
}

const prometheus::MetricFamily& family(const runtime::MetricFamilies& families,
                                       std::string_view name) {
  const auto found = std::ranges::find(families, name, &prometheus::MetricFamily::name);
  REQUIRE(found != families.end());
  return *found;
}

std::string label(const prometheus::ClientMetric& metric, std::string_view name) {
  for (const auto& candidate : metric.label) {
    if (candidate.name == name) return candidate.value;
  }
  return "";
}

}  // namespace

TEST_CASE("report: status has every field of docs/reference/control-protocol.md") {
  const auto json = to_json(gateway_with_one_child());
  for (const char* field :
       {"version", "instance", "pid", "uptime_seconds", "config_version", "engine", "engine_reason",
        "suites", "huge_pages", "tables_placed", "workers", "interfaces", "channel", "children",
        "sa_count", "policy_count", "default_policy"}) {
    CHECK(json.contains(field));
  }
  for (const char* field : {"id", "core", "numa_node", "idle_percent", "rx_packets", "tx_packets",
                            "handed_over", "fragments_handed_over"}) {
    CHECK(json["workers"][0].contains(field));
  }
  CHECK(json["interfaces"][0]["link"] == "down");
  CHECK(json["interfaces"][0]["queues"] == 2);
  CHECK(json["interfaces"][0]["spread"] == nlohmann::json::array({"addresses", "spi"}));
  CHECK(json["interfaces"][0]["numa_node"].is_null());
  CHECK(json["interfaces"][0]["addresses"] == nlohmann::json::array({"198.51.100.1/24"}));
  CHECK(json["children"][0]["in"]["last_packet_seconds"] == 2.0);
  CHECK(json["children"][0]["out"]["last_packet_seconds"].is_null());
}

TEST_CASE("report: why the engine is another than usual, and null where it is not") {
  StatusReport status = gateway_with_one_child();
  CHECK(to_json(status)["engine_reason"].is_null());
  status.engine_reason = "IPsec-MB cannot run: the processor lacks AES-NI";
  CHECK(to_json(status)["engine_reason"] == "IPsec-MB cannot run: the processor lacks AES-NI");
}

TEST_CASE("report: on which nodes the tables are, and why they are not where the workers are") {
  StatusReport status = gateway_with_one_child();
  status.placement = {.policy = ports::MemoryPolicy::interleaved, .nodes = {0, 1}};
  CHECK(to_json(status)["tables_placed"] ==
        nlohmann::json({{"policy", "interleaved"}, {"numa_nodes", {0, 1}}, {"reason", nullptr}}));
  status.placement = {.reason = "set_mempolicy: Operation not permitted"};
  CHECK(to_json(status)["tables_placed"] ==
        nlohmann::json({{"policy", "kernel"},
                        {"numa_nodes", nlohmann::json::array()},
                        {"reason", "set_mempolicy: Operation not permitted"}}));
}

TEST_CASE("report: who spreads packets its own way hashes nothing for us") {
  CHECK(ports::hashed_fields(0).empty());
  CHECK(ports::hashed_fields(RTE_ETH_RSS_TCP) == std::vector<std::string>{"ports"});
  StatusReport status = gateway_with_one_child();
  status.interfaces[0].spread.clear();
  status.interfaces[0].numa_node = 1;
  const auto json = to_json(status)["interfaces"][0];
  CHECK(json["spread"].is_null());
  CHECK(json["numa_node"] == 1);
}

TEST_CASE("report: what a device was told of ESP, and null where there is one queue") {
  StatusReport status = gateway_with_one_child();
  CHECK(to_json(status)["interfaces"][0]["steering"].is_null());
  CHECK(family(to_metrics(status, {}, 0), "culvert_interface_steering_sas").metric.empty());
  SteeringReport& steering = status.interfaces[0].steering;
  steering = {.has_one_queue = false,
              .takes = {"esp-ipv4"},
              .refuses = {{"esp-ipv6", "no such item"}},
              .with_rule = 120,
              .without_rule = 3,
              .last_refusal = ""};
  const nlohmann::json expected = {{"sas_with_rule", 120},
                                   {"sas_without_rule", 3},
                                   {"takes", {"esp-ipv4"}},
                                   {"refuses", {{"esp-ipv6", "no such item"}}},
                                   {"last_refusal", nullptr}};
  CHECK(to_json(status)["interfaces"][0]["steering"] == expected);
  steering.last_refusal = "table full";
  CHECK(to_json(status)["interfaces"][0]["steering"]["last_refusal"] == "table full");
  const auto metrics = to_metrics(status, {}, 0);
  const auto& sas = family(metrics, "culvert_interface_steering_sas").metric;
  REQUIRE(sas.size() == 2);
  CHECK(label(sas[0], "interface") == "wan");
  CHECK(label(sas[0], "rule") == "yes");
  CHECK(sas[0].gauge.value == 120);
  CHECK(label(sas[1], "rule") == "no");
  CHECK(sas[1].gauge.value == 3);
}

TEST_CASE("report: whether an interface has a link, in the metrics too") {
  StatusReport status = gateway_with_one_child();
  const auto up = [&] {
    return family(to_metrics(status, {}, 0), "culvert_interface_up").metric.at(0);
  };
  CHECK(label(up(), "interface") == "wan");
  CHECK(up().gauge.value == 0);
  status.interfaces[0].link_is_up = true;
  CHECK(up().gauge.value == 1);
}

TEST_CASE("report: packets that came while the pool was empty") {
  StatusReport status = gateway_with_one_child();
  status.interfaces[0].statistics.rx_no_buffer = 9;
  CHECK(to_json(status)["interfaces"][0]["rx_no_buffer"] == 9);
  const auto metrics = to_metrics(status, {}, 0);
  CHECK(family(metrics, "culvert_interface_no_buffer_total").metric.at(0).counter.value == 9);
}

TEST_CASE("report: a link is news when it changes, and at first when it is down") {
  LinkWatch links;
  CHECK_FALSE(links.is_news("wan", true));
  CHECK(links.is_news("wan", false));
  CHECK_FALSE(links.is_news("wan", false));
  CHECK(links.is_news("lan", false));
  CHECK(links.is_news("wan", true));
  CHECK_FALSE(links.is_news("wan", true));
}

TEST_CASE("report: packets that a worker handed to another one") {
  StatusReport status = gateway_with_one_child();
  status.workers[0].handed_over = 17;
  status.workers[0].fragments_handed_over = 4;
  CHECK(to_json(status)["workers"][0]["handed_over"] == 17);
  CHECK(to_json(status)["workers"][0]["fragments_handed_over"] == 4);
  const auto metrics = to_metrics(status, {}, 0);
  CHECK(family(metrics, "culvert_worker_handed_over_packets_total").metric.at(0).counter.value ==
        17);
  CHECK(family(metrics, "culvert_worker_handed_over_fragments_total").metric.at(0).counter.value ==
        4);
}

TEST_CASE("report: an SA's JSON shows ports only with UDP encapsulation, and no key") {
  SaReport sa;
  sa.spi = channel::Spi{0xc0000101};
  sa.local = {test::address("192.0.2.1"), 0};
  sa.remote = {test::address("192.0.2.2"), 4500};
  const auto plain = to_json(sa);
  CHECK(plain["spi"] == "0xc0000101");
  CHECK(plain["remote"] == "192.0.2.2");
  CHECK(plain["last_packet_seconds"].is_null());
  CHECK_FALSE(plain.contains("key"));
  sa.udp_encapsulation = true;
  CHECK(to_json(sa)["remote"] == "192.0.2.2:4500");
}

TEST_CASE("report: the last packet that selectors refused, beside what they take (RFC 4301 §5.2)") {
  StatusReport status = gateway_with_one_child();
  CHECK(to_json(status)["children"][0]["in"]["last_refused"].is_null());
  RefusalReport refusal;
  refusal.age_seconds = 4;
  refusal.seen = {test::address("10.9.0.1"), test::address("10.1.0.5"), 4000, 53, 17, true};
  refusal.source = {wire::TrafficSelector::parse("10.2.0.0/24[tcp]").value()};
  refusal.destination = {wire::TrafficSelector::parse("10.1.0.0/24").value()};
  status.children[0].in.last_refused = refusal;
  const auto json = to_json(status)["children"][0]["in"]["last_refused"];
  CHECK(json["age_seconds"] == 4.0);
  CHECK(json["seen"]["source"] == "10.9.0.1");
  CHECK(json["seen"]["destination"] == "10.1.0.5");
  CHECK(json["seen"]["protocol"] == "udp");
  CHECK(json["seen"]["source_port"] == 4000);
  CHECK(json["seen"]["destination_port"] == 53);
  CHECK(json["seen"]["icmp_type"].is_null());
  CHECK(json["expected"]["source"] == nlohmann::json::array({"10.2.0.0/24[tcp]"}));
  CHECK(json["expected"]["destination"] == nlohmann::json::array({"10.1.0.0/24"}));

  SaReport sa;
  sa.last_refused = refusal;
  sa.last_refused->seen.protocol = 1;
  sa.last_refused->seen.source_port = sa.last_refused->seen.destination_port = 0x0301;
  const auto icmp = to_json(sa)["last_refused"]["seen"];
  CHECK(icmp["icmp_type"] == 3);
  CHECK(icmp["icmp_code"] == 1);
  CHECK(icmp["source_port"].is_null());
  sa.last_refused->seen.ports_known = false;  // a later fragment
  CHECK(to_json(sa)["last_refused"]["seen"]["icmp_type"].is_null());
}

TEST_CASE("report: a child shows the latest refusal of its SAs, past ones too") {
  constexpr config::ChildId kChild = config::child_id("branch", "office");
  ChildAccounts accounts;
  SaTraffic ended;
  ended.last_refusal = SaRefusal{{{}, 20}, {}, {}};
  accounts.fold(kChild, channel::Direction::in, ended);
  SaTraffic living;
  living.last_refusal = SaRefusal{{{}, 10}, {}, {}};
  ChildTotals totals = accounts.of(kChild, channel::Direction::in);
  totals.add(living);
  totals.add({});
  REQUIRE(totals.last_refusal);
  CHECK(totals.last_refusal->packet.tsc == 20);
  living.last_refusal->packet.tsc = 30;
  totals.add(living);
  CHECK(totals.last_refusal->packet.tsc == 30);

  accounts.forget([](config::ChildId) { return true; });
  CHECK_FALSE(accounts.of(kChild, channel::Direction::in).last_refusal);
}

TEST_CASE("report: dummy packets of a child, of SAs that are gone too, in JSON and metrics") {
  constexpr config::ChildId kChild = config::child_id("branch", "office");
  SaTraffic ended;
  ended.packets = 60;
  ended.dummies = 40;
  ChildAccounts accounts;
  accounts.fold(kChild, channel::Direction::out, ended);
  ChildTotals totals = accounts.of(kChild, channel::Direction::out);
  totals.add(ended);
  CHECK(totals.dummies == 80);

  StatusReport status = gateway_with_one_child();
  status.children[0].out.dummies = 80;
  CHECK(to_json(status)["children"][0]["out"]["dummy_packets"] == 80);
  CHECK(to_json(status)["children"][0]["in"]["dummy_packets"] == 0);
  const auto metrics = to_metrics(status, {}, 1000.0);
  const auto& counted = family(metrics, "culvert_child_dummy_packets_total").metric;
  REQUIRE(counted.size() == 2);
  CHECK(label(counted[1], "direction") == "out");
  CHECK(counted[1].counter.value == 80);
  SaReport sa;
  sa.dummies = 40;
  CHECK(to_json(sa)["dummy_packets"] == 40);
}

TEST_CASE("report: a policy has its place and its outbound SA's SPI") {
  PolicyReport policy;
  CHECK(to_json(policy, 1)["position"] == 1);
  CHECK(to_json(policy, 1)["outbound_spi"].is_null());
  policy.outbound_spi = channel::Spi{0x100};
  CHECK(to_json(policy, 0)["position"] == 0);
  CHECK(to_json(policy, 0)["outbound_spi"] == "0x00000100");
}

TEST_CASE("report: a configured child that is down has its metrics, with up at zero") {
  const auto metrics = to_metrics(gateway_with_one_child(), {}, 1000.0);
  const auto& up = family(metrics, "culvert_child_up");
  REQUIRE(up.metric.size() == 1);
  CHECK(up.metric[0].gauge.value == 0);
  CHECK(family(metrics, "culvert_child_wanted").metric.at(0).gauge.value == 1);
  CHECK(family(metrics, "culvert_child_sa_age_seconds").metric.empty());
  CHECK(family(metrics, "culvert_child_sa_remaining_seconds").metric.empty());

  const auto& packets = family(metrics, "culvert_child_packets_total");
  REQUIRE(packets.metric.size() == 2);
  CHECK(label(packets.metric[0], "direction") == "in");
  CHECK(packets.metric[0].counter.value == 7);

  const auto& last = family(metrics, "culvert_child_last_packet_timestamp_seconds");
  REQUIRE(last.metric.size() == 1);  // nothing ever went out
  CHECK(last.metric[0].gauge.value == 998.0);
  CHECK(label(family(metrics, "culvert_child_drops_total").metric[0], "reason") ==
        "replay_duplicate");
}

TEST_CASE("report: a child that waits for traffic is not wanted up") {
  StatusReport status = gateway_with_one_child();
  status.children[0].started_by = StartedBy::traffic;
  status.children[0].wanted = false;
  CHECK(to_json(status)["children"][0]["started_by"] == "traffic");
  CHECK(to_json(status)["children"][0]["wanted"] == false);
  const auto metrics = to_metrics(status, {}, 1000.0);
  CHECK(family(metrics, "culvert_child_wanted").metric.at(0).gauge.value == 0);
}

TEST_CASE("report: the age of a child's SAs and what is left of them, by direction") {
  StatusReport status = gateway_with_one_child();
  status.children[0].in.sa_age_seconds = 40;
  status.children[0].in.sa_remaining_seconds = 3560;
  status.children[0].out.sa_age_seconds = 39;  // without a lifetime in time
  const auto metrics = to_metrics(status, {}, 1000.0);
  const auto& age = family(metrics, "culvert_child_sa_age_seconds").metric;
  REQUIRE(age.size() == 2);
  CHECK(age[0].gauge.value == 40);
  CHECK(label(age[1], "direction") == "out");
  CHECK(age[1].gauge.value == 39);
  const auto& remaining = family(metrics, "culvert_child_sa_remaining_seconds").metric;
  REQUIRE(remaining.size() == 1);
  CHECK(label(remaining[0], "direction") == "in");
  CHECK(remaining[0].gauge.value == 3560);
}

TEST_CASE("report: a refused reload shows until one succeeds; which gateway's the figures are") {
  StatusReport status = gateway_with_one_child();
  status.instance = "hq";
  const auto successful = [&] {
    return family(to_metrics(status, {}, 0), "culvert_config_last_reload_successful")
        .metric.at(0)
        .gauge.value;
  };
  CHECK(successful() == 1);
  status.last_reload_ok = false;
  CHECK(successful() == 0);
  CHECK(label(family(to_metrics(status, {}, 0), "culvert_build_info").metric.at(0), "gateway") ==
        "hq");
}

TEST_CASE("report: every family the documentation names is there") {
  const auto metrics = to_metrics(gateway_with_one_child(), {}, 1000.0);
  for (const char* name : {"culvert_worker_packets_total",
                           "culvert_worker_bytes_total",
                           "culvert_worker_busy_cycles_total",
                           "culvert_worker_idle_cycles_total",
                           "culvert_worker_handed_over_packets_total",
                           "culvert_worker_handed_over_fragments_total",
                           "culvert_worker_burst_packets",
                           "culvert_worker_long_iterations_total",
                           "culvert_drops_total",
                           "culvert_interface_packets_total",
                           "culvert_interface_bytes_total",
                           "culvert_interface_missed_total",
                           "culvert_interface_errors_total",
                           "culvert_interface_steering_sas",
                           "culvert_child_packets_total",
                           "culvert_child_bytes_total",
                           "culvert_child_drops_total",
                           "culvert_child_last_packet_timestamp_seconds",
                           "culvert_child_resynchronized_total",
                           "culvert_child_dummy_packets_total",
                           "culvert_child_up",
                           "culvert_sas",
                           "culvert_channel_connected",
                           "culvert_config_info",
                           "culvert_build_info",
                           "culvert_config_last_reload_successful",
                           "culvert_child_wanted",
                           "culvert_child_sa_age_seconds",
                           "culvert_child_sa_remaining_seconds",
                           "process_start_time_seconds",
                           "process_resident_memory_bytes"}) {
    CHECK(std::ranges::count(metrics, name, &prometheus::MetricFamily::name) == 1);
  }
}

}  // namespace culvert::dataplane::control
