#include "benchmarks/rig.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>

#include <malloc.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "benchmarks/clock.hpp"
#include "benchmarks/lcores.hpp"
#include "dataplane/tables/sa.hpp"

namespace culvert::benchmarks {
namespace {

using namespace dataplane;

/// Fewer SAs than this drown in what the allocator takes anyway.
constexpr std::uint32_t kLeastSasToWeigh = 16384;

/// Memory that the process has, huge pages included, in bytes.
double resident_bytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  double kib = 0;
  for (std::string line; std::getline(file, line);) {
    for (const char* const name : {"Rss:", "Shared_Hugetlb:", "Private_Hugetlb:"}) {
      if (line.starts_with(name)) kib += std::stod(line.substr(std::strlen(name)));
    }
  }
  return kib * 1024;
}

std::uint32_t burst_number(const rte_mbuf* frame, wire::Family outer) {
  rte_be16_t raw = 0;
  std::memcpy(&raw, rte_pktmbuf_mtod_offset(frame, const char*, burst_number_at(outer)),
              sizeof(raw));
  return rte_be_to_cpu_16(raw);
}
/// The next frame is the first of a burst's: a worker that takes half bursts stops between two, and
/// a burst across the capture's end would hold numbers of two rounds.
void begin_with_a_burst(std::uint16_t source, std::uint16_t queue, wire::Family outer) {
  constexpr std::uint16_t kHalf = kBurstPackets / 2;
  std::array<rte_mbuf*, kHalf> frames;
  std::uint32_t last = UINT32_MAX, number = 0;
  for (bool is_whole = false; !is_whole; last = number) {
    if (rte_eth_rx_burst(source, queue, frames.data(), kHalf) != kHalf) give_up("no frames");
    number = burst_number(frames[0], outer);
    is_whole = number == last;
    rte_pktmbuf_free_bulk(frames.data(), kHalf);
  }
}

/// Runs on a worker's thread after each receive: a looped capture is a replay, so the windows go
/// back to their start where the capture does: where the number of a frame's burst falls. Bare I/O
/// plays the same capture, so the worker may begin anywhere in it.
struct Wrap {
  const Rig* rig = nullptr;
  std::uint64_t* cycles = nullptr;  ///< spent on it within a stage, if stages are told apart
  std::size_t worker = 0;
  wire::Family outer{};
  std::uint32_t last_number = 0;
  bool is_set_aside = false;
  std::atomic<double> seconds{0};  ///< spent on it; written by the worker's thread alone
};
std::uint16_t reset_at_wrap(std::uint16_t, std::uint16_t, rte_mbuf** frames, std::uint16_t received,
                            std::uint16_t, void* argument) {
  if (received == 0) return 0;
  auto& wrap = *static_cast<Wrap*>(argument);
  const std::uint32_t number = burst_number(frames[0], wrap.outer);
  const bool begins_again = number < wrap.last_number;
  wrap.last_number = number;
  if (!begins_again) return received;
  if (wrap.cycles != nullptr) {
    const std::uint64_t before = rte_rdtsc();
    wrap.rig->reset_windows(wrap.worker);
    const std::uint64_t spent = rte_rdtsc() - before;
    if (spent < StageClock::kInterrupted) *wrap.cycles += spent;
    return received;
  }
  if (!wrap.is_set_aside) {
    wrap.rig->reset_windows(wrap.worker);
    return received;
  }
  const double before = seconds_on(CLOCK_THREAD_CPUTIME_ID);
  wrap.rig->reset_windows(wrap.worker);
  const double spent = seconds_on(CLOCK_THREAD_CPUTIME_ID) - before;
  // Relaxed: one writer, and a reader who wants a recent value.
  wrap.seconds.store(wrap.seconds.load(std::memory_order_relaxed) + spent,
                     std::memory_order_relaxed);
  return received;
}

using Ring = std::unique_ptr<rte_ring, void (*)(rte_ring*)>;
Ring make_ring(const std::string& name, std::size_t worker, unsigned element, unsigned count) {
  rte_ring* ring = rte_ring_create_elem((name + std::to_string(worker)).c_str(), element, count,
                                        SOCKET_ID_ANY, 0);
  if (ring == nullptr) give_up("no memory for ring " + name);
  return {ring, rte_ring_free};
}

std::string drops_of(const WorkerCounters& counters) {
  std::string text;
  for (const auto& direction : counters.drops) {
    for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
      const std::uint64_t packets = direction[reason].read();
      if (packets == 0) continue;
      text += " " + std::string(info(static_cast<DropReason>(reason)).name) + "=" +
              std::to_string(packets);
    }
  }
  return text;
}

