#include "benchmarks/rig.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include <rte_bus_vdev.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dataplane/tables/sa.hpp"

namespace culvert::benchmarks {
namespace {

using namespace dataplane;

constexpr std::uint16_t kDescriptors = 1024;
constexpr std::uint16_t kBurst = 64;
constexpr double kWarmUpSeconds = 0.05;
constexpr std::size_t kCaptureFrames = 4096;

[[noreturn]] void give_up(const std::string& why) {
  std::cerr << "packet_rate: " << why << '\n';
  std::exit(1);
}

std::uint16_t open_port(const std::string& name, const std::string& arguments, rte_mempool* pool) {
  if (rte_vdev_init(name.c_str(), arguments.c_str()) != 0) give_up("no device " + name);
  std::uint16_t port = 0;
  if (rte_eth_dev_get_port_by_name(name.c_str(), &port) != 0) give_up("no port " + name);
  const rte_eth_conf configuration{};
  if (rte_eth_dev_configure(port, 1, 1, &configuration) != 0 ||
      rte_eth_rx_queue_setup(port, 0, kDescriptors, SOCKET_ID_ANY, nullptr, pool) != 0 ||
      rte_eth_tx_queue_setup(port, 0, kDescriptors, SOCKET_ID_ANY, nullptr) != 0 ||
      rte_eth_dev_start(port) != 0) {
    give_up("cannot start " + name);
  }
  return port;
}

void close_port(std::uint16_t port) {
  char name[RTE_ETH_NAME_MAX_LEN];
  rte_eth_dev_get_name_by_port(port, name);
  rte_eth_dev_stop(port);
  rte_eth_dev_close(port);
  rte_vdev_uninit(name);
}

unsigned worker_lcore() {
  const unsigned lcore = rte_get_next_lcore(-1, 1, 0);
  if (lcore >= RTE_MAX_LCORE) give_up("no second lcore");
  return lcore;
}

/// Cycles and packets of a stretch of the worker's time, waited for by the main thread.
template <typename Count>
Rate over(double seconds, const Count& count) {
  rte_delay_us_sleep(static_cast<unsigned>(kWarmUpSeconds * 1e6));
  const std::uint64_t packets_before = count();
  const std::uint64_t before = rte_rdtsc();
  rte_delay_us_sleep(static_cast<unsigned>(seconds * 1e6));
  const std::uint64_t packets = count() - packets_before;
  const auto cycles = static_cast<double>(rte_rdtsc() - before);
  const auto amount = static_cast<double>(packets);
  return {amount * static_cast<double>(rte_get_tsc_hz()) / cycles, cycles / amount};
}

struct IoLoop {
  std::uint16_t source, sink;
  std::atomic<bool> stop{false};
  Counter sent;
};

int run_io(void* argument) {
  auto& loop = *static_cast<IoLoop*>(argument);
  rte_mbuf* burst[kBurst];
  while (!loop.stop.load(std::memory_order_relaxed)) {
    const std::uint16_t received = rte_eth_rx_burst(loop.source, 0, burst, kBurst);
    const std::uint16_t sent = rte_eth_tx_burst(loop.sink, 0, burst, received);
    rte_pktmbuf_free_bulk(burst + sent, received - sent);
    loop.sent.add(sent);
  }
  return 0;
}

/// Runs on the worker's thread after each receive: a looped capture is a replay, so the windows go
/// back to their start where the capture does, inside of the measured time: where the sequence
/// number of a burst's first frame falls. Bare I/O plays the same capture, so the worker may begin
/// anywhere in it.
struct Wrap {
  const Rig* rig;
  std::uint32_t last_sequence = 0;
};
std::uint16_t reset_at_wrap(std::uint16_t, std::uint16_t, rte_mbuf** frames, std::uint16_t received,
                            std::uint16_t, void* argument) {
  if (received == 0) return 0;
  auto& wrap = *static_cast<Wrap*>(argument);
  constexpr std::uint16_t kSequenceAt = 14 + 20 + 4;
  rte_be32_t raw = 0;
  std::memcpy(&raw, rte_pktmbuf_mtod_offset(frames[0], const char*, kSequenceAt), sizeof(raw));
  const std::uint32_t sequence = rte_be_to_cpu_32(raw);
  if (sequence < wrap.last_sequence) wrap.rig->reset_windows();
  wrap.last_sequence = sequence;
  return received;
}

using Ring = std::unique_ptr<rte_ring, void (*)(rte_ring*)>;
Ring make_ring(const char* name) {
  rte_ring* ring = rte_ring_create(name, 1024, SOCKET_ID_ANY, 0);
  if (ring == nullptr) give_up(std::string("no memory for ring ") + name);
  return {ring, rte_ring_free};
}
Ring make_hint_ring(const char* name) {
  rte_ring* ring = rte_ring_create_elem(name, sizeof(PeerMovedHint), 256, SOCKET_ID_ANY, 0);
  if (ring == nullptr) give_up(std::string("no memory for ring ") + name);
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

}  // namespace

Devices::Devices(const std::string& capture, rte_mempool* pool) {
  source_ = open_port("net_pcap0", "rx_pcap=" + capture + ",infinite_rx=1", pool);
  sink_ = open_port("net_null0", "no-rx=1", pool);
}

Devices::~Devices() {
  close_port(source_);
  close_port(sink_);
}

Rate measure_io(const Devices& devices, double seconds) {
  IoLoop loop{devices.source(), devices.sink(), {}, {}};
  const unsigned lcore = worker_lcore();
  rte_eal_remote_launch(run_io, &loop, lcore);
  const Rate rate = over(seconds, [&] { return loop.sent.read(); });
  loop.stop.store(true, std::memory_order_relaxed);
  rte_eal_wait_lcore(lcore);
  return rate;
}

Rig::Rig(const Case& test, const crypto::esp::Engine& engine) : test_(test) {
  config::Limits limits;
  limits.sas = test.sas + 16;
  limits.policies = test.sas + test.policies;
  auto tables = Tables::create(limits, 1, engine);
  if (!tables) give_up(tables.error());
  tables_ = std::move(*tables);
  tables_->ports.resize(2);
  // Port 0 receives: the LAN when packets go out, the WAN when they come in.
  const bool out = test.direction == Direction::out;
  std::memcpy(tables_->ports[0].mac.data(), out ? kLanMac : kWanMac, 6);
  std::memcpy(tables_->ports[1].mac.data(), out ? kWanMac : kLanMac, 6);
  for (PortInfo& port : tables_->ports) port.mtu = 9000;
  route();
  install(test);
}

Rig::~Rig() = default;

void Rig::route() {
  const bool out = test_.direction == Direction::out;
  MacAddress neighbor{};
  std::memcpy(neighbor.data(), kNeighborMac, 6);
  const wire::IpAddress next_hop = wire::IpAddress::v4(out ? kPeerWan : kLocalBase + 0xfffffe);
  const auto adjacency = tables_->adjacencies->add_neighbor(PortId{1}, next_hop, 9000);
  if (!adjacency) give_up("no adjacency");
  tables_->adjacencies->resolve(*adjacency, neighbor, tables_->ports[1].mac);
  const auto add = [&](const char* prefix, AdjacencyIndex index) {
    if (auto added = tables_->fib->add(*wire::Prefix::parse(prefix), index); !added) {
      give_up(added.error());
    }
  };
  add(out ? "198.51.100.2/32" : "10.0.0.0/8", *adjacency);
  add("198.51.100.1/32", Adjacencies::kLocal);
}

void Rig::install(const Case& test) {
  std::vector<PolicyEntry> policies;
  // Policies that are looked at first and match nothing.
  for (std::uint32_t index = 0; index < test.policies; ++index) {
    PolicyEntry entry;
    entry.action = PolicyAction::bypass;
    entry.local = {wire::TrafficSelector::of({wire::IpAddress::v4(0x0b000000 + (index << 8)), 24})};
    entry.remote = {wire::TrafficSelector::of({wire::IpAddress::v4(0x0c000000), 8})};
    policies.push_back(std::move(entry));
  }
  for (std::uint32_t index = 0; index < test.sas; ++index) {
    channel::Spi spi{0x10000 + index};
    if (test.direction == Direction::in) {
      spi = tables_->sad->lease_spis(1).at(0);
      spis_.push_back(spi);
    }
    const auto request = sa_request(test.direction, index, spi);
    const auto slot = tables_->sad->install(request, rte_rdtsc());
    if (!slot) give_up(std::string(channel::to_string(slot.error())));
    PolicyEntry entry;
    entry.origin = PolicyOrigin::negotiated;
    entry.action = PolicyAction::protect;
    entry.child_index = index;
    entry.policy = channel::PolicyId{index + 1};
    entry.local = {request.local_selectors.items[0]};
    entry.remote = {request.remote_selectors.items[0]};
    if (test.direction == Direction::out) entry.outbound = *slot;
    policies.push_back(std::move(entry));
  }
  tables_->spd->replace(std::move(policies));
}

void Rig::reset_windows() const {
  // Only the words that the capture's numbers reach: this runs inside of the measured time.
  const std::size_t numbers = kCaptureFrames / test_.sas + 1;
  for (const channel::Spi spi : spis_) {
    InboundSa& sa = *tables_->sad->inbound(static_cast<std::uint32_t>(spi));
    sa.highest = 0;
    const std::size_t words = std::min<std::size_t>(numbers / 32 + 1, sa.window_mask + 1U);
    std::fill_n(sa.window, words, ReplayWord{});
  }
}

Rate Rig::measure(const Devices& devices, rte_mempool* pool, double seconds) {
  tables_->ports[0].dpdk_port = devices.source();
  tables_->ports[1].dpdk_port = devices.sink();
  const Ring punt = make_ring("punt"), inject = make_ring("inject"), handoff = make_ring("handoff");
  const Ring moved = make_hint_ring("moved");
  WorkerContext context;
  WorkerContext* peers[] = {&context};
  context.tables = tables_.get();
  context.engine = crypto::esp::make_engine();
  context.pool = pool;
  context.punt = punt.get();
  context.inject = inject.get();
  context.handoff = handoff.get();
  context.peer_moved = moved.get();
  context.peers = peers;
  context.idle = config::IdleMode::busy;
  Wrap wrap{this};
  reset_windows();
  const rte_eth_rxtx_callback* callback = nullptr;
  if (test_.direction == Direction::in) {
    callback = rte_eth_add_rx_callback(devices.source(), 0, reset_at_wrap, &wrap);
    if (callback == nullptr) give_up("no receive callback");
  }
  const WorkerCounters& counters = tables_->counters[0];
  const unsigned lcore = worker_lcore();
  rte_eal_remote_launch(run_worker, &context, lcore);
  const Rate rate = over(seconds, [&] { return counters.sent.read(); });
  context.stop.store(true, std::memory_order_relaxed);
  rte_eal_wait_lcore(lcore);
  if (callback != nullptr) rte_eth_remove_rx_callback(devices.source(), 0, callback);
  if (const std::string drops = drops_of(counters); !drops.empty()) {
    give_up("packets were dropped in a run that should drop none:" + drops);
  }
  return rate;
}

}  // namespace culvert::benchmarks
