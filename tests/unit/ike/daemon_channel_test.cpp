// What comes over the channel before the key daemon goes on, and memory that cannot be.
#include "tests/unit/ike/daemon_gateway.hpp"

namespace culvert::ike {
namespace {

constexpr std::uint64_t kFirstSa = 100;

channel::Event snapshot_of(std::uint64_t number, config::ChildId child_id) {
  channel::Event event;
  event.type = channel::EventType::snapshot_sa;
  event.body.snapshot_sa = {};
  event.body.snapshot_sa.sa = channel::SaId{number};
  event.body.snapshot_sa.child_id = child_id;
  event.body.snapshot_sa.spi = channel::Spi{static_cast<std::uint32_t>(0x10000 + number)};
  event.body.snapshot_sa.local = {*wire::IpAddress::parse("192.0.2.1"), 0};
  event.body.snapshot_sa.remote = {*wire::IpAddress::parse("192.0.2.2"), 0};
  return event;
}
channel::Event end_of(std::uint64_t number) {
  channel::Event event;
  event.type = channel::EventType::hard_expire;
  event.body.hard_expire = {channel::SaId{number}, channel::ExpiryCause::time};
  return event;
}

/// What a data plane says that holds so many SAs, all of them at their end.
std::vector<channel::Event> all_expired(std::uint64_t sas, config::ChildId child_id) {
  std::vector<channel::Event> events;
  for (std::uint64_t at = 0; at < sas; ++at) events.push_back(end_of(kFirstSa + at));
  for (std::uint64_t at = 0; at < sas; ++at) events.push_back(snapshot_of(kFirstSa + at, child_id));
  return events;
}

}  // namespace

TEST_CASE("key daemon: a snapshot is as long as the data plane holds SAs, whatever the file says") {
  constexpr std::uint64_t kSas = 60;
  config::Config configuration = one_child();
  configuration.dataplane.limits.sas = 20;
  const config::ChildId child_id = configuration.connections[0].children[0].id;
  DaemonGateway gateway(configuration);
  gateway.start_dataplane(channel::Outcome::ok, all_expired(kSas, child_id));
  gateway.start();
  // What it takes for its own it deletes when that has expired.
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  CHECK(gateway.until([&] { return gateway.dataplane->seen().deleted_sas.size() == kSas; }));
}

TEST_CASE("key daemon: no expiry of before the snapshot's end is lost") {
  constexpr std::uint64_t kSas = 5000;
  const config::Config configuration = one_child();
  const config::ChildId child_id = configuration.connections[0].children[0].id;
  DaemonGateway gateway(configuration);
  gateway.start_dataplane(channel::Outcome::ok, all_expired(kSas, child_id));
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  CHECK(gateway.until([&] { return gateway.dataplane->seen().deleted_sas.size() == kSas; }));
}

TEST_CASE("key daemon: an index that cannot be ends the connection, and begins another") {
  const bool events = GENERATE(true, false);
  DaemonGateway gateway;
  gateway.start_dataplane();
  gateway.start();
  REQUIRE(gateway.until([&] { return gateway.has_sent(); }));
  const std::size_t sent = gateway.dataplane->seen().datagrams.size();
  gateway.dataplane->tear(events);
  CHECK(gateway.until([&] { return gateway.dataplane->seen().snapshots == 2; }));
  CHECK(gateway.until([&] { return gateway.dataplane->seen().datagrams.size() > sent; }));
}

}  // namespace culvert::ike