/// Of the flood nothing passes, of the good packets all do.
void check_flood(const WorkerCounters& counters) {
  const std::uint64_t received = counters.received.read(), sent = counters.sent.read();
  constexpr std::uint64_t kCutShort = 2 * kBurstPackets;  // a capture ends within a group
  const std::uint64_t expected = received / (1 + kBadPerGood);
  // Once a capture, its last group may be short; a burst may be under way.
  const std::uint64_t slack = received / 4096 + kCutShort;
  if (sent > expected + slack || sent + slack < expected) {
    give_up("of a flood with " + std::to_string(expected) + " good packets " +
            std::to_string(sent) + " passed:" + drops_of(counters));
  }
}

/// A worker as the data plane makes it, and what measures it.
struct Lane {
  Ring punt{nullptr, rte_ring_free}, inject{nullptr, rte_ring_free},
      handoff{nullptr, rte_ring_free}, moved{nullptr, rte_ring_free};
  WorkerContext context;
  std::atomic<bool>& stop = context.stop;
  ThreadClock clock;
  Wrap wrap;
  const rte_eth_rxtx_callback* callback = nullptr;

  void set_up(std::size_t worker, Tables& tables, rte_mempool* pool, WorkerContext* const* peers) {
    punt = make_ring("punt", worker, sizeof(void*), 1024);
    inject = make_ring("inject", worker, sizeof(void*), 1024);
    handoff = make_ring("handoff", worker, sizeof(void*), 1024);
    moved = make_ring("moved", worker, sizeof(PeerMovedHint), 256);
    context.id = static_cast<WorkerId>(worker);
    context.tables = &tables;
    context.engine = crypto::esp::make_engine();
    context.pool = pool;
    context.punt = punt.get();
    context.inject = inject.get();
    context.handoff = handoff.get();
    context.peer_moved = moved.get();
    context.peers = peers;
    context.idle = config::IdleMode::busy;
  }
  /// What went to a main thread that is not there.
  void drain() {
    for (const Ring* ring : {&punt, &handoff}) {
      void* packet = nullptr;
      while (rte_ring_dequeue(ring->get(), &packet) == 0) {
        rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
      }
    }
  }
  void reset_windows_of(const Rig& rig, std::size_t worker, std::uint16_t source,
                        wire::Family outer) {
    wrap.rig = &rig;
    wrap.worker = worker;
    wrap.outer = outer;
    // Two looks at the clock are dearer than the few words of a few SAs.
    wrap.is_set_aside = rig.sas_of(worker).size() > 64;
    callback =
        rte_eth_add_rx_callback(source, static_cast<std::uint16_t>(worker), reset_at_wrap, &wrap);
    if (callback == nullptr) give_up("no receive callback");
  }
};

/// What one more entry of a stage costs, the least of many runs of them.
double cycles_of_a_look() {
  constexpr int kRuns = 1000, kLooks = 64;
  double least = 1e9;
  for (int run = 0; run < kRuns; ++run) {
    StageClock clock;
    const std::uint64_t before = rte_rdtsc();
    for (int look = 0; look < kLooks; ++look) clock.enter(Stage::rx, rte_rdtsc());
    least = std::min(least, static_cast<double>(rte_rdtsc() - before) / kLooks);
  }
  return least;
}

/// A policy that is looked at first and that no packet matches.
PolicyEntry other_policy(const Case& test, std::uint32_t index) {
  PolicyEntry entry;
  entry.action = PolicyAction::bypass;
  entry.rank.place = index;
  if (test.has_many_shapes) {
    const Selectors selectors = selectors_of_many_shapes(test.inner, index);
    entry.local = {selectors.local};
    entry.remote = {selectors.remote};
    return entry;
  }
  entry.local = {wire::TrafficSelector::of(prefix_of(test.inner, 0x0b000000 + (index << 8), 24))};
  entry.remote = {wire::TrafficSelector::of(prefix_of(test.inner, 0x0c000000, 8))};
  return entry;
}

int run_lane(void* argument) {
  Lane& lane = *static_cast<Lane*>(argument);
  lane.clock.start();
  return run_worker(&lane.context);
}

}  // namespace

