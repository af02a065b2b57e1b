#include "tests/unit/dataplane/pipeline/gateway.hpp"

#include <array>
#include <atomic>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "dataplane/ports/packet_pool.hpp"
#include "dataplane/tables/sa.hpp"
#include "dataplane/worker/sizes.hpp"
#include "wire/checksum.hpp"

namespace culvert::test {
namespace {

using namespace dataplane;

constexpr std::uint16_t kPorts = 2, kQueues = 2;

/// What a worker sends comes back by the looped port, and before its end where a queue of frames
/// was full in the middle of an iteration: that is no input.
struct Loop {
  bool watches = false;
  std::set<const rte_mbuf*> inputs;
  std::array<std::vector<rte_mbuf*>, kPorts> came_back;
};
Loop loop;

std::uint16_t keep_inputs(std::uint16_t port, std::uint16_t, rte_mbuf** frames,
                          std::uint16_t received, std::uint16_t, void*) {
  if (!loop.watches) return received;
  std::uint16_t kept = 0;
  for (std::uint16_t i = 0; i < received; ++i) {
    if (loop.inputs.erase(frames[i]) != 0) {
      frames[kept++] = frames[i];
    } else {
      loop.came_back.at(port).push_back(frames[i]);
    }
  }
  return kept;
}

void start_port(std::uint16_t port) {
  rte_eth_conf configuration{};
  if (rte_eth_dev_configure(port, kQueues, kQueues, &configuration) != 0) {
    throw std::runtime_error("a looped port did not configure");
  }
  for (std::uint16_t queue = 0; queue < kQueues; ++queue) {
    if (rte_eth_rx_queue_setup(port, queue, 256, 0, nullptr, packet_pool()) != 0 ||
        rte_eth_tx_queue_setup(port, queue, 256, 0, nullptr) != 0) {
      throw std::runtime_error("a looped port has no queues");
    }
    if (rte_eth_add_rx_callback(port, queue, keep_inputs, nullptr) == nullptr) {
      throw std::runtime_error("a looped port takes no callback");
    }
  }
  if (rte_eth_dev_start(port) != 0) throw std::runtime_error("a looped port did not start");
}

rte_ring* make_ring(const char* kind, unsigned element_bytes) {
  static std::atomic<int> count{0};
  const std::string name = std::string(kind) + std::to_string(count++);
  rte_ring* const ring = rte_ring_create_elem(name.c_str(), element_bytes, 1024, 0, 0);
  REQUIRE(ring != nullptr);
  return ring;
}

rte_mbuf* make_mbuf(const Packet& bytes) {
  const bool is_large =
      bytes.size() + RTE_PKTMBUF_HEADROOM > rte_pktmbuf_data_room_size(packet_pool());
  rte_mbuf* const packet = rte_pktmbuf_alloc(is_large ? large_packet_pool() : packet_pool());
  REQUIRE(packet != nullptr);
  char* const data = rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size()));
  REQUIRE(data != nullptr);
  std::copy(bytes.begin(), bytes.end(), data);
  return packet;
}

Packet bytes_of(const rte_mbuf* packet) {
  const auto* const data = rte_pktmbuf_mtod(packet, const std::uint8_t*);
  return {data, data + packet->data_len};
}

channel::SelectorSet selectors(const std::vector<std::string>& texts) {
  channel::SelectorSet set;
  for (const std::string& text : texts) {
    set.items[set.count++] = wire::TrafficSelector::parse(text).value();
  }
  return set;
}

channel::InstallSa common_sa(const SaOptions& options, std::uint32_t spi) {
  static std::atomic<std::uint64_t> next_id{1};
  channel::InstallSa sa;
  sa.sa = channel::SaId{next_id++};
  sa.mode = options.mode;
  sa.esn = options.esn;
  sa.udp_encapsulation = options.udp;
  sa.spi = channel::Spi{spi};
  sa.replay_window = options.window;
  sa.suite = options.suite.value_or(
      crypto::EspSuite{crypto::Encryption::aes_gcm_16, options.key_bits, crypto::Integrity::none});
  sa.lifetime = options.lifetime;
  Packet key(sa.suite.keymat_bytes());
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<std::uint8_t>(i * 7 + spi);
  // No REQUIRE: chaos makes SAs on a thread of their own, and Catch2 counts for one thread.
  if (!sa.key.assign(key)) std::abort();
  return sa;
}

