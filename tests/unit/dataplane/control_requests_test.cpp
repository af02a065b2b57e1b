// What the main thread does for the key daemon, over a channel with a key daemon at its other end
// that comes and goes as it is told to.
#include <set>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/unit/dataplane/requests_site.hpp"

namespace culvert::dataplane::control::requests {
namespace {

/// What a key daemon reads of a snapshot and behind it.
struct Read {
  std::vector<std::uint64_t> sas;
  std::vector<std::uint64_t> policies;
  std::vector<std::uint64_t> completions;
  std::size_t after_completion = 0;  ///< pieces, which there must not be
  std::size_t others = 0;

  /// How many events there were.
  std::size_t all(channel::Client& client) {
    std::size_t count = 0;
    for (; const auto event = client.next_event(); ++count) {
      const bool is_sa = event->type == EventType::snapshot_sa;
      const bool is_policy = event->type == EventType::snapshot_policy;
      if (is_sa) sas.push_back(raw(event->body.snapshot_sa.sa));
      if (is_policy) policies.push_back(raw(event->body.snapshot_policy.policy));
      if ((is_sa || is_policy) && !completions.empty()) ++after_completion;
      if (event->type == EventType::completion) {
        completions.push_back(raw(event->body.completion.request));
      } else if (!is_sa && !is_policy) {
        ++others;
      }
    }
    return count;
  }
  /// Each once, whatever their order. They are too many to be printed.
  [[nodiscard]] std::set<std::uint64_t> distinct_sas() const {
    std::set<std::uint64_t> all(sas.begin(), sas.end());
    CHECK(all.size() == sas.size());
    return all;
  }
};

std::set<std::uint64_t> numbers(std::uint64_t first, std::uint64_t last) {
  std::set<std::uint64_t> all;
  for (std::uint64_t number = first; number <= last; ++number) all.insert(number);
  return all;
}

constexpr std::uint64_t kSnapshot = 100, kBehind = 101;

}  // namespace

TEST_CASE("requests: what a dead key daemon leased returns, whenever the next one is there") {
  const bool is_seen_between = GENERATE(true, false);
  CAPTURE(is_seen_between);
  Site site;
  const std::uint32_t at_first = site.free_slots();
  site.connect();
  const auto leased = site.lease(16);
  REQUIRE(leased.size() == 16);
  REQUIRE(site.ask(site.install_request(1, Direction::in, leased[0])).outcome ==
          channel::Outcome::ok);

  site.client.reset();
  if (is_seen_between) {
    site.turn();
    REQUIRE_FALSE(site.server->connected());
  }
  site.connect();
  REQUIRE(site.server->statistics().connects == 2);
  // What a peer may know of stays; the rest returns when the new one leases its own.
  CHECK(site.keep({leased[1], leased[0]}) == std::vector{leased[1]});
  REQUIRE(site.lease(2).size() == 2);
  CHECK(site.free_slots() == at_first - 1 - 1 - 2);
  CHECK_FALSE(site.tables->sad->is_expected(static_cast<std::uint32_t>(leased[2])));
}

TEST_CASE("requests: key daemons that die one after the other leave no slot behind") {
  Site site;
  const std::uint32_t at_first = site.free_slots();
  for (int life = 0; life < 50; ++life) {
    site.connect();
    REQUIRE(site.lease(32).size() == 32);
    site.client.reset();
  }
  CHECK(site.free_slots() == at_first - 32);
}

TEST_CASE("requests: a question that the ring had no room for is asked when there is some") {
  Site site;
  site.connect();
  site.fill_events();
  site.meet_trap();
  CHECK(site.read(EventType::acquire).empty());  // and has made room
  SECTION("without another packet") {
    site.now += AcquireTracker::kAskAgain;
    site.acquires.tick(site.now);
  }
  SECTION("by the next packet") {
    site.now += AcquireTracker::kAskAgain;
    site.meet_trap();
  }
  SECTION("later, when there was no room for it again") {
    site.fill_events();
    site.now += AcquireTracker::kAskAgain;
    site.acquires.tick(site.now);
    CHECK(site.read(EventType::acquire).empty());
    site.now += AcquireTracker::kAskAgain;
    site.acquires.tick(site.now);
  }
  const auto asked = site.read(EventType::acquire);
  REQUIRE(asked.size() == 1);
  CHECK(asked[0].body.acquire.child_id == site.child());
  CHECK(asked[0].body.acquire.destination == test::address("10.2.0.9"));
  // Heard: once is enough.
  site.now += AcquireTracker::kAskAgain;
  site.acquires.tick(site.now);
  site.meet_trap();
  CHECK(site.read(EventType::acquire).empty());
}

TEST_CASE("requests: who connects is asked for what waits, once") {
  Site site;
  site.meet_trap();  // nobody is there
  site.now += 1s;
  site.acquires.tick(site.now);
  site.connect();
  CHECK(site.read(EventType::acquire).size() == 1);
  site.now += 1s;
  site.acquires.tick(site.now);
  CHECK(site.read(EventType::acquire).empty());
}

TEST_CASE("requests: every key daemon is told of what is over, once") {
  Site site;
  auto request = site.install_request(1, Direction::out, Spi{0x1000});
  request.body.install_sa.lifetime.hard_seconds = 60;
  REQUIRE(site.associations.install(request.body.install_sa, site.now) == channel::Outcome::ok);
  site.now += 60s;
  for (int life = 0; life < 3; ++life) {
    site.connect();
    site.associations.scan(*site.server, site.now);
    CHECK(site.read(EventType::hard_expire).size() == 1);
    site.associations.scan(*site.server, site.now);
    CHECK(site.read(EventType::hard_expire).empty());
    site.client.reset();
  }
}

TEST_CASE("requests: an SA that is over is none that passes packets, a key daemon or not") {
  Site site;
  auto request = site.install_request(1, Direction::out, Spi{0x1000});
  request.body.install_sa.lifetime.hard_seconds = 60;
  REQUIRE(site.associations.install(request.body.install_sa, site.now) == channel::Outcome::ok);
  site.install(2);
  CHECK(site.associations.live(Direction::out) == 2);
  CHECK(site.associations.live(Direction::in) == 0);
  site.now += 60s;
  for (int time = 0; time < 2; ++time) {
    site.associations.scan(*site.server, site.now);
    CHECK(site.associations.live(Direction::out) == 1);
  }
  REQUIRE(site.associations.remove(SaId{1}) == channel::Outcome::ok);
  CHECK(site.associations.live(Direction::out) == 1);
  REQUIRE(site.associations.remove(SaId{2}) == channel::Outcome::ok);
  CHECK(site.associations.live(Direction::out) == 0);
}

TEST_CASE("requests: a snapshot of more than a ring holds comes whole, in short turns") {
  constexpr std::uint64_t kSas = channel::kEventSlots + 900;
  Site site;
  site.connect();
  site.install(1, kSas);
  for (std::uint64_t id = 1; id <= 3; ++id) {
    auto policy = channel::test::install_policy().body.install_policy;
    policy.policy = channel::PolicyId{id};
    policy.child_id = site.child();
    policy.outbound = SaId{id};
    REQUIRE(site.policies.install(policy) == channel::Outcome::ok);
  }
  REQUIRE(site.client->send(channel::test::request(RequestType::take_snapshot, kSnapshot)));
  auto behind = channel::test::request(RequestType::delete_sa, kBehind);
  behind.body.delete_sa = {SaId{5}};
  REQUIRE(site.client->send(behind));

  Read read;
  while (read.completions.size() < 2) {
    const bool is_over = !read.completions.empty();
    const auto pause = site.turn();
    REQUIRE((is_over || pause.has_value()));
    REQUIRE(read.all(*site.client) <= Snapshot::kPiecesAtOnce + 1);
  }
  CHECK((read.distinct_sas() == numbers(1, kSas)));
  CHECK(read.policies == std::vector<std::uint64_t>{1, 2, 3});
  CHECK(read.completions == std::vector{kSnapshot, kBehind});
  CHECK(read.after_completion == 0);
  CHECK(site.tables->sad->find(SaId{5}) == nullptr);
}

TEST_CASE("requests: a snapshot that nobody reads waits, and leaves room for what happens") {
  constexpr std::uint64_t kSas = channel::kEventSlots + 900;
  Site site;
  site.connect();
  site.install(1, kSas);
  REQUIRE(site.client->send(channel::test::request(RequestType::take_snapshot, kSnapshot)));
  std::optional<Instant> pause;
  std::size_t turns = 0;
  while ((pause = site.turn()) == Instant::zero()) REQUIRE(++turns < kSas);
  CHECK(pause == Requests::kReadingPause);
  CHECK_FALSE(site.turn().has_value());  // nothing moves: the scan is soon enough
  CHECK(site.server->event_room() == Snapshot::kRoomForOthers);
  site.meet_trap();
  const std::uint64_t lost = site.server->statistics().events_lost;

  Read read;
  while (read.completions.empty()) {
    read.all(*site.client);
    site.turn();
  }
  CHECK((read.distinct_sas() == numbers(1, kSas)));
  CHECK(read.others == 1);  // what met the trap
  CHECK(site.server->statistics().events_lost == lost);
  CHECK(lost == 0);
}

TEST_CASE("requests: a snapshot tells of what is there, whatever comes and goes meanwhile") {
  constexpr std::uint64_t kSas = 3 * Snapshot::kPiecesAtOnce;
  Site site;
  site.connect();
  site.install(2, kSas);
  REQUIRE(site.client->send(channel::test::request(RequestType::take_snapshot, kSnapshot)));
  Read read;
  site.turn();
  read.all(*site.client);
  const auto told = read.distinct_sas();
  REQUIRE(told.size() == Snapshot::kPiecesAtOnce);

  // As a reload might: one that was told of, where the snapshot stands, and some to come.
  std::set<std::uint64_t> expected = numbers(2, kSas);
  for (const std::uint64_t gone : {kSas, *told.begin() - 1, std::uint64_t{2}, std::uint64_t{700}}) {
    REQUIRE(site.associations.remove(SaId{gone}) == channel::Outcome::ok);
    if (!told.contains(gone)) expected.erase(gone);
  }
  site.install(1);
  expected.insert(1);
  while (read.completions.empty()) {
    site.turn();
    read.all(*site.client);
  }
  CHECK((read.distinct_sas() == expected));
}

TEST_CASE("requests: who connects in the middle of somebody's snapshot begins its own") {
  constexpr std::uint64_t kSas = 2 * Snapshot::kPiecesAtOnce;
  Site site;
  site.connect();
  site.install(1, kSas);
  REQUIRE(site.client->send(channel::test::request(RequestType::take_snapshot, kSnapshot)));
  site.turn();
  site.client.reset();
  site.connect();
  Read read;
  CHECK(read.all(*site.client) == 0);
  REQUIRE(site.client->send(channel::test::request(RequestType::take_snapshot, kSnapshot + 7)));
  while (read.completions.empty()) {
    site.turn();
    read.all(*site.client);
  }
  CHECK((read.distinct_sas() == numbers(1, kSas)));
  CHECK(read.completions == std::vector{kSnapshot + 7});
}

}  // namespace culvert::dataplane::control::requests