Rig::Rig(const Case& test, const crypto::esp::Engine& engine) : test_(test) {
  config::Limits limits;
  limits.sas = test.sas + 16;
  limits.policies = policies_of(test);
  limits.flows = test.remembered;
  ::malloc_trim(0);  // what the case before left
  const double empty = resident_bytes();
  auto tables = Tables::create(limits, test.workers, engine);
  if (!tables) give_up(tables.error());
  tables_ = std::move(*tables);
  std::vector<PortInfo> ports(2);
  // Port 0 receives: the LAN when packets go out, the WAN when they come in.
  const bool out = test.direction == Direction::out;
  std::memcpy(ports[0].mac.data(), out ? kLanMac : kWanMac, 6);
  std::memcpy(ports[1].mac.data(), out ? kWanMac : kLanMac, 6);
  for (PortInfo& port : ports) {
    port.mtu = 9000;
    port.queues = static_cast<std::uint16_t>(test.workers);
  }
  tables_->ports.publish(ports, *tables_->reclaimer);
  route();
  install_sas();
  const double with_sas = resident_bytes();
  install_policies();
  if (test.sas < kLeastSasToWeigh) return;
  state_bytes_.per_sa = (with_sas - empty) / test.sas;
  if (test.has_sa_policies) {
    state_bytes_.per_policy = (resident_bytes() - with_sas) / policies_of(test);
  }
}

Rig::~Rig() = default;

void Rig::serve(const Case& test) {
  if (!have_same_tables(test, test_)) give_up("a rig of other tables");
  test_ = test;
}

void Rig::route() {
  const bool out = test_.direction == Direction::out;
  MacAddress neighbor{};
  std::memcpy(neighbor.data(), kNeighborMac, 6);
  const wire::IpAddress next_hop =
      out ? address_of(test_.outer, kPeerWan) : address_of(test_.inner, kLocalBase + 0xfffffe);
  const auto adjacency = tables_->adjacencies->add_neighbor(PortId{1}, next_hop, 9000);
  if (!adjacency) give_up("no adjacency");
  tables_->adjacencies->resolve(*adjacency, neighbor, tables_->ports[1].mac);
  const auto add = [&](const wire::Prefix& prefix, AdjacencyIndex index) {
    if (auto added = tables_->fib->add(prefix, index); !added) {
      give_up(added.error());
    }
  };
  add(out ? prefix_of(test_.outer, kPeerWan, 32) : prefix_of(test_.inner, kLocalBase, 8),
      *adjacency);
  add(prefix_of(test_.outer, kOurWan, 32), Adjacencies::kLocal);
}

void Rig::install_sas() {
  sas_of_.resize(test_.workers);
  for (std::uint32_t index = 0; index < test_.sas; ++index) {
    channel::Spi spi{0x10000 + index};
    if (test_.direction == Direction::in) {
      spi = tables_->sad->lease_spis(1).at(0);
      spis_.push_back(spi);
    }
    const auto slot = tables_->sad->install(sa_request(test_, index, spi), rte_rdtsc());
    if (!slot) give_up(std::string(channel::to_string(slot.error())));
    slots_.push_back(*slot);
    sas_of_[raw(*slot) % test_.workers].push_back(index);
  }
}

void Rig::install_policies() {
  std::vector<PolicyEntry> policies;
  for (std::uint32_t index = 0; index < test_.other_policies; ++index) {
    policies.push_back(other_policy(test_, index));
  }
  for (std::uint32_t index = 0; test_.has_sa_policies && index < test_.sas; ++index) {
    const auto request = sa_request(test_, index, channel::Spi{});
    PolicyEntry entry;
    entry.origin = PolicyOrigin::negotiated;
    entry.action = PolicyAction::protect;
    entry.child_id = channel::ChildId{index};
    entry.policy = channel::PolicyId{index + 1};
    entry.local = {request.local_selectors.items[0]};
    entry.remote = {request.remote_selectors.items[0]};
    if (test_.direction == Direction::out) entry.outbound = slots_[index];
    entry.rank.place = policies.size();
    policies.push_back(std::move(entry));
  }
  tables_->spd->replace(std::move(policies));
}

void Rig::reset_windows(std::size_t worker) const {
  if (test_.direction == Direction::out) return;
  // Only the words that the capture's numbers reach; a wrong ICV has one more.
  const std::size_t numbers = frames_of(test_) / sas_of_[worker].size() + 2;
  for (const std::uint32_t index : sas_of_[worker]) {
    InboundSa& sa = *tables_->sad->inbound(static_cast<std::uint32_t>(spis_[index]));
    sa.highest = sa.newest = 0;
    const std::size_t words = std::min<std::size_t>(numbers / 32 + 1, sa.window_mask + 1U);
    std::fill_n(sa.window, words, ReplayWord{});
  }
}

std::vector<double> Rig::measure(const Devices& devices, rte_mempool* pool, double seconds) {
  return run(devices, pool, seconds, nullptr);
}