/// A FIB is 160 MiB to clear: a test takes one that others have used, without their routes.
class UsedFib final : public Fib {
 public:
  UsedFib() {
    if (idle().empty()) idle().push_back(std::make_unique<Routes>());
    routes_ = std::move(idle().back());
    idle().pop_back();
  }
  ~UsedFib() override {
    for (const wire::Prefix& prefix : added_) {
      routes_->fib->remove(prefix);
      routes_->reclaimer.drain();
    }
    idle().push_back(std::move(routes_));
  }
  UsedFib(const UsedFib&) = delete;
  UsedFib& operator=(const UsedFib&) = delete;

  std::expected<void, std::string> add(const wire::Prefix& prefix,
                                       AdjacencyIndex adjacency) override {
    auto done = routes_->fib->add(prefix, adjacency);
    if (done) added_.insert(prefix);
    changed();
    return done;
  }
  void remove(const wire::Prefix& prefix) override {
    routes_->fib->remove(prefix);
    added_.erase(prefix);
    changed();
  }
  [[nodiscard]] AdjacencyIndex lookup_v4(std::uint32_t address) const override {
    return routes_->fib->lookup_v4(address);
  }
  [[nodiscard]] AdjacencyIndex lookup_v6(const std::uint8_t* address) const override {
    return routes_->fib->lookup_v6(address);
  }

  Reclaimer* outdates = nullptr;  ///< of the tables that it is part of

 private:
  struct Routes {
    Reclaimer reclaimer{1};
    std::unique_ptr<Fib> fib = Fib::create(kMaxRoutes, reclaimer).value();
  };
  /// Never destroyed: EAL's memory may have gone before.
  static std::vector<std::unique_ptr<Routes>>& idle() {
    static auto& all = *new std::vector<std::unique_ptr<Routes>>();
    return all;
  }
  void changed() {
    routes_->reclaimer.drain();
    if (outdates != nullptr) outdates->outdate();
  }

  std::unique_ptr<Routes> routes_;
  std::set<wire::Prefix> added_;
};

}  // namespace

void start_eal() {
  static const bool started = [] {
    std::vector<std::string> words = {
        "test", "--no-huge",         "--no-shconf",      "-m",
        "1024", "--no-pci",          "--no-telemetry",   "-l",
        "0",    "--log-level=error", "--vdev=net_ring0", "--vdev=net_ring1"};
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    if (rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0) {
      throw std::runtime_error("EAL did not start");
    }
    for (std::uint16_t port = 0; port < kPorts; ++port) start_port(port);
    return true;
  }();
  static_cast<void>(started);
}

rte_mempool* packet_pool() {
  static rte_mempool* const pool =
      rte_pktmbuf_pool_create("test", 4095, 0, kPuntPrivateBytes, 2048 + RTE_PKTMBUF_HEADROOM, 0);
  return pool;
}
rte_mempool* large_packet_pool() {
  static rte_mempool* const pool =
      rte_pktmbuf_pool_create("large", 31, 0, kPuntPrivateBytes, ports::kLargeBufferBytes, 0);
  return pool;
}

void take_whole_bursts(WorkerState& worker) {
  worker.burst_packets.fill(kBurstPackets);
  worker.pace.see(worker.tables.spd->snapshot());
  for (int burst = 0; burst < 7; ++burst) worker.pace.end_burst(kBurstPackets);
}

Addresses mirrored() {
  return {.lan = "10.2.0.1/24",
          .wan = "198.51.100.2/24",
          .lan6 = "2001:db8:2::1/64",
          .wan6 = "2001:db8:ff::2/64",
          .peer = "198.51.100.1",
          .peer6 = "2001:db8:ff::1",
          .client = "10.2.0.7",
          .client6 = "2001:db8:2::7",
          .far = "10.1.0.0/16",
          .far6 = "2001:db8:1::/64"};
}

