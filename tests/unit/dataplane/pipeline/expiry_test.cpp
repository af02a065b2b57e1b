// What an SA is said to have ended by when the main thread ended it: to workers, which count its
// packets as dropped for that, and to the key daemon.
#include <catch2/catch.hpp>
#include <unistd.h>

#include "channel/client.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/tables/sa.hpp"
#include "tests/unit/channel/fixture.hpp"
#include "tests/unit/dataplane/pipeline/one_connection.hpp"

namespace culvert::dataplane::control::expiry {
namespace {

using namespace std::chrono_literals;
using channel::ExpiryCause;
using test::kLan;

constexpr std::uint64_t kPacketBytes = 52;
constexpr std::uint64_t kLastNumber = 0xffffffff;  // RFC 4303 §3.3.3

/// A gateway with its main thread's scan, and a key daemon that comes when it is told to.
struct Site {
  channel::SaId establish(const channel::Lifetime& lifetime) {
    test::SaOptions options;
    options.lifetime = lifetime;
    channel::InstallSa out = test::outbound_sa(options);
    out.child_id = config::ChildId{};
    REQUIRE(associations.install(out, now) == channel::Outcome::ok);
    gateway.protect("10.1.0.0/24", "10.2.0.0/16", record(out.sa).slot);
    return out.sa;
  }
  SaRecord& record(channel::SaId sa) { return *gateway.tables().sad->find(sa); }
  StopCause stopped(channel::SaId sa) { return gateway.tables().sad->stopped(record(sa)); }
  test::Result send(std::size_t count) {
    return gateway.receive(kLan,
                           std::vector<test::Packet>(count, test::frame(test::ip_packet({}))));
  }
  void scan() { associations.scan(*server, now); }

  void connect() {
    auto connection = channel::Client::begin(folder.socket());
    REQUIRE(connection.has_value());
    REQUIRE(server->poll());
    client = channel::Client::finish(folder.socket(), *std::move(connection)).value();
  }
  /// By what the key daemon is told that the SA is over; nullopt: it is told nothing.
  std::optional<ExpiryCause> told(channel::SaId sa) {
    server->flush();
    const auto event = client->next_event();
    if (!event) return std::nullopt;
    CHECK(event->type == channel::EventType::hard_expire);
    CHECK(event->body.hard_expire.sa == sa);
    return event->body.hard_expire.cause;
  }
  /// The same of what it should rekey.
  std::optional<ExpiryCause> told_to_rekey(channel::SaId sa) {
    server->flush();
    const auto event = client->next_event();
    if (!event) return std::nullopt;
    CHECK(event->type == channel::EventType::soft_expire);
    CHECK(event->body.soft_expire.sa == sa);
    return event->body.soft_expire.cause;
  }

  test::Gateway gateway;
  config::Config config = test::one_connection();
  Topology topology{config.dataplane};
  ChildDirectory children{config};
  std::unique_ptr<Steering> steering =
      Steering::create({}, 1, gateway.tables().sad->slots()).value();
  Associations associations{gateway.tables(), topology, children, *steering};
  Instant now = 1h;
  channel::test::Folder folder;
  std::unique_ptr<channel::Server> server =
      channel::Server::create({folder.socket(), ::geteuid()}).value();
  std::unique_ptr<channel::Client> client;
};

}  // namespace

TEST_CASE("expiry: after the last number of all packets are refused for want of numbers") {
  Site site;
  const auto sa = site.establish({});
  site.gateway.tables().sad->outbound(site.record(sa).slot)->sequence.store(kLastNumber - 2);
  // Given: the last one was the last of its burst, and no worker asked for another.
  CHECK(site.send(2).wan.size() == 2);
  REQUIRE(site.stopped(sa) == StopCause::none);
  site.scan();
  CHECK(site.stopped(sa) == StopCause::sequence);
  CHECK(site.send(1).dropped(DropReason::sequence_exhausted) == 1);
}

TEST_CASE("expiry: 15/16 of the numbers ask for a rekey, and packets go on (RFC 4303 §3.3.3)") {
  constexpr std::uint64_t kSoft = 0xf0000000;
  Site site;
  site.connect();
  const auto sa = site.establish({});
  site.gateway.tables().sad->outbound(site.record(sa).slot)->sequence.store(kSoft - 2);
  CHECK(site.send(1).wan.size() == 1);
  site.scan();
  CHECK(site.told_to_rekey(sa) == std::nullopt);
  CHECK(site.send(1).wan.size() == 1);
  site.scan();
  CHECK(site.told_to_rekey(sa) == ExpiryCause::sequence);
  CHECK(site.send(1).wan.size() == 1);
  site.scan();
  CHECK(site.told_to_rekey(sa) == std::nullopt);  // once
  CHECK(site.stopped(sa) == StopCause::none);
}

TEST_CASE("expiry: who was not told at once is told the limit that was reached, each time") {
  channel::Lifetime lifetime;
  ExpiryCause reached{};
  SECTION("time") {
    lifetime.hard_seconds = 60;
    reached = ExpiryCause::time;
  }
  SECTION("bytes") {
    lifetime.hard_bytes = 2 * kPacketBytes;
    reached = ExpiryCause::bytes;
  }
  SECTION("packets") {
    lifetime.hard_packets = 2;
    reached = ExpiryCause::packets;
  }
  SECTION("sequence numbers") { reached = ExpiryCause::sequence; }
  Site site;
  const auto sa = site.establish(lifetime);
  if (reached == ExpiryCause::sequence) {
    site.gateway.tables().sad->outbound(site.record(sa).slot)->sequence.store(kLastNumber - 2);
  }
  CHECK(site.send(2).wan.size() == 2);
  if (reached == ExpiryCause::time) site.now += 60s;
  REQUIRE(site.stopped(sa) == StopCause::none);

  site.scan();  // nobody listens
  site.connect();
  site.scan();
  CHECK(site.told(sa) == reached);
  site.scan();
  CHECK(site.told(sa) == std::nullopt);
  site.associations.forget_announcements();  // another key daemon
  site.scan();
  CHECK(site.told(sa) == reached);
}

}  // namespace culvert::dataplane::control::expiry
