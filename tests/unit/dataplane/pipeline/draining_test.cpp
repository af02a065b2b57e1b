// The gateway stops: what stands in the rings between workers and the main thread reaches its end,
// and nothing more is taken from the ports.
#include <thread>

#include <catch2/catch.hpp>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "dataplane/control/workers.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;
using namespace std::chrono_literals;

namespace {

constexpr unsigned kRingPackets = 1024;

rte_mbuf* mbuf_of(const Packet& bytes) {
  rte_mbuf* const packet = rte_pktmbuf_alloc(packet_pool());
  REQUIRE(packet != nullptr);
  char* const data = rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size()));
  std::copy(bytes.begin(), bytes.end(), data);
  return packet;
}

/// Two workers of one gateway, as the daemon has them, on threads of their own.
struct TwoWorkers {
  Gateway gateway;  ///< for its tables
  std::array<WorkerContext, 2> contexts;
  std::array<WorkerContext*, 2> all{&contexts[0], &contexts[1]};
  std::vector<rte_ring*> rings;
  std::vector<std::thread> threads;

  TwoWorkers() : gateway(mirrored(), 2) {
    for (std::uint16_t id = 0; id < 2; ++id) {
      WorkerContext& context = contexts[id];
      context.id = WorkerId{id};
      context.tables = &gateway.tables();
      context.engine = crypto::esp::make_engine();
      context.pool = packet_pool();
      context.large_pool = large_packet_pool();
      context.punt = ring("drain_punt", id, 8);
      context.inject = ring("drain_inject", id, 8);
      context.handoff = ring("drain_handoff", id, 8);
      context.peer_moved = ring("drain_moved", id, sizeof(PeerMovedHint));
      context.peers = all.data();
    }
  }
  ~TwoWorkers() {
    stop();
    for (rte_ring* one : rings) rte_ring_free(one);
  }
  rte_ring* ring(const char* kind, std::uint16_t id, unsigned element_bytes) {
    const std::string name = kind + std::to_string(id);
    rings.push_back(rte_ring_create_elem(name.c_str(), element_bytes, kRingPackets, 0, 0));
    REQUIRE(rings.back() != nullptr);
    return rings.back();
  }
  void start() {
    for (WorkerContext& context : contexts) threads.emplace_back([&] { run_worker(&context); });
  }
  void stop() {
    for (WorkerContext& context : contexts) context.stop.store(true);
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }
  void hand_over(std::size_t worker, const Packet& frame, PortId received_on) {
    rte_mbuf* const packet = mbuf_of(frame);
    PuntedPacket origin;
    origin.received_on = received_on;
    punted(packet) = origin;
    REQUIRE(rte_ring_enqueue(contexts[worker].handoff, packet) == 0);
  }
  void inject(const Packet& ip) {
    rte_mbuf* const packet = mbuf_of(ip);
    injected(packet) = {InjectKind::outbound_local, kWan, false};
    REQUIRE(rte_ring_enqueue(contexts[0].inject, packet) == 0);
  }
  /// Takes what waits in the workers' punt rings.
  std::uint64_t take_punts() {
    std::uint64_t taken = 0;
    void* packet = nullptr;
    for (WorkerContext& context : contexts) {
      while (rte_ring_dequeue(context.punt, &packet) == 0) {
        rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
        ++taken;
      }
    }
    return taken;
  }
  std::uint64_t count(Counter WorkerCounters::* counter) {
    return (gateway.tables().counters[0].*counter).read() +
           (gateway.tables().counters[1].*counter).read();
  }
  std::uint64_t dropped() {
    std::uint64_t packets = 0;
    for (std::size_t worker = 0; worker < 2; ++worker) {
      for (const auto& direction : gateway.tables().counters[worker].drops) {
        for (const Counter& reason : direction) packets += reason.read();
      }
    }
    return packets;
  }
};

/// What lies in a looped port; it is taken out.
std::size_t frames_in(PortId port) {
  std::size_t found = 0;
  rte_mbuf* frames[64];
  for (std::uint16_t queue = 0; queue < 2; ++queue) {
    while (const std::uint16_t count =
               rte_eth_rx_burst(static_cast<std::uint16_t>(raw(port)), queue, frames, 64)) {
      rte_pktmbuf_free_bulk(frames, count);
      found += count;
    }
  }
  return found;
}

}  // namespace

