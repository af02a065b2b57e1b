// The key daemon around its machine, against a scripted data plane over the real channel, and a
// client over the real control socket.
#include "tests/unit/ike/daemon_gateway.hpp"
#include "wire/ike/message.hpp"

namespace culvert::ike {

TEST_CASE("key daemon: after the snapshot and a lease it begins what start_action says") {
  DaemonGateway gateway;
  gateway.start_dataplane();
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  CHECK(gateway.dataplane->seen().snapshots == 1);
  CHECK(gateway.dataplane->seen().leases >= 1);
  const channel::Datagram first = gateway.dataplane->seen().datagrams.at(0);
  CHECK(first.remote == wire::Endpoint{*wire::IpAddress::parse("192.0.2.2"), 500});
  const auto message = wire::ike::parse_message(wire::Bytes(first.bytes).first(first.length));
  REQUIRE(message);
  CHECK(message->header.exchange == wire::ike::ExchangeType::ike_sa_init);
}

TEST_CASE("key daemon: it waits for a data plane that comes later") {
  DaemonGateway gateway;
  gateway.start();
  const auto status = gateway.ask("status", nlohmann::json::object());
  REQUIRE(status);
  CHECK((*status)["dataplane_connected"] == false);
  gateway.start_dataplane();
  CHECK(gateway.until([&] { return gateway.has_sent(); }));
}

TEST_CASE("key daemon: a data plane that restarts is found again and every child begins anew") {
  DaemonGateway gateway;
  gateway.start_dataplane();
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  gateway.dataplane.reset();
  gateway.start_dataplane();
  CHECK(gateway.until([&] { return gateway.has_sent(); }));
  CHECK(gateway.dataplane->seen().snapshots == 1);
}

TEST_CASE("key daemon: a refused lease is not asked for in a storm") {
  DaemonGateway gateway;
  gateway.start_dataplane(channel::Outcome::no_room);
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.dataplane->seen().leases == 1; }));
  int turns = 0;
  gateway.until([&] { return ++turns == 20; });
  CHECK(gateway.dataplane->seen().leases == 1);
}

TEST_CASE("control socket: without a data plane a command says so") {
  DaemonGateway gateway;
  gateway.start();
  const auto answer = gateway.ask("initiate", {{"name", "office"}});
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == "dataplane_not_running");
}

TEST_CASE("control socket: an unknown name is answered with the names there are") {
  DaemonGateway gateway;
  gateway.start();
  for (const char* verb : {"initiate", "terminate", "rekey"}) {
    const auto answer = gateway.ask(verb, {{"name", "ofice"}});
    REQUIRE_FALSE(answer);
    CHECK(answer.error().code == "unknown_name");
    CHECK(answer.error().message.find("office") != std::string::npos);
  }
  // The IKE SA is rekeyed by its connection's name, a child by its own.
  CHECK_FALSE(gateway.ask("rekey", {{"name", "office"}, {"ike", true}}));
  CHECK_FALSE(gateway.ask("initiate", {{"name", 7}}));
}

TEST_CASE("control socket: a negotiation that nobody answers ends with the caller's time") {
  DaemonGateway gateway;
  gateway.start_dataplane();
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  const auto answer = gateway.ask("initiate", {{"name", "office"}, {"timeout_seconds", 1}});
  REQUIRE_FALSE(answer);
  CHECK(answer.error().code == "timeout");
}

TEST_CASE("control socket: status and counters have the fields of the reference") {
  DaemonGateway gateway;
  gateway.start_dataplane();
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  const auto status = gateway.ask("status", nlohmann::json::object());
  REQUIRE(status);
  CHECK((*status)["dataplane_connected"] == true);
  CHECK((*status)["connections"][0]["connection"] == "branch");
  CHECK((*status)["connections"][0]["state"] == "negotiating");
  CHECK((*status)["ike_sas"][0]["role"] == "initiator");
  const auto counters = gateway.ask("counters", nlohmann::json::object());
  REQUIRE(counters);
  CHECK((*counters)["channel"]["datagrams_out"] >= 1);
}

}  // namespace culvert::ike
