// What operators and their tools read: status, counters, metrics, and which address is ours.
#include <catch2/catch.hpp>

#include "ike/daemon/local_address.hpp"
#include "ike/daemon/metrics.hpp"
#include "ike/daemon/status.hpp"

namespace culvert::ike {
namespace {

using namespace std::chrono_literals;

config::Config configuration_of(std::initializer_list<const char*> children) {
  config::Config configuration;
  config::Connection connection;
  connection.name = "branch";
  for (const char* name : children) {
    config::Child child;
    child.name = name;
    child.id = config::ChildId{connection.children.size()};
    connection.children.push_back(child);
  }
  configuration.connections.push_back(connection);
  return configuration;
}

IkeSaStatus established(std::initializer_list<std::uint32_t> children) {
  IkeSaStatus sa;
  sa.connection = "branch";
  sa.state = "established";
  sa.initiator = true;
  sa.initiator_spi = 0x0102030405060708;
  sa.responder_spi = 0x1112131415161718;
  sa.age = 90s;
  for (const std::uint32_t index : children) {
    ChildStatus child;
    child.name = "office";
    child.child_id = config::ChildId{index};
    child.state = "installed";
    child.inbound = channel::Spi{0xc0000101};
    child.suite = {crypto::Encryption::aes_gcm_16, 256, crypto::Integrity::none};
    child.local_selectors = {wire::TrafficSelector::parse("10.1.0.0/24").value()};
    sa.children.push_back(child);
  }
  return sa;
}

std::string state_of(const config::Config& configuration, const std::vector<IkeSaStatus>& sas) {
  const auto rows =
      render_connections({{"branch", std::nullopt, "", std::nullopt}}, sas, configuration);
  return rows.at(0).at("state").get<std::string>();
}

/// The sample of `name` whose labels hold `value`.
double sample(const runtime::MetricFamilies& families, std::string_view name,
              std::string_view value = "") {
  for (const auto& family : families) {
    if (family.name != name) continue;
    for (const auto& metric : family.metric) {
      const bool holds = std::ranges::any_of(
          metric.label, [&](const auto& label) { return label.value == value; });
      if (value.empty() || holds) {
        return family.type == prometheus::MetricType::Counter ? metric.counter.value
                                                              : metric.gauge.value;
      }
    }
  }
  return -1;
}

}  // namespace

TEST_CASE("ike status: SPIs as in packet captures, suites and selectors as in the configuration") {
  const auto sas = render_ike_sas({established({0})});
  REQUIRE(sas.size() == 1);
  CHECK(sas[0]["role"] == "initiator");
  CHECK(sas[0]["initiator_spi"] == "0x0102030405060708");
  CHECK(sas[0]["responder_spi"] == "0x1112131415161718");
  CHECK(sas[0]["age_seconds"] == 90);
  const auto& child = sas[0]["children"][0];
  CHECK(child["spi_in"] == "0xc0000101");
  CHECK(child["spi_out"] == "0x00000000");
  CHECK(child["suite"] == "aes256gcm16");
  CHECK(child["local_ts"] == nlohmann::json{"10.1.0.0/24"});
}

TEST_CASE("ike status: a connection is up when each of its children has an SA") {
  const auto two = configuration_of({"office", "lab"});
  CHECK(state_of(two, {established({0, 1})}) == "up");
  CHECK(state_of(two, {established({0})}) == "partial");
  CHECK(state_of(two, {established({0}), established({1})}) == "up");
  CHECK(state_of(two, {}) == "down");
  auto leaving = established({0, 1});
  leaving.children[1].state = "deleting";
  CHECK(state_of(two, {leaving}) == "partial");
  auto stranger = established({0, 1});
  stranger.connection = "other";
  CHECK(state_of(two, {stranger}) == "down");
}

TEST_CASE("ike status: negotiating is what is on its way, not an IKE SA that stands") {
  const auto two = configuration_of({"office", "lab"});
  ConnectionStatus status{"branch", std::nullopt, "", std::nullopt};
  status.children = {{.name = "office", .rekeys_ok = 3, .rekeys_failed = 1},
                     {.name = "lab", .is_terminated = true}};
  const auto row = [&] { return render_connections({status}, {established({0})}, two).at(0); };
  CHECK(row()["state"] == "partial");
  CHECK(row()["children"] == nlohmann::json::parse(R"([
    {"child": "office", "negotiating": false, "terminated": false, "rekeys": {"ok": 3, "failed": 1}},
    {"child": "lab", "negotiating": false, "terminated": true, "rekeys": {"ok": 0, "failed": 0}}])"));
  status.children[1] = {.name = "lab", .is_coming = true};
  CHECK(row()["state"] == "negotiating");
  CHECK(row()["children"][1]["negotiating"] == true);
  auto beginning = established({});
  beginning.state = "auth";
  CHECK(state_of(two, {established({0}), beginning}) == "negotiating");
}

TEST_CASE("ike status: never is null, and not in no time") {
  auto sa = established({0});
  const auto rendered = [&] { return render_ike_sas({sa}).at(0); };
  CHECK(rendered()["rekey_in_seconds"].is_null());
  CHECK(rendered()["children"][0]["rekey_in_seconds"].is_null());
  CHECK(rendered()["children"][0]["expires_in_seconds"].is_null());
  sa.rekey_in = 14000s;
  sa.children[0].rekey_in = 0s;
  sa.children[0].expires_in = 360s;
  CHECK(rendered()["rekey_in_seconds"] == 14000);
  CHECK(rendered()["children"][0]["rekey_in_seconds"] == 0);
  CHECK(rendered()["children"][0]["expires_in_seconds"] == 360);
}

TEST_CASE("ike status: a failure comes with what it means and what to do") {
  const auto rows =
      render_connections({{"branch", Failure::no_ike_proposal_chosen, "ours: a; theirs: b", 7s}},
                         {}, configuration_of({"office"}));
  const auto& failure = rows.at(0).at("last_failure");
  CHECK(failure["failure"] == info(Failure::no_ike_proposal_chosen).name);
  CHECK(failure["detail"] == "ours: a; theirs: b");
  CHECK_FALSE(failure["meaning"].get<std::string>().empty());
  CHECK_FALSE(failure["remedy"].get<std::string>().empty());
  CHECK(rows.at(0).at("retry_in_seconds") == 7);
}

TEST_CASE("ike status: without a failure the fields are there and null") {
  const auto rows =
      render_connections({{"branch", std::nullopt, "", std::nullopt}}, {}, configuration_of({}));
  CHECK(rows.at(0).at("last_failure").is_null());
  CHECK(rows.at(0).at("retry_in_seconds").is_null());
  CHECK(rows.at(0).at("state") == "down");  // no child: nothing that could be up
}

TEST_CASE("ike status: where the peer is configured to be, null where it may be anywhere") {
  auto configuration = configuration_of({});
  const auto remote = [&] {
    return render_connections({{"branch", std::nullopt, "", std::nullopt}}, {}, configuration)
        .at(0)
        .at("remote");
  };
  CHECK(remote().is_null());
  configuration.connections.at(0).remote.address = wire::IpAddress::v4(0xcb007107U);
  CHECK(remote() == "203.0.113.7");
}

TEST_CASE("ike counters: each exchange in its place, initiated and answered apart") {
  MachineCounters counters;
  counters.exchanges[2][1][0] = 5;
  counters.exchanges[0][0][1] = 3;
  const auto rendered = render_counters(counters);
  CHECK(rendered["exchanges"]["create_child_sa"]["answered"]["ok"] == 5);
  CHECK(rendered["exchanges"]["ike_sa_init"]["initiated"]["failed"] == 3);
  CHECK(rendered["exchanges"]["informational"]["initiated"]["ok"] == 0);
}

TEST_CASE("ike metrics: a configured connection that is down has its row of zero") {
  const auto families = render_metrics({}, {}, {{"branch", std::nullopt, "", std::nullopt}}, false);
  CHECK(sample(families, "culvert_ike_sas", "established") == 0);
  CHECK(sample(families, "culvert_ike_dataplane_connected") == 0);
}

TEST_CASE("ike metrics: counters and gauges carry the machine's figures") {
  MachineCounters counters;
  counters.half_open = 4;
  counters.retransmits_sent = 9;
  counters.authentication_failures = 2;
  counters.authentication_failures_by_reason[Failure::certificate_revoked] = 2;
  counters.ike_rekeys_ok = 6;
  counters.invalid_messages = 8;
  const auto families = render_metrics(counters, {established({0})},
                                       {{"branch", std::nullopt, "", std::nullopt}}, true);
  CHECK(sample(families, "culvert_ike_sas", "established") == 1);
  CHECK(sample(families, "culvert_ike_half_open") == 4);
  CHECK(sample(families, "culvert_ike_retransmits_total") == 9);
  CHECK(sample(families, "culvert_ike_authentication_failures_total", "certificate_revoked") == 2);
  CHECK(sample(families, "culvert_ike_authentication_failures_total", "identity_mismatch") == 0);
  CHECK(sample(families, "culvert_ike_rekeys_total", "ike") == 6);
  CHECK(sample(families, "culvert_ike_invalid_messages_total") == 8);
  CHECK(sample(families, "culvert_ike_dataplane_connected") == 1);
}

TEST_CASE(
    "ike metrics: each failure that is one of authentication has a row, whatever was counted") {
  MachineCounters counters;
  const auto families = [&] { return render_metrics(counters, {}, {}, true); };
  const std::string name = "culvert_ike_authentication_failures_total";
  for (const FailureInfo& reason : all_failures()) {
    INFO(reason.name);
    CHECK(sample(families(), name, reason.name) == (reason.is_authentication ? 0 : -1));
  }
  for (const char* reason : {"post_quantum_mismatch", "authentication_failed_remote",
                             "certificate_refused_remote", "identity_mismatch"}) {
    CHECK(sample(families(), name, reason) == 0);
  }
  counters.authentication_failures_by_reason[Failure::peer_vanished] = 2;
  CHECK(sample(families(), name, "peer_vanished") == 2);
}

TEST_CASE("ike metrics: rekeys by child and result") {
  ConnectionStatus status{"branch", std::nullopt, "", std::nullopt};
  status.children = {{.name = "office", .rekeys_ok = 3, .rekeys_failed = 1}};
  const auto families = render_metrics({}, {}, {status}, true);
  CHECK(sample(families, "culvert_ike_child_rekeys_total", "ok") == 3);
  CHECK(sample(families, "culvert_ike_child_rekeys_total", "failed") == 1);
  CHECK(sample(families, "culvert_ike_child_rekeys_total", "office") == 3);
}

TEST_CASE("ike metrics: which gateway's, the configuration in force, and a refused reload") {
  runtime::MetricFamilies families;
  add_process({"hq", "00000000000000a0", false}, families);
  CHECK(sample(families, "culvert_ike_build_info", "hq") == 1);
  CHECK(sample(families, "culvert_ike_config_info", "00000000000000a0") == 1);
  CHECK(sample(families, "culvert_ike_config_last_reload_successful") == 0);
  CHECK(sample(families, "process_start_time_seconds") > 1e9);
  CHECK(sample(families, "process_resident_memory_bytes") > 1e6);
}

TEST_CASE("ike metrics: a certificate's end; of two that look the same the earlier") {
  const auto families = render_metrics({}, {}, {}, true,
                                       {{"hq.pem", "own", "CN=hq", 1900000000},
                                        {"ca.pem", "authority", "CN=CA", 2000000000},
                                        {"ca.pem", "authority", "CN=CA", 1800000000}});
  const std::string name = "culvert_ike_certificate_not_after_timestamp_seconds";
  CHECK(sample(families, name, "own") == 1900000000);
  CHECK(sample(families, name, "authority") == 1800000000);
}

TEST_CASE("local address: a neighbour's interface, else the longest route's") {
  config::Dataplane dataplane;
  const auto interface_of = [](const char* name, std::vector<wire::Prefix> addresses) {
    config::Interface interface;
    interface.name = name;
    interface.addresses = std::move(addresses);
    return interface;
  };
  dataplane.interfaces.push_back(
      interface_of("wan", {wire::Prefix::parse("198.51.100.1/24").value(),
                           wire::Prefix::parse("2001:db8::1/64").value()}));
  dataplane.interfaces.push_back(interface_of("lan", {wire::Prefix::parse("10.1.0.1/24").value()}));
  const auto address = [](std::string_view text) { return wire::IpAddress::parse(text).value(); };
  dataplane.routes.push_back(
      {wire::Prefix::parse("0.0.0.0/0").value(), address("198.51.100.254"), {}});
  dataplane.routes.push_back(
      {wire::Prefix::parse("172.16.0.0/12").value(), address("10.1.0.254"), {}});
  CHECK(local_address_for(dataplane, address("198.51.100.7")) == address("198.51.100.1"));
  CHECK(local_address_for(dataplane, address("203.0.113.7")) == address("198.51.100.1"));
  CHECK(local_address_for(dataplane, address("172.16.1.1")) == address("10.1.0.1"));
  CHECK(local_address_for(dataplane, address("2001:db8::7")) == address("2001:db8::1"));
  CHECK_FALSE(local_address_for(dataplane, address("2001:db8:1::7")));
  // A link-local router's network is no place to be answered at.
  dataplane.routes.push_back({wire::Prefix::parse("::/0").value(), address("fe80::1"), {}});
  CHECK(local_address_for(dataplane, address("2001:db8:1::7")) == address("2001:db8::1"));
}

}  // namespace culvert::ike