Gateway::Gateway(const Addresses& addresses, std::uint32_t workers, std::uint16_t worker,
                 std::unique_ptr<crypto::esp::Engine> (*make_engine)(), Routes routes)
    : receiver(worker), addresses_(addresses), engine_((start_eal(), make_engine())) {
  config::Limits limits;
  // All of it is touched at the start of every test.
  limits.sas = 1024;
  limits.policies = 256;
  limits.flows = 1024;
  auto fib = routes == Routes::used ? std::make_unique<UsedFib>() : nullptr;
  UsedFib* const used = fib.get();
  auto made = Tables::create(limits, workers, *engine_, std::move(fib));
  REQUIRE(made.has_value());
  tables_ = std::move(*made);
  if (used != nullptr) used->outdates = tables_->reclaimer.get();
  std::vector<PortInfo> ports;
  for (std::uint16_t port = 0; port < kPorts; ++port) {
    PortInfo info;
    info.dpdk_port = port;
    info.queues = 2;
    info.mac = kOurMac;
    ports.push_back(info);
  }
  tables_->ports.publish(ports, *tables_->reclaimer);
  for (const std::string& own : {addresses.lan, addresses.wan, addresses.lan6, addresses.wan6}) {
    const PortId port = own == addresses.lan || own == addresses.lan6 ? kLan : kWan;
    const auto prefix = wire::Prefix::parse(own).value();
    add_route(own, tables_->adjacencies->add_glean(port, 1500).value());
    add_route(prefix.address.to_string(), Adjacencies::kLocal);
    if (!prefix.address.is_v4()) continue;
    add_route(prefix.first().to_string(), Adjacencies::kBroadcast);
    add_route(prefix.last().to_string(), Adjacencies::kBroadcast);
  }
  add_neighbor(kWan, addresses.peer);
  add_neighbor(kWan, addresses.peer6);
  add_neighbor(kLan, addresses.client);
  add_neighbor(kLan, addresses.client6);
  punt_ = make_ring("punt", 8);
  inject_ = make_ring("inject", 8);
  handoff_ = make_ring("handoff", 8);
  hints_ = make_ring("hints", sizeof(PeerMovedHint));
  context_.id = WorkerId{worker};
  context_.tables = tables_.get();
  context_.engine = make_engine();
  context_.pool = packet_pool();
  context_.large_pool = large_packet_pool();
  context_.punt = punt_;
  context_.inject = inject_;
  context_.handoff = handoff_;
  context_.peer_moved = hints_;
  peers_.fill(&context_);
  context_.peers = peers_.data();
  worker_ = std::make_unique<WorkerState>(context_);
  burst_ = std::make_unique<Burst>();
}

Gateway::~Gateway() {
  drop_pending(*worker_);
  drop_early(*worker_);
  worker_->free_given_back();
  void* packet = nullptr;
  while (rte_ring_dequeue(handoff_, &packet) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
  for (rte_ring* ring : {punt_, inject_, handoff_, hints_}) rte_ring_free(ring);
}

void Gateway::add_route(const std::string& prefix, AdjacencyIndex adjacency) {
  REQUIRE(tables_->fib->add(wire::Prefix::parse(prefix).value(), adjacency).has_value());
  tables_->reclaimer->poll();
}

void Gateway::add_neighbor(PortId port, const std::string& address) {
  const auto parsed = wire::IpAddress::parse(address).value();
  const auto index = tables_->adjacencies->add_neighbor(port, parsed, 1500).value();
  // Every station of these tests has the same address: what one sends another takes.
  tables_->adjacencies->resolve(index, kOurMac, kTheirMac);
  add_route(address, index);
  if (address == addresses_.peer) add_route(addresses_.far, index);
  if (address == addresses_.peer6) add_route(addresses_.far6, index);
}

Result Gateway::receive(PortId port, const std::vector<Packet>& frames) {
  for (const Packet& bytes : frames) {
    rte_mbuf* packet = make_mbuf(bytes);
    if (stripped_tag != 0) {
      packet->ol_flags |= RTE_MBUF_F_RX_VLAN | RTE_MBUF_F_RX_VLAN_STRIPPED;
      packet->vlan_tci = stripped_tag;
    }
    REQUIRE(rte_eth_tx_burst(static_cast<std::uint16_t>(raw(port)), receiver, &packet, 1) == 1);
    loop.inputs.insert(packet);
  }
  loop.watches = sends_are_no_input;
  Result result = run();
  loop.watches = false;
  loop.inputs.clear();
  return result;
}

Result Gateway::inject(const Packet& bytes, InjectedPacket how) {
  rte_mbuf* const packet = make_mbuf(bytes);
  injected(packet) = how;
  REQUIRE(rte_ring_enqueue(inject_, packet) == 0);
  ++injected_;
  return run();
}

Result Gateway::serve_main_thread() {
  injected_ += rte_ring_count(inject_);
  return run();
}

void Gateway::collect_sent(Result& result) const {
  const bool watched = std::exchange(loop.watches, false);
  rte_mbuf* frames[128];
  for (std::uint16_t port = 0; port < kPorts; ++port) {
    for (rte_mbuf* const frame : std::exchange(loop.came_back.at(port), {})) {
      (port == 0 ? result.lan : result.wan).push_back(bytes_of(frame));
      rte_pktmbuf_free(frame);
    }
    for (std::uint16_t queue = 0; queue < kQueues; ++queue) {
      while (const std::uint16_t count = rte_eth_rx_burst(
                 port, queue, frames, static_cast<std::uint16_t>(std::size(frames)))) {
        for (std::uint16_t i = 0; i < count; ++i) {
          (port == 0 ? result.lan : result.wan).push_back(bytes_of(frames[i]));
          rte_pktmbuf_free(frames[i]);
        }
      }
    }
  }
  loop.watches = watched;
}

Result Gateway::run() {
  const auto total_drops = [&] {
    std::map<DropReason, std::uint64_t> drops;
    for (std::uint32_t worker = 0; worker < tables_->workers; ++worker) {
      for (const auto& direction : tables_->counters[worker].drops) {
        for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
          if (direction[reason].read() != 0) {
            drops[static_cast<DropReason>(reason)] += direction[reason].read();
          }
        }
      }
    }
    return drops;
  };
  // What has come in or about, less what has left.
  const auto balance = [&] {
    std::uint64_t sum = 0;
    for (std::uint32_t worker = 0; worker < tables_->workers; ++worker) {
      const WorkerCounters& counters = tables_->counters[worker];
      sum += counters.received.read() + counters.originated.read();
      sum -= counters.sent.read() + counters.delivered.read();
    }
    return sum;
  };
  const auto before = total_drops();
  const std::uint64_t balance_before = balance();
  const auto waiting = [&] {
    return worker_->reassembler.held() + worker_->early.count() + waits_elsewhere();
  };
  const std::size_t held = waiting();
  Result result;
  take_whole_bursts(*worker_);
  do {
    iterate(*worker_, *burst_);
    collect_sent(result);
  } while (goes_on());
  void* packet = nullptr;
  while (rte_ring_dequeue(punt_, &packet) == 0) {
    auto* const mbuf = static_cast<rte_mbuf*>(packet);
    result.punts.push_back({punted(mbuf), bytes_of(mbuf)});
    rte_pktmbuf_free(mbuf);
  }
  std::uint64_t dropped = 0;
  for (const auto& [reason, count] : total_drops()) {
    const auto old = before.find(reason);
    const std::uint64_t fresh = count - (old == before.end() ? 0 : old->second);
    if (fresh != 0) result.drops[reason] = fresh;
    dropped += fresh;
  }
  const std::uint64_t handed_off = rte_ring_count(handoff_);
  CHECK(balance() - balance_before + injected_ ==
        dropped + result.punts.size() + handed_off + waiting() - held);
  injected_ = 0;
  return result;
}

