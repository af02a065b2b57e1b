#include "benchmarks/stalls.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <thread>

#include <pthread.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <sched.h>
#include <sys/resource.h>

#include "benchmarks/clock.hpp"
#include "dataplane/tables/sa.hpp"
#include "dataplane/worker/stages.hpp"

namespace culvert::benchmarks {
namespace {

using namespace dataplane;

constexpr std::uint16_t kLan = 0, kWan = 1;
constexpr std::size_t kMostTimes = 1'000'000;
constexpr std::uint64_t kWarmUp = 200;

[[noreturn]] void fail(const std::string& why) { throw std::runtime_error("stalls: " + why); }

wire::Prefix prefix(const char* text) { return wire::Prefix::parse(text).value(); }

rte_ring* make_ring(const char* kind, unsigned element_bytes) {
  static std::atomic<int> count{0};
  const std::string name = std::string("stall_") + kind + std::to_string(count++);
  rte_ring* const ring = rte_ring_create_elem(name.c_str(), element_bytes, 1024, SOCKET_ID_ANY, 0);
  if (ring == nullptr) fail("no memory for a ring");
  return ring;
}

/// All of its memory has been written to: a worker meets no fresh page of it.
rte_mempool* shared_pool() {
  static rte_mempool* const pool = [] {
    constexpr unsigned kPackets = 4095;
    rte_mempool* const made = rte_pktmbuf_pool_create("stalls", kPackets, 256, kPuntPrivateBytes,
                                                      2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
    if (made == nullptr) fail("no memory for packets");
    std::vector<rte_mbuf*> all(kPackets);
    if (rte_pktmbuf_alloc_bulk(made, all.data(), kPackets) != 0) fail("no packets");
    for (rte_mbuf* const packet : all) std::memset(packet->buf_addr, 0, packet->buf_len);
    rte_pktmbuf_free_bulk(all.data(), kPackets);
    return made;
  }();
  return pool;
}

/// What a port receives and what it was given to send.
struct PortRings {
  rte_ring* received = nullptr;
  rte_ring* sent = nullptr;
};
std::array<PortRings, 2> port_rings;

void make_port(std::uint16_t port) {
  PortRings& rings = port_rings[port];
  rings = {make_ring("received", sizeof(void*)), make_ring("sent", sizeof(void*))};
  const std::string name = "stall" + std::to_string(port);
  if (rte_eth_from_rings(name.c_str(), &rings.received, 1, &rings.sent, 1, 0) != port) {
    fail("a port is not what it was to be");
  }
  const rte_eth_conf configuration{};
  if (rte_eth_dev_configure(port, 1, 1, &configuration) != 0 ||
      rte_eth_rx_queue_setup(port, 0, 256, 0, nullptr, shared_pool()) != 0 ||
      rte_eth_tx_queue_setup(port, 0, 256, 0, nullptr) != 0 || rte_eth_dev_start(port) != 0) {
    fail("a port did not start");
  }
}

}  // namespace

StallRig::Kernel StallRig::Kernel::now() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return {usage.ru_nvcsw, usage.ru_minflt + usage.ru_majflt};
}

void start_stall_environment() {
  static const bool started = [] {
    // rte_eal_init may permute the pointers and keeps them.
    static std::array<char, 32> words[] = {
        {"stalls"},   {"--no-huge"}, {"--no-shconf"}, {"--no-pci"}, {"--no-telemetry"},
        {"--lcores"}, {"0@0"},       {"-m"},          {"256"},      {"--log-level=error"},
    };
    static std::array<char*, std::size(words) + 1> arguments{};
    for (std::size_t i = 0; i < std::size(words); ++i) arguments[i] = words[i].data();
    // DPDK pins this thread; the worker's would inherit that.
    cpu_set_t before;
    ::pthread_getaffinity_np(::pthread_self(), sizeof(before), &before);
    if (rte_eal_init(static_cast<int>(std::size(words)), arguments.data()) < 0) {
      fail("DPDK's environment did not start");
    }
    ::pthread_setaffinity_np(::pthread_self(), sizeof(before), &before);
    for (const std::uint16_t port : {kLan, kWan}) make_port(port);
    return true;
  }();
  static_cast<void>(started);
}

StallRig::StallRig(const StallSettings& settings)
    : settings_(settings), engine_(crypto::esp::make_engine()) {
  out_.direction = Direction::out;
  in_.direction = Direction::in;
  for (Case* const side : {&out_, &in_}) {
    side->sas = side->least_frames = settings.flows;
    side->flows = 1;
    side->remembered = 8192;
  }
  make_tables();
  make_traffic();
  make_worker();
}

StallRig::~StallRig() {
  worker_->free_given_back();
  worker_.reset();
  tables_->reclaimer->drain();
  for (rte_ring* const ring : rings_) rte_ring_free(ring);
}

void StallRig::make_tables() {
  config::Limits limits;
  limits.sas = 4 * settings_.flows;
  limits.policies = settings_.policies + 1024;
  limits.flows = out_.remembered;
  auto tables = Tables::create(limits, 1, *engine_);
  if (!tables) fail(tables.error());
  tables_ = std::move(*tables);
  std::vector<PortInfo> ports(2);
  std::memcpy(ports[kLan].mac.data(), kLanMac, 6);
  std::memcpy(ports[kWan].mac.data(), kWanMac, 6);
  ports[kWan].dpdk_port = kWan;
  tables_->ports.publish(ports, *tables_->reclaimer);
  const auto neighbor = [&](std::uint16_t port, std::uint32_t address) {
    const auto made =
        tables_->adjacencies->add_neighbor(PortId{port}, wire::IpAddress::v4(address), 1500);
    MacAddress mac{};
    std::memcpy(mac.data(), kNeighborMac, 6);
    tables_->adjacencies->resolve(made.value(), mac, tables_->ports[port].mac);
    return made.value();
  };
  next_hop_ = neighbor(kWan, kPeerWan);
  const auto client = neighbor(kLan, kLocalBase + 0xfffffe);
  if (!tables_->fib->add(prefix("198.51.100.2/32"), next_hop_) ||
      !tables_->fib->add(prefix("10.0.0.0/8"), client) ||
      !tables_->fib->add(prefix("198.51.100.1/32"), Adjacencies::kLocal)) {
    fail("no room for routes");
  }
  for (std::uint32_t number = 0; number < settings_.policies - settings_.flows; ++number) {
    all_policies_.push_back(other_policy(number));
  }
  for (std::uint32_t sa = 0; sa < settings_.flows; ++sa) {
    outbound_.push_back(channel::SaId{next_sa_++});
    auto sent = sa_request(out_, sa, channel::Spi{0x10000 + sa});
    sent.sa = outbound_.back();
    spis_.push_back(tables_->sad->lease_spis(1).at(0));
    auto received = sa_request(in_, sa, spis_.back());
    received.sa = channel::SaId{next_sa_++};
    const auto slot = tables_->sad->install(sent, rte_rdtsc(), {});
    if (!slot || !tables_->sad->install(received, rte_rdtsc(), {})) fail("no room for SAs");
    all_policies_.push_back(policy_of(sa));
    all_policies_.back().outbound = *slot;
  }
  tables_->spd->replace(all_policies_);
}

void StallRig::make_traffic() {
  std::vector<std::uint32_t> sas(settings_.flows);
  std::iota(sas.begin(), sas.end(), 0U);
  for_each_clear_frame(out_, sas, [&](const Frame& frame) { frames_[kLan].push_back(frame); });
  for_each_sealed_frame(in_, sas, spis_, *engine_,
                        [&](const Frame& frame) { frames_[kWan].push_back(frame); });
  for (std::size_t number = 0; number < frames_[kWan].size(); ++number) {
    sa_of_frame_.push_back(sa_of_frame(in_, sas, number));
  }
}

void StallRig::make_worker() {
  rings_ = {make_ring("punt", sizeof(void*)), make_ring("inject", sizeof(void*)),
            make_ring("handoff", sizeof(void*)), make_ring("moved", sizeof(PeerMovedHint))};
  context_.tables = tables_.get();
  context_.engine = crypto::esp::make_engine();
  context_.pool = shared_pool();
  context_.punt = rings_[0];
  context_.inject = rings_[1];
  context_.handoff = rings_[2];
  context_.peer_moved = rings_[3];
  context_.peers = peers_;
  worker_ = std::make_unique<WorkerState>(context_);
  burst_ = std::make_unique<Burst>();
}

// ---- the thread that changes ----

std::vector<Wake> StallRig::round(const std::vector<Change>& kinds, std::uint32_t of_each,
                                  double least_seconds) {
  const std::size_t changes = kinds.size() * of_each;
  wakes_.assign(changes / settings_.at_once + 1, Wake{});
  times_.assign(kMostTimes, 0);
  begun_ = 0;
  rounds_ = 0;
  stop_ = false;
  std::thread worker([this] { serve(); });
  while (rounds_.load(std::memory_order_acquire) < kWarmUp) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  auto next = std::chrono::steady_clock::now();
  const auto between = std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(settings_.seconds_between));
  for (std::size_t number = 0; number < changes; ++number) {
    // Release pairs with the acquire in `serve`.
    begun_.store(static_cast<std::uint32_t>(number / settings_.at_once) + 1,
                 std::memory_order_release);
    const Change kind = kinds[number % kinds.size()];
    change(kind, static_cast<std::uint32_t>(number / kinds.size()));
    if (settings_.beside_change) settings_.beside_change(kind);
    if ((number + 1) % settings_.at_once != 0) continue;
    wait_for_wake(rounds_.load(std::memory_order_acquire), least_seconds);
    next += between;
    std::this_thread::sleep_until(next);
  }
  stop_.store(true, std::memory_order_relaxed);
  worker.join();
  tables_->reclaimer->drain();
  check_drops();
  return {wakes_.begin() + 1, wakes_.end()};
}

