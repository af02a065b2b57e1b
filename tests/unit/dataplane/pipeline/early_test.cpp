// ESP that overtakes the message by which we install its SA.
#include <set>

#include <catch2/catch.hpp>

#include "dataplane/tables/sad.hpp"
#include "dataplane/worker/early_packets.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

using enum DropReason;

/// A sender on SAs that the receiver has leased the SPIs for, and not installed.
struct Early {
  explicit Early(const SaOptions& given = {}) : options(given) {
    right.policy(PolicyAction::bypass, "10.2.0.0/16", "10.1.0.0/16");
    right.worker().early_patience = ~0ULL;  // however busy the machine is
  }
  std::uint32_t lease() {
    return static_cast<std::uint32_t>(right.tables().sad->lease_spis(1).at(0));
  }
  /// Sends on the SA from now on.
  void send_on(std::uint32_t spi) {
    left = std::make_unique<Gateway>();
    left->protect("10.1.0.0/24", "10.2.0.0/16", left->install(outbound_sa(options, spi)));
  }
  /// The next packet, `mark` in its payload.
  Packet sealed(std::uint8_t mark) {
    const Packet clear = ip_packet({.payload = udp(5000, 4000, Packet(40, mark))});
    return left->receive(kLan, frame(clear)).wan.at(0);
  }
  std::vector<Packet> sealed(std::uint8_t first, std::uint8_t last) {
    std::vector<Packet> packets;
    for (int mark = first; mark <= last; ++mark) {
      packets.push_back(sealed(static_cast<std::uint8_t>(mark)));
    }
    return packets;
  }
  channel::SaId install(std::uint32_t spi) {
    const channel::InstallSa sa = inbound_sa(options, spi);
    REQUIRE(right.tables().sad->install(sa, 0).has_value());
    return sa.sa;
  }
  Result receive(const std::vector<Packet>& packets = {}) { return right.receive(kWan, packets); }

  SaOptions options;
  std::unique_ptr<Gateway> left;
  Gateway right{mirrored()};
};

std::vector<int> marks(const std::vector<Packet>& frames) {
  std::vector<int> marks;
  for (const Packet& packet : frames) marks.push_back(packet.back());
  return marks;
}

SaOptions any_outside() {
  SaOptions options;
  options.udp = GENERATE(false, true);
  if (GENERATE(false, true)) {  // the general way
    options.outer_local = "2001:db8:ff::1";
    options.outer_remote = "2001:db8:ff::2";
  }
  return options;
}

}  // namespace

TEST_CASE("early: ESP waits for the SA that was leased its SPI, and goes on before what follows") {
  Early early(any_outside());
  const std::uint32_t spi = early.lease();
  early.send_on(spi);
  const Result held = early.receive(early.sealed(1, 3));
  CHECK(held.lan.empty());
  CHECK(held.drops.empty());
  CHECK(held.punts.empty());
  CHECK(early.receive(early.sealed(4, 4)).drops.empty());
  const channel::SaId id = early.install(spi);
  const Result result = early.receive(early.sealed(5, 6));
  CHECK(marks(result.lan) == std::vector<int>{1, 2, 3, 4, 5, 6});
  CHECK(result.drops.empty());
  Sad& sad = *early.right.tables().sad;
  CHECK(sad.traffic(*sad.find(id)).packets == 6);
}

TEST_CASE("early: what was held is judged like any other: a replay and a forgery stay out") {
  Early early(any_outside());
  const std::uint32_t spi = early.lease();
  early.send_on(spi);
  const Packet real = early.sealed(1);
  Packet forged = early.sealed(2);
  forged.back() ^= 1;
  CHECK(early.receive({real, forged, real}).drops.empty());
  early.install(spi);
  const Result result = early.receive();
  CHECK(marks(result.lan) == std::vector<int>{1});
  CHECK(result.drops ==
        std::map<DropReason, std::uint64_t>{{icv_mismatch, 1}, {replay_duplicate, 1}});
}

TEST_CASE("early: each SA's packets are held up to a number, and some SAs'") {
  Early early(any_outside());
  std::vector<std::uint32_t> spis;
  std::size_t held = 0;
  const auto lost = [](const Result& result) {
    return result.dropped(sa_not_found) + result.punts.size();
  };
  for (std::uint32_t n = 0; n < EarlyPackets::kSas; ++n) {
    spis.push_back(early.lease());
    early.send_on(spis.back());
    const std::vector<Packet> some(n == 0 ? 50 : 1, early.sealed(1));
    CHECK(lost(early.receive(some)) == 0);
    held += some.size();
  }
  early.send_on(spis[0]);
  CHECK(lost(early.receive(std::vector<Packet>(20, early.sealed(2)))) ==
        50 + 20 - EarlyQueue::kCapacity);
  held += EarlyQueue::kCapacity - 50;
  early.send_on(early.lease());
  CHECK(lost(early.receive({early.sealed(3)})) == 1);
  CHECK(early.right.worker().early.count() == held);
  // One that goes on makes room.
  early.install(spis[1]);
  CHECK(early.receive().lan.size() == 1);
  CHECK(lost(early.receive({early.sealed(4)})) == 0);
}

TEST_CASE("early: held packets are lost when their lease is given back") {
  Early early;
  const std::uint32_t spi = early.lease();
  early.send_on(spi);
  const std::vector<Packet> packets = early.sealed(1, 3);
  CHECK(early.receive(packets).drops.empty());
  Sad& sad = *early.right.tables().sad;
  sad.abandon_leases();
  CHECK(early.receive().drops.empty());  // the next key daemon may keep it
  sad.lease_spis(1);
  const Result result = early.receive();
  REQUIRE(result.punts.size() == 1);
  CHECK(result.punts[0].what.reason == PuntReason::unknown_spi);
  CHECK(result.punts[0].bytes == packets[0]);
  CHECK(result.dropped(sa_not_found) == 2);
  CHECK(early.receive({packets[0]}).dropped(sa_not_found) + early.receive().punts.size() <= 1);
  CHECK(early.right.worker().early.count() == 0);
}

TEST_CASE("early: held packets do not wait for ever") {
  Early early;
  const std::uint32_t spi = early.lease();
  early.send_on(spi);
  CHECK(early.receive(early.sealed(1, 3)).drops.empty());
  early.right.worker().early_patience = 0;
  const Result result = early.receive();
  CHECK(result.punts.size() == 1);
  CHECK(result.dropped(sa_not_found) == 2);
}

TEST_CASE("early: an SA that was removed is not expected back") {
  Early early;
  const std::uint32_t spi = early.lease();
  early.send_on(spi);
  const channel::SaId id = early.install(spi);
  CHECK(early.receive(early.sealed(1, 1)).lan.size() == 1);
  CHECK(early.right.tables().sad->remove(id) == channel::Outcome::ok);
  const Result result = early.receive(early.sealed(2, 4));
  CHECK(result.dropped(sa_not_found) + result.punts.size() == 3);
  CHECK(early.right.worker().early.count() == 0);
}

TEST_CASE("early: what is held ends with the worker") {
  Early early;
  early.send_on(early.lease());
  CHECK(early.receive(early.sealed(1, 3)).drops.empty());
  early.right.iterate = [](WorkerState& worker, Burst&) { drop_early(worker); };
  CHECK(early.receive().dropped(shutting_down) == 3);
}
