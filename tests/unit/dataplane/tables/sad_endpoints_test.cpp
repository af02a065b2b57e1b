// An SA whose outer addresses change while workers send by it: often, and one change behind
// another.
#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "tests/unit/dataplane/tables/sad_database.hpp"
#include "tests/unit/finding.hpp"

namespace culvert::dataplane {
namespace {

using channel::Direction;
using channel::Outcome;
using channel::SaId;
using test::Database;
using test::kWorker;
using test::sa_request;

/// To port `port` of the peer, behind UDP.
channel::UpdateEndpoints move_to(std::uint64_t sa, std::uint16_t port) {
  return {SaId{sa}, {test::address("198.51.100.1"), 4500}, {test::address("203.0.113.7"), port}};
}
channel::InstallSa behind_udp(std::uint64_t id, Direction direction, std::uint32_t spi) {
  auto request = sa_request(id, direction, spi);
  request.udp_encapsulation = true;
  request.local.port = request.remote.port = 4500;
  return request;
}
std::uint16_t port_of(const OuterHeader& outer) {
  return wire::load_u16(outer.bytes.data() + outer.ip_bytes + 2);
}

TEST_CASE("sad: of changes that come in the grace of another the last one is in force after it") {
  constexpr std::uint16_t kRequests = 512;  // what the main thread takes from the channel at once
  Database db;
  const auto slot = db.sad->install(behind_udp(1, Direction::out, 0x8000), 1);
  REQUIRE(slot);
  const std::uint32_t spi = db.lease();
  REQUIRE(db.try_install(behind_udp(2, Direction::in, spi)) == Outcome::ok);
  const OutboundSa& out = *db.sad->outbound(*slot);
  const InboundSa& in = *db.sad->inbound(spi);
  // The worker reports nothing meanwhile: whoever waited for it would wait here for good.
  for (std::uint16_t change = 0; change < kRequests; ++change) {
    const auto port = static_cast<std::uint16_t>(5000 + change);
    REQUIRE(db.sad->update_endpoints(move_to(1, port)) == Outcome::ok);
    REQUIRE(db.sad->update_endpoints(move_to(2, port)) == Outcome::ok);
    CHECK(db.sad->find(SaId{1})->spec.remote.port == port);
    db.reclaimer.poll();
  }
  CHECK(db.reclaimer.pending() == 2);
  CHECK(port_of(out.outer()) == 5000);
  CHECK(in.details->outer().remote.port == 5000);
  const std::uint64_t era = db.reclaimer.era();
  db.pass_grace();
  CHECK(db.reclaimer.era() != era);  // what is remembered of flows has the port before
  CHECK(port_of(out.outer()) == 5000 + kRequests - 1);
  CHECK(out.details->outer().remote.port == 5000 + kRequests - 1);
  CHECK(in.details->outer().remote.port == 5000 + kRequests - 1);
  // And that was a change like another.
  REQUIRE(db.sad->update_endpoints(move_to(1, 7000)) == Outcome::ok);
  CHECK(port_of(out.outer()) == 5000 + kRequests - 1);
  db.pass_grace();
  CHECK(port_of(out.outer()) == 7000);
  db.pass_grace();
  CHECK(db.reclaimer.pending() == 0);
}

TEST_CASE("sad: a change that waits is of the SA that it was asked of, not of the next of its id") {
  Database db;
  REQUIRE(db.sad->install(behind_udp(1, Direction::out, 0x8000), 1));
  REQUIRE(db.sad->update_endpoints(move_to(1, 5001)) == Outcome::ok);
  REQUIRE(db.sad->update_endpoints(move_to(1, 5002)) == Outcome::ok);
  REQUIRE(db.sad->remove(SaId{1}) == Outcome::ok);
  const auto next = db.sad->install(behind_udp(1, Direction::out, 0x9000), 1);
  REQUIRE(next);
  const OutboundSa& out = *db.sad->outbound(*next);
  db.reclaimer.quiescent(kWorker);
  REQUIRE(db.sad->update_endpoints(move_to(1, 6001)) == Outcome::ok);
  // The grace of the first SA's change is over, that of the second's is not.
  db.reclaimer.poll();
  const OuterHeader* const read = &out.outer();
  REQUIRE(db.sad->update_endpoints(move_to(1, 6002)) == Outcome::ok);
  CHECK(&out.outer() == read);
  CHECK(port_of(out.outer()) == 6001);
  db.pass_grace();
  CHECK(port_of(out.outer()) == 6002);
  db.pass_grace();
  CHECK(port_of(out.outer()) == 6002);
}

TEST_CASE(
    "sad: a header that a reader has found stays whole until it reports, however often the "
    "peer moves",
    "[threads]") {
  INFO(test::kRace);
  Database db;
  const auto slot = db.sad->install(behind_udp(1, Direction::out, 0x8000), 1);
  REQUIRE(slot);
  const OutboundSa& sa = *db.sad->outbound(*slot);
  const std::uint32_t salt = sa.outer().salt;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0}, seen{0};
  std::thread reader([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      const OuterHeader& outer = sa.outer();
      const SaEndpoints& endpoints = sa.details->outer();
      const auto first = outer.bytes;
      const std::uint16_t first_port = endpoints.remote.port;
      for (int look = 0; look < 200; ++look) {
        // The compiler must not take one look for all of them.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        if (outer.bytes != first || outer.salt != salt || endpoints.remote.port != first_port) {
          wrong.fetch_add(1, std::memory_order_relaxed);
        }
      }
      seen.fetch_add(1, std::memory_order_relaxed);
      db.reclaimer.quiescent(kWorker);
    }
    db.reclaimer.offline(kWorker);
  });
  for (std::uint32_t change = 0; change < 200'000 || seen.load(std::memory_order_relaxed) < 1000;
       ++change) {
    const auto port = static_cast<std::uint16_t>(5000 + change % 1000);
    static_cast<void>(db.sad->update_endpoints(move_to(1, port)));
    db.reclaimer.poll();
  }
  stop.store(true, std::memory_order_relaxed);
  reader.join();
  CHECK(wrong.load() == 0);
}

}  // namespace
}  // namespace culvert::dataplane
