// An SA ends in the worker, at the very packet: by its clock, whatever the main thread is busy
// with, and by bytes, however many workers send on it (RFC 4301 §4.4.2.1).
#include <atomic>
#include <memory>
#include <thread>

#include <catch2/catch.hpp>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <unistd.h>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "tests/unit/finding.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

/// What has no short way.
const crypto::EspSuite kNotPlain{crypto::Encryption::chacha20_poly1305, 256,
                                 crypto::Integrity::none};

Packet client_packet() { return ip_packet({.payload = udp(5000, 4000, Packet(32, 0x42))}); }
constexpr std::uint64_t kClientBytes = 60;

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

namespace {

/// One more worker of a gateway's.
struct SecondWorker {
  explicit SecondWorker(Gateway& gateway) {
    context.id = WorkerId{1};
    context.tables = &gateway.tables();
    context.engine = crypto::esp::make_engine();
    context.pool = packet_pool();
    state = std::make_unique<WorkerState>(context);
  }
  WorkerContext context;
  std::unique_ptr<WorkerState> state;
};

/// Frames of clients wait in the worker's queue.
void give(std::uint16_t worker, std::size_t count) {
  const Packet bytes = frame(client_packet());
  for (std::size_t i = 0; i < count; ++i) {
    rte_mbuf* packet = rte_pktmbuf_alloc(packet_pool());
    REQUIRE(packet != nullptr);
    char* const data = rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size()));
    std::copy(bytes.begin(), bytes.end(), data);
    REQUIRE(rte_eth_tx_burst(static_cast<std::uint16_t>(raw(kLan)), worker, &packet, 1) == 1);
  }
}

/// EAL keeps this thread and those that it starts on one processor, where they never meet.
void leave_the_main_lcore() {
  cpu_set_t others;
  CPU_ZERO(&others);
  for (long cpu = 1; cpu < sysconf(_SC_NPROCESSORS_ONLN); ++cpu) CPU_SET(cpu, &others);
  // Where there is but one, they meet as it likes.
  static_cast<void>(sched_setaffinity(0, sizeof(others), &others));
}

/// How many frames a worker has sent to the peer.
std::size_t sent_by(std::uint16_t worker) {
  std::size_t sent = 0;
  rte_mbuf* frames[128];
  while (const std::uint16_t count =
             rte_eth_rx_burst(static_cast<std::uint16_t>(raw(kWan)), worker, frames, 128)) {
    for (std::uint16_t i = 0; i < count; ++i) rte_pktmbuf_free(frames[i]);
    sent += count;
  }
  return sent;
}

}  // namespace

TEST_CASE("lifetime: two workers on one SA send not one packet beyond its limit, nor one less",
          "[threads]") {
  INFO(kRace);
  constexpr int kRounds = 200;
  constexpr std::uint64_t kFit = 100;  // of the 64 that each of them has
  const bool by_packets = GENERATE(false, true), goes_short = GENERATE(false, true);
  SaOptions options;
  if (!goes_short) options.suite = kNotPlain;
  std::uint64_t bytes = kFit * kClientBytes + kClientBytes - 1;
  if (by_packets) {
    options.lifetime.hard_packets = kFit;
    bytes = ~0ULL;
  } else {
    options.lifetime.hard_bytes = bytes;
  }
  Gateway gateway({}, 2);
  const SlotIndex slot = gateway.install(outbound_sa(options));
  gateway.protect("10.1.0.0/24", "10.2.0.0/16", slot);
  OutboundSa& sa = *gateway.tables().sad->outbound(slot);
  SecondWorker second(gateway);
  const std::array<WorkerState*, 2> workers = {&gateway.worker(), second.state.get()};
  std::array<std::unique_ptr<Burst>, 2> bursts = {std::make_unique<Burst>(),
                                                  std::make_unique<Burst>()};
  const auto work = [&](std::size_t worker) {
    take_whole_bursts(*workers[worker]);
    run_iteration(*workers[worker], *bursts[worker]);
  };
  for (std::uint16_t worker = 0; worker < 2; ++worker) {  // each learns the flow
    give(worker, 1);
    work(worker);
    REQUIRE(sent_by(worker) == 1);
  }
  give(0, kFit / 2);
  work(0);
  CHECK(sent_by(0) == kFit / 2);
  CHECK(workers[0]->went_the_short_way == goes_short);
  std::uint64_t wrong = 0;
  for (int round = 0; round < kRounds; ++round) {
    sa.bytes_left = bytes;
    sa.sequence = 0;
    sa.details->stop_cause = StopCause::none;
    sa.stopped = false;
    for (std::uint16_t worker = 0; worker < 2; ++worker) give(worker, kBurstPackets);
    std::atomic<int> ready{0};
    const auto together = [&](std::size_t worker) {
      ++ready;
      while (ready != 2) std::this_thread::yield();
      work(worker);
    };
    std::thread other([&] {
      leave_the_main_lcore();
      together(1);
    });
    together(0);
    other.join();
    if (sent_by(0) + sent_by(1) != kFit) ++wrong;
    CHECK(sa.details->stop_cause == (by_packets ? StopCause::hard_packets : StopCause::hard_bytes));
    CHECK(sa.bytes_left == bytes - kFit * kClientBytes);
  }
  CHECK(wrong == 0);
}