TEST_CASE("drain: what is between workers and main reaches its end, and ports are left") {
  constexpr unsigned kHandedOver = 500, kInjected = 300, kPunted = 200;
  Gateway left;
  left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa({})));
  TwoWorkers workers;
  const SlotIndex slot = workers.gateway.install(inbound_sa({}));
  workers.gateway.policy(PolicyAction::bypass, "0.0.0.0/0", "0.0.0.0/0");
  // At the worker that the SA is not of: it hands each over once more.
  const std::size_t other = 1 - raw(slot) % 2;
  Packet last;
  for (unsigned i = 0; i < kHandedOver; ++i) {
    last = left.receive(kLan, frame(ip_packet({}))).wan.at(0);
    workers.hand_over(other, last, kWan);
  }
  for (unsigned i = 0; i < kInjected; ++i) {
    workers.inject(ip_packet({.source = "10.2.0.1", .destination = "198.51.100.1"}));
  }
  // Nobody is known there: to be resolved.
  for (unsigned i = 0; i < kPunted; ++i) {
    workers.inject(ip_packet({.source = "10.2.0.1", .destination = "10.2.0.99"}));
  }
  rte_mbuf* const at_the_port = mbuf_of(last);
  rte_mbuf* frame_of_port = at_the_port;
  REQUIRE(rte_eth_tx_burst(static_cast<std::uint16_t>(raw(kWan)), 0, &frame_of_port, 1) == 1);

  for (WorkerContext& context : workers.contexts) context.drain.store(true);
  workers.start();
  bool has_answered = false;
  std::uint64_t punts = 0;
  const control::Drained drained = control::drain_workers(
      workers.all,
      [&] {
        const std::uint64_t taken = workers.take_punts();
        // What the main thread makes of a punt goes out as well.
        if (taken != 0 && !std::exchange(has_answered, true)) {
          workers.inject(ip_packet({.source = "10.2.0.1", .destination = "198.51.100.1"}));
        }
        punts += taken;
        return taken;
      },
      10s);
  // At once: nothing may be under way any more.
  const std::uint64_t sent = workers.count(&WorkerCounters::sent);
  workers.stop();

  CHECK(drained.is_all);
  CHECK(punts == kPunted);
  CHECK(sent == kHandedOver + kInjected + 1);
  CHECK(workers.count(&WorkerCounters::sent) == sent);
  CHECK(workers.dropped() == 0);
  CHECK(workers.count(&WorkerCounters::received) == 0);
  for (const WorkerContext& context : workers.contexts) {
    for (rte_ring* ring : {context.handoff, context.inject, context.punt}) {
      CHECK(rte_ring_empty(ring));
    }
  }
  CHECK(frames_in(kLan) == kHandedOver);
  CHECK(frames_in(kWan) == kInjected + 1 + 1);
}

TEST_CASE("drain: it ends in time though a worker does not come, or the rings never empty") {
  TwoWorkers workers;
  const auto nothing = [] { return std::uint64_t{0}; };
  CHECK_FALSE(control::drain_workers(workers.all, nothing, 5ms).is_all);  // no thread runs

  workers.gateway.policy(PolicyAction::bypass, "0.0.0.0/0", "0.0.0.0/0");
  workers.start();
  const auto begin = std::chrono::steady_clock::now();
  // The worker takes it while the main thread is still about it.
  const auto again = [&] {
    workers.inject(ip_packet({.source = "10.2.0.1", .destination = "198.51.100.1"}));
    const std::uint64_t before = workers.contexts[0].drained.iterations.load();
    while (workers.contexts[0].drained.iterations.load() < before + 2 &&
           std::chrono::steady_clock::now() - begin < 10s) {
      std::this_thread::yield();
    }
    return std::uint64_t{0};
  };
  const control::Drained drained = control::drain_workers(workers.all, again, 50ms);
  CHECK_FALSE(drained.is_all);
  CHECK(drained.packets > 0);
  CHECK(std::chrono::steady_clock::now() - begin < 10s);
  workers.stop();
  frames_in(kWan);
  void* packet = nullptr;
  while (rte_ring_dequeue(workers.contexts[0].inject, &packet) == 0) {
    rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
  }
}