SlotIndex Gateway::install(const channel::InstallSa& sa, const SaSettings& settings) {
  const auto slot = tables_->sad->install_manual(sa, rte_rdtsc(), settings);
  REQUIRE(slot.has_value());
  return *slot;
}

void Gateway::protect(const std::string& local, const std::string& remote, SlotIndex outbound) {
  PolicyEntry entry;
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.child_id = channel::ChildId{7};
  entry.policy = channel::PolicyId{policies_.size() + 1};
  entry.local = {wire::TrafficSelector::parse(local).value()};
  entry.remote = {wire::TrafficSelector::parse(remote).value()};
  entry.outbound = outbound;
  policies_.push_back(entry);
  tables_->spd->replace(policies_);
}

void Gateway::policy(PolicyAction action, const std::string& local, const std::string& remote) {
  PolicyEntry entry;
  entry.action = action;
  entry.local = {wire::TrafficSelector::parse(local).value()};
  entry.remote = {wire::TrafficSelector::parse(remote).value()};
  policies_.push_back(entry);
  tables_->spd->replace(policies_);
}

SaOptions with_families(bool outer_v6, bool inner_v6) {
  SaOptions options;
  if (outer_v6) {
    options.outer_local = "2001:db8:ff::1";
    options.outer_remote = "2001:db8:ff::2";
  }
  if (inner_v6) {
    options.local_selectors = {"2001:db8:1::/64"};
    options.remote_selectors = {"2001:db8:2::/64"};
  }
  return options;
}

channel::InstallSa outbound_sa(const SaOptions& options, std::uint32_t spi) {
  channel::InstallSa sa = common_sa(options, spi);
  sa.direction = channel::Direction::out;
  const std::uint16_t port = options.udp ? 4500 : 0;
  sa.local = {wire::IpAddress::parse(options.outer_local).value(), port};
  sa.remote = {wire::IpAddress::parse(options.outer_remote).value(), port};
  sa.local_selectors = selectors(options.local_selectors);
  sa.remote_selectors = selectors(options.remote_selectors);
  return sa;
}

