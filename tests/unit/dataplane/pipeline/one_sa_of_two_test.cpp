// Two workers send on one SA (design.md, "outbound SAs may be used by several workers"): not one
// packet beyond its limits, no sequence number twice, and within a flow everything in its order.
#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <numeric>
#include <random>
#include <thread>

#include <catch2/catch.hpp>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <unistd.h>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/agreement/second_worker.hpp"
#include "tests/unit/finding.hpp"
#include "wire/ip.hpp"

namespace culvert::test::one_sa_of_two {
namespace {

using namespace dataplane;

/// What has no short way.
const crypto::EspSuite kNotPlain{crypto::Encryption::chacha20_poly1305, 256,
                                 crypto::Integrity::none};

constexpr std::size_t kClientBytes = 60;
constexpr std::size_t kFlowOfBoth = 0;

/// UDP of a flow, all of whose data is its serial number.
Packet client_packet(std::size_t flow, std::uint8_t serial) {
  const auto port = static_cast<std::uint16_t>(5000 + flow);
  return ip_packet({.payload = udp(port, 4000, Packet(32, serial))});
}

/// Frames of clients wait in the worker's queue.
void give(std::uint16_t worker, std::size_t count) {
  const Packet bytes = frame(client_packet(kFlowOfBoth, 0x42));
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

constexpr std::size_t kWorkers = 2, kFlows = 4, kBursts = 6;  ///< of each worker
using Serials = std::array<std::vector<std::uint8_t>, kFlows>;

/// A burst of a worker's own flows; `serials` is what each flow has sent.
std::vector<Packet> burst_of(std::uint16_t worker, Serials& serials) {
  std::vector<Packet> frames;
  for (std::size_t i = 0; i < kBurstPackets; ++i) {
    const std::size_t flow = worker + i % (kFlows / kWorkers) * kWorkers;
    serials[flow].push_back(static_cast<std::uint8_t>(serials[flow].size()));
    frames.push_back(frame(client_packet(flow, serials[flow].back())));
  }
  return frames;
}

/// As a network merges what two queues send: now some of one, now of the other.
std::vector<Packet> merged(const std::array<std::vector<Packet>, kWorkers>& sent,
                           std::mt19937& random) {
  std::vector<Packet> all;
  std::array<std::size_t, kWorkers> taken{};
  while (all.size() < sent[0].size() + sent[1].size()) {
    const std::size_t worker = random() % kWorkers;
    for (std::size_t some = random() % 200; some > 0; --some) {
      if (taken[worker] < sent[worker].size()) all.push_back(sent[worker][taken[worker]++]);
    }
  }
  return all;
}

/// Opened burst by burst; what left is noted by flow.
std::uint64_t dropped_by(Gateway& right, const std::vector<Packet>& frames, Serials& serials) {
  std::uint64_t dropped = 0;
  for (auto next = frames.begin(); next != frames.end();) {
    const auto end = next + std::min<std::ptrdiff_t>(kBurstPackets, frames.end() - next);
    const Result result = right.receive(kWan, std::vector<Packet>(next, end));
    for (const Packet& one : result.lan) {
      const Packet ip = ip_of(one);
      serials.at(wire::load_u16(&ip[20]) - 5000U).push_back(ip.back());
    }
    dropped += result.dropped(DropReason::replay_left_of_window);
    CHECK(result.drops.size() == (result.dropped(DropReason::replay_left_of_window) != 0));
    next = end;
  }
  return dropped;
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
  const std::array<WorkerState*, 2> workers = {&gateway.worker(), &second.state()};
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

TEST_CASE("two workers: of one SA a window of 1024 takes all, and each flow is in its order") {
  const bool goes_short = GENERATE(false, true);
  const std::uint32_t seed = GENERATE(1U, 2U, 3U, 4U);
  CAPTURE(goes_short, seed);
  std::mt19937 random(seed);
  SaOptions options;
  options.window = 1024;
  if (!goes_short) options.suite = kNotPlain;
  Gateway left({}, kWorkers);
  left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa(options)));
  SecondWorker second(left);
  left.iterate = [&](WorkerState& first, Burst& burst) { second.iterate(first, burst); };
  // Given bursts of both in any order, each worker with flows of its own
  std::array<std::uint16_t, kWorkers * kBursts> turns{};
  std::fill_n(turns.begin(), kBursts, std::uint16_t{1});
  std::ranges::shuffle(turns, random);
  Serials given;
  std::array<std::vector<Packet>, kWorkers> sent;
  for (const std::uint16_t worker : turns) {
    left.receiver = worker;
    const Result result = left.receive(kLan, burst_of(worker, given));
    REQUIRE(result.wan.size() == kBurstPackets);
    sent[worker].insert(sent[worker].end(), result.wan.begin(), result.wan.end());
  }
  // Then no sequence number was taken twice and none left out (RFC 4303 §3.3.3)
  const std::vector<Packet> frames = merged(sent, random);
  std::vector<std::uint32_t> sequence, expected(frames.size());
  for (const Packet& one : frames) sequence.push_back(wire::load_u32(&ip_of(one)[24]));
  std::iota(expected.begin(), expected.end(), 1U);
  CHECK_FALSE(std::ranges::is_sorted(sequence));
  std::ranges::sort(sequence);
  CHECK(sequence == expected);
  // And the receiver opens all of it, though it is late by more than a small window takes
  Gateway right{mirrored()};
  right.install(inbound_sa(options));
  Serials received;
  CHECK(dropped_by(right, frames, received) == 0);
  CHECK(received == given);
  Gateway narrow{mirrored()};
  options.window = 32;
  narrow.install(inbound_sa(options));
  Serials of_narrow;
  CHECK(dropped_by(narrow, frames, of_narrow) > 0);
}

}  // namespace culvert::test::one_sa_of_two
