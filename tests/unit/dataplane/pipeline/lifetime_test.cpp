// An SA ends in the worker, at the very packet: by its clock, whatever the main thread is busy
// with, and by bytes (RFC 4301 §4.4.2.1); for several workers see one_sa_of_two_test.cpp.
#include <catch2/catch.hpp>
#include <rte_cycles.h>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

/// What has no short way.
const crypto::EspSuite kNotPlain{crypto::Encryption::chacha20_poly1305, 256,
                                 crypto::Integrity::none};

Packet client_packet() { return ip_packet({.payload = udp(5000, 4000, Packet(32, 0x42))}); }

/// From now on.
void end_now(Gateway& gateway, channel::SaId id) {
  Sad& sad = *gateway.tables().sad;
  sad.set_end(*sad.find(id), rte_rdtsc());
}
StopCause stop_cause(Gateway& gateway, channel::SaId id) {
  const Sad& sad = *gateway.tables().sad;
  return sad.stopped(*gateway.tables().sad->find(id));
}

/// What is counted for it.
std::uint64_t drops_of_sa(Gateway& gateway, channel::SaId id, DropReason reason) {
  Sad& sad = *gateway.tables().sad;
  return sad.traffic(*sad.find(id)).drops[static_cast<std::size_t>(reason)];
}

/// A burst of `count`, sealed.
std::vector<Packet> sealed(Pair& pair, std::size_t count) {
  auto frames = pair.left.receive(kLan, std::vector<Packet>(count, frame(client_packet()))).wan;
  REQUIRE(frames.size() == count);
  return frames;
}

}  // namespace

TEST_CASE("lifetime: a worker sends nothing once the time of an SA is over") {
  SaOptions options;
  SECTION("the general way") { options.suite = kNotPlain; }
  SECTION("the short way") {}
  Pair pair({}, options);
  sealed(pair, 1);
  Sad& sad = *pair.left.tables().sad;
  sad.set_end(*sad.find(pair.out_id), rte_rdtsc() + 3600 * rte_get_tsc_hz());
  sealed(pair, 3);
  CHECK(stop_cause(pair.left, pair.out_id) == StopCause::none);
  const SaUsage before = sad.usage(*sad.find(pair.out_id));
  end_now(pair.left, pair.out_id);
  for (std::uint32_t burst = 0; burst < 2; ++burst) {
    const Result result = pair.left.receive(kLan, std::vector<Packet>(3, frame(client_packet())));
    CHECK(result.wan.empty());
    CHECK(result.dropped(DropReason::sa_expired) == 3);
    CHECK(drops_of_sa(pair.left, pair.out_id, DropReason::sa_expired) == 3U * (burst + 1U));
  }
  CHECK(stop_cause(pair.left, pair.out_id) == StopCause::hard_time);
  CHECK(sad.usage(*sad.find(pair.out_id)).packets == before.packets);
  CHECK(sad.usage(*sad.find(pair.out_id)).bytes == before.bytes);
}

TEST_CASE("lifetime: what a stopped SA does not send is counted for it, by why it stopped") {
  SaOptions options;
  SECTION("the general way") { options.suite = kNotPlain; }
  SECTION("the short way") {}
  const StopCause cause =
      GENERATE(StopCause::hard_bytes, StopCause::hard_packets, StopCause::sequence);
  const DropReason reason = drop_reason_of(cause);
  Pair pair({}, options);
  sealed(pair, 2);
  pair.left.tables().sad->stop(pair.out_id, cause);
  for (const std::uint32_t packets : {1U, 5U}) {
    const std::vector<Packet> frames(packets, frame(client_packet()));
    CHECK(pair.left.receive(kLan, frames).dropped(reason) == packets);
  }
  CHECK(drops_of_sa(pair.left, pair.out_id, reason) == 6);
}

TEST_CASE("lifetime: a worker takes nothing once the time of an SA is over, whatever it is") {
  SaOptions options;
  SECTION("the general way") { options.suite = kNotPlain; }
  SECTION("the short way") {}
  Pair pair({}, options);
  const Packet replayed = sealed(pair, 1).at(0);
  REQUIRE(pair.right.receive(kWan, replayed).lan.size() == 1);
  Sad& sad = *pair.right.tables().sad;
  sad.set_end(*sad.find(pair.in_id), rte_rdtsc() + 3600 * rte_get_tsc_hz());
  CHECK(pair.right.receive(kWan, sealed(pair, 3)).lan.size() == 3);
  CHECK(stop_cause(pair.right, pair.in_id) == StopCause::none);
  const std::uint64_t bytes = pair.traffic().bytes;
  std::vector<Packet> late = sealed(pair, 3);
  late.push_back(replayed);
  late.push_back(sealed(pair, 1).at(0));
  late.back().back() ^= 1;  // a forgery
  end_now(pair.right, pair.in_id);
  const Result result = pair.right.receive(kWan, late);
  CHECK(result.lan.empty());
  CHECK(result.dropped(DropReason::sa_expired) == late.size());
  CHECK(stop_cause(pair.right, pair.in_id) == StopCause::hard_time);
  CHECK(pair.traffic().packets == 4);
  CHECK(pair.traffic().bytes == bytes);
}

TEST_CASE("lifetime: an SA that ends in a burst of several leaves the others alone") {
  Gateway left;
  const channel::InstallSa ending = outbound_sa({}, 0x1000), staying = outbound_sa({}, 0x2000);
  left.protect("10.1.0.0/24", "10.2.1.0/24", left.install(ending));
  left.protect("10.1.0.0/24", "10.2.2.0/24", left.install(staying));
  const auto packet = [](const std::string& destination) {
    return frame(
        ip_packet({.destination = destination, .payload = udp(5000, 4000, Packet(32, 0x42))}));
  };
  const std::vector<Packet> frames = {packet("10.2.2.7"), packet("10.2.1.7"), packet("10.2.2.7"),
                                      packet("10.2.1.7"), packet("10.2.2.7")};
  REQUIRE(left.receive(kLan, frames).wan.size() == 5);
  end_now(left, ending.sa);
  const Result result = left.receive(kLan, frames);
  REQUIRE(result.wan.size() == 3);
  CHECK(result.dropped(DropReason::sa_expired) == 2);
  for (const Packet& sent : result.wan) CHECK(wire::load_u32(ip_of(sent).data() + 20) == 0x2000);
}