channel::InstallSa inbound_sa(const SaOptions& options, std::uint32_t spi) {
  channel::InstallSa sa = outbound_sa(options, spi);
  sa.direction = channel::Direction::in;
  std::swap(sa.local, sa.remote);
  std::swap(sa.local_selectors, sa.remote_selectors);
  return sa;
}

Packet ip_packet(const PacketOptions& options) {
  const auto source = wire::IpAddress::parse(options.source).value();
  const auto destination = wire::IpAddress::parse(options.destination).value();
  Packet packet(source.is_v4() ? 20 : 40);
  if (source.is_v4()) {
    packet[0] = 0x45;
    packet[1] = options.traffic_class;
    wire::store_u16(&packet[2], static_cast<std::uint16_t>(20 + options.payload.size()));
    wire::store_u16(&packet[6], options.fragment);
    packet[8] = options.ttl;
    packet[9] = options.protocol;
    std::copy_n(source.bytes.begin(), 4, &packet[12]);
    std::copy_n(destination.bytes.begin(), 4, &packet[16]);
    wire::write_ipv4_checksum(packet.data(), 20);
  } else {
    wire::store_u16(&packet[0], static_cast<std::uint16_t>(0x6000 | options.traffic_class << 4));
    wire::store_u16(&packet[4], static_cast<std::uint16_t>(options.payload.size()));
    packet[6] = options.protocol;
    packet[7] = options.ttl;
    std::copy_n(source.bytes.begin(), 16, &packet[8]);
    std::copy_n(destination.bytes.begin(), 16, &packet[24]);
  }
  packet.insert(packet.end(), options.payload.begin(), options.payload.end());
  return packet;
}

PacketOptions from_client(bool is_v6, std::size_t bytes) {
  PacketOptions options{.payload = udp(5000, 4000, Packet(bytes, 0x42))};
  if (is_v6) {
    options.source = "2001:db8:1::9";
    options.destination = "2001:db8:2::7";
  }
  return options;
}

Packet behind_extension(Packet ip, std::uint8_t type, Packet header) {
  header[0] = std::exchange(ip[6], type);
  ip.insert(ip.begin() + 40, header.begin(), header.end());
  wire::store_u16(&ip[4], static_cast<std::uint16_t>(ip.size() - 40));
  return ip;
}

Packet frame(const Packet& ip, std::uint16_t type) {
  Packet whole(14);
  std::copy(kOurMac.begin(), kOurMac.end(), whole.begin());
  std::copy(kTheirMac.begin(), kTheirMac.end(), whole.begin() + 6);
  if (type == 0) type = ip.empty() || ip[0] >> 4 == 4 ? 0x0800 : 0x86dd;
  wire::store_u16(&whole[12], type);
  whole.insert(whole.end(), ip.begin(), ip.end());
  return whole;
}

Packet udp(std::uint16_t source, std::uint16_t destination, const Packet& data) {
  Packet datagram(8);
  wire::store_u16(&datagram[0], source);
  wire::store_u16(&datagram[2], destination);
  wire::store_u16(&datagram[4], static_cast<std::uint16_t>(8 + data.size()));
  datagram.insert(datagram.end(), data.begin(), data.end());
  return datagram;
}

Packet ip_of(const Packet& whole) { return {whole.begin() + 14, whole.end()}; }

Packet echo_request(const std::string& source, const std::string& destination) {
  PacketOptions options;
  options.source = source;
  options.destination = destination;
  const bool is_v4 = wire::IpAddress::parse(source).value().is_v4();
  options.protocol = is_v4 ? 1 : 58;
  options.payload = Packet(40, 0x61);
  options.payload[0] = is_v4 ? 8 : 128;
  options.payload[1] = options.payload[2] = options.payload[3] = 0;
  wire::ChecksumSum sum;
  sum.add(options.payload);
  if (!is_v4) {
    sum.add_pseudo_header(wire::IpAddress::parse(source).value(),
                          wire::IpAddress::parse(destination).value(), 58,
                          static_cast<std::uint32_t>(options.payload.size()));
  }
  wire::store_u16(&options.payload[2], sum.finish());
  return ip_packet(options);
}

void fix_checksum(Packet& whole) {
  if (whole[14] >> 4 == 4) wire::write_ipv4_checksum(&whole[14], 20);
}

}  // namespace culvert::test