/// The first worker's stages from when it has met every flow, as rates are taken from then.
struct Rig::StageWatch {
  StageClock clock;
  const WorkerCounters* counters = nullptr;
  std::uint64_t warm_up_packets = 0;  ///< counted from `sent_before`
  std::uint64_t sent_before = 0;
  std::uint64_t set_aside = 0;  ///< cycles of the stage rx that were not spent on packets
  bool has_begun = false;

  /// Runs on the worker's thread after each receive.
  static std::uint16_t begin_when_warm(std::uint16_t, std::uint16_t, rte_mbuf**,
                                       std::uint16_t received, std::uint16_t, void* argument) {
    auto& watch = *static_cast<StageWatch*>(argument);
    if (watch.has_begun) return received;
    const std::uint64_t sent = watch.counters->sent.read();
    if (sent - watch.sent_before < watch.warm_up_packets) return received;
    watch.has_begun = true;
    watch.sent_before = sent;
    watch.set_aside = 0;
    watch.clock = {};
    watch.clock.enter(Stage::rx, rte_rdtsc());
    return received;
  }
};

StageTimes Rig::measure_stages(const Devices& devices, rte_mempool* pool, double seconds) {
  StageWatch watch;
  watch.counters = &tables_->counters[0];
  watch.sent_before = watch.counters->sent.read();
  watch.warm_up_packets = frames_of(test_) / frames_per_good(test_);
  static_cast<void>(run(devices, pool, seconds, &watch));
  const auto packets = static_cast<double>(watch.counters->sent.read() - watch.sent_before);
  const double look = cycles_of_a_look();
  StageTimes times;
  for (std::size_t stage = 0; stage < kStages; ++stage) {
    const auto which = static_cast<Stage>(stage);
    const double looking = look * static_cast<double>(watch.clock.entries(which));
    const double aside = which == Stage::rx ? static_cast<double>(watch.set_aside) : 0;
    const double spent = static_cast<double>(watch.clock.cycles(which)) - looking - aside;
    times.cycles_per_packet[stage] = std::max(0.0, spent / packets);
  }
  return times;
}

std::vector<double> Rig::run(const Devices& devices, rte_mempool* pool, double seconds,
                             StageWatch* watch) {
  std::vector<PortInfo> ports = tables_->ports.copy();
  ports[0].dpdk_port = devices.source();
  ports[1].dpdk_port = devices.sink();
  tables_->ports.publish(ports, *tables_->reclaimer);
  std::vector<Lane> lanes(test_.workers);
  std::vector<WorkerContext*> peers;
  for (Lane& lane : lanes) peers.push_back(&lane.context);
  std::vector<Probe> probes;
  for (std::size_t worker = 0; worker < lanes.size(); ++worker) {
    Lane& lane = lanes[worker];
    lane.set_up(worker, *tables_, pool, peers.data());
    if (worker == 0 && watch != nullptr) {
      lane.context.stage_clock = &watch->clock;
      lane.wrap.cycles = &watch->set_aside;
    }
    reset_windows(worker);
    if (test_.direction == Direction::in) {
      begin_with_a_burst(devices.source(), static_cast<std::uint16_t>(worker), test_.outer);
      lane.reset_windows_of(*this, worker, devices.source(), test_.outer);
    }
    const WorkerCounters& counters = tables_->counters[worker];
    probes.push_back({&lane.clock, [&counters] { return counters.sent.read(); },
                      [&lane] { return lane.wrap.seconds.load(std::memory_order_relaxed); },
                      frames_of(test_) / frames_per_good(test_)});  // each flow once
  }
  const rte_eth_rxtx_callback* const begin =
      watch == nullptr
          ? nullptr
          : rte_eth_add_rx_callback(devices.source(), 0, StageWatch::begin_when_warm, watch);
  auto result = measure_on_lcores(lanes, run_lane, probes, seconds);
  if (begin != nullptr) rte_eth_remove_rx_callback(devices.source(), 0, begin);
  for (std::size_t worker = 0; worker < lanes.size(); ++worker) {
    if (lanes[worker].callback != nullptr) {
      rte_eth_remove_rx_callback(devices.source(), static_cast<std::uint16_t>(worker),
                                 lanes[worker].callback);
    }
    lanes[worker].drain();
    if (test_.flood != Flood::none) {
      check_flood(tables_->counters[worker]);
    } else if (const auto drops = drops_of(tables_->counters[worker]); !drops.empty()) {
      give_up(row_name(test_) + ": packets were dropped in a run that should drop none:" + drops);
    }
  }
  return result;
}

}  // namespace culvert::benchmarks