/// Until every flow has been met again, and a round more: the next change has its own.
void StallRig::wait_for_wake(std::uint64_t begun_at, double least_seconds) {
  const std::uint64_t bursts = settings_.flows / kBurstPackets;
  // Relaxed: by the time these rounds are over, it is this wake's.
  while (rounds_.load(std::memory_order_acquire) < begun_at + bursts + 2 ||
         in_wake_.load(std::memory_order_relaxed) < least_seconds) {
    tables_->reclaimer->poll();
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

void StallRig::check_drops() const {
  for (const auto& direction : tables_->counters[0].drops) {
    for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
      if (direction[reason].read() == 0) continue;
      fail(std::to_string(direction[reason].read()) +
           " packets dropped: " + std::string(info(static_cast<DropReason>(reason)).name));
    }
  }
  if (rte_ring_count(rings_[0]) != 0) fail("packets were handed up");
}

// ---- the worker's thread ----

void StallRig::serve() {
  if (rte_thread_register() != 0) std::abort();  // with a packet cache of its own, as workers have
  Reclaimer& reclaimer = *tables_->reclaimer;
  reclaimer.online(context_.id);
  const std::size_t bursts = settings_.flows / kBurstPackets;
  std::uint64_t iterations = 0;
  kernel_before_ = Kernel::now();
  for (std::size_t round = 0; !stop_.load(std::memory_order_relaxed); ++round) {
    feed(round % bursts);
    // All that was given, however many the worker takes at once.
    do {
      serve_once(iterations++);
    } while (is_left(kLan) || is_left(kWan));
    reset_windows(round % bursts);
    // Release pairs with the acquire in `wait_for_wake`.
    rounds_.store(round + 1, std::memory_order_release);
  }
  reclaimer.offline(context_.id);
  times_.resize(std::min<std::size_t>(iterations, kMostTimes));
  rte_thread_unregister();
}

bool StallRig::is_left(std::uint16_t port) const {
  return !worker_->held[port].is_empty() || rte_ring_count(port_rings[port].received) != 0;
}

void StallRig::serve_once(std::uint64_t number) {
  worker_->burst_packets.fill(kBurstPackets);  // however the last burst went
  const std::uint64_t began = rte_rdtsc();
  const double used = seconds_on(CLOCK_THREAD_CPUTIME_ID);
  run_iteration(*worker_, *burst_);
  tables_->reclaimer->quiescent(context_.id);
  if (settings_.in_iteration) settings_.in_iteration();
  const double took = seconds_on(CLOCK_THREAD_CPUTIME_ID) - used;
  const std::uint64_t passed = rte_rdtsc() - began;
  give_back_sent();
  const Kernel after = Kernel::now();
  // Acquire pairs with the release in `round`. Of the change that fell into it, or in whose wake it
  // is: the next one waits until this has ended.
  Wake& wake = wakes_[begun_.load(std::memory_order_acquire)];
  // A list takes half a second to build: long enough for the machine to disturb some iteration, and
  // nothing that the worker meets before it is swapped in.
  if (list_until_swap_.load(std::memory_order_acquire) != &tables_->spd->snapshot()) {
    wake.longest = std::max(wake.longest, took);
    wake.longest_there = std::max(
        wake.longest_there, static_cast<double>(passed) / static_cast<double>(rte_get_tsc_hz()));
    wake.seconds += took;
    in_wake_.store(wake.seconds, std::memory_order_relaxed);
  }
  wake.waits += static_cast<std::uint32_t>(after.waits - kernel_before_.waits);
  wake.faults += static_cast<std::uint32_t>(after.faults - kernel_before_.faults);
  kernel_before_ = after;
  if (number < kMostTimes) times_[number] = static_cast<float>(took);
}

void StallRig::feed(std::size_t burst) {
  for (const std::uint16_t port : {kLan, kWan}) {
    std::array<rte_mbuf*, kBurstPackets> packets;
    if (rte_pktmbuf_alloc_bulk(shared_pool(), packets.data(), kBurstPackets) != 0) std::abort();
    for (std::size_t i = 0; i < kBurstPackets; ++i) {
      const Frame& frame = frames_[port][burst * kBurstPackets + i];
      std::memcpy(rte_pktmbuf_append(packets[i], static_cast<std::uint16_t>(frame.size())),
                  frame.data(), frame.size());
    }
    // Elements are pointers; DPDK's interface is of void**.
    rte_ring_enqueue_bulk(port_rings[port].received, reinterpret_cast<void**>(packets.data()),
                          kBurstPackets, nullptr);
  }
}

void StallRig::give_back_sent() {
  std::array<rte_mbuf*, 2 * kBurstPackets> packets;
  for (const PortRings& port : port_rings) {
    while (const unsigned count =
               rte_ring_dequeue_burst(port.sent, reinterpret_cast<void**>(packets.data()),
                                      static_cast<unsigned>(packets.size()), nullptr)) {
      rte_pktmbuf_free_bulk(packets.data(), count);
    }
  }
}

/// The same frames come again, and are no replays.
void StallRig::reset_windows(std::size_t burst) {
  for (std::size_t i = 0; i < kBurstPackets; ++i) {
    const channel::Spi spi = spis_[sa_of_frame_[burst * kBurstPackets + i]];
    InboundSa& sa = *tables_->sad->inbound(static_cast<std::uint32_t>(spi));
    sa.highest = sa.newest = 0;
    sa.window[0] = ReplayWord{};
  }
}

}  // namespace culvert::benchmarks
