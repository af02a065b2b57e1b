// A whole worker on ports of memory, driven by hand: frames in, one iteration, frames out. In one
// header, so that fuzzers need no library of tests. One gateway of a pair whose WAN sides share a
// network and whose LANs have one client each:
//   client 10.x.0.5 - lan 10.x.0.1 [gateway x] wan 198.51.100.x - 198.51.100.y - …   (x, y: 1, 2)
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "dataplane/ports/packet_pool.hpp"
#include "dataplane/worker/stages.hpp"
#include "tests/model/esp_model.hpp"
#include "tests/model/packet.hpp"
#include "tests/unit/dataplane/dpdk_environment.hpp"
#include "tests/unit/dataplane/sa_request.hpp"

namespace culvert::test {

using dataplane::DropReason;
using model::ByteString;

inline constexpr dataplane::PortId kWan{0}, kLan{1};
inline constexpr dataplane::WorkerId kWorker{0};

/// A punted packet: what the worker said of it, and its bytes.
struct Punt {
  dataplane::PuntedPacket what;
  ByteString bytes;
};

class Gateway {
 public:
  static constexpr std::uint16_t kRoom = 2048 + 512;  ///< bytes of a buffer behind its headroom

  /// `site` 1 or 2.
  explicit Gateway(unsigned site) : site_(site) {
    need_dpdk();
    static unsigned instances = 0;
    const std::string tag = std::to_string(instances++);
    pool_ = rte_pktmbuf_pool_create(("pool" + tag).c_str(), 2048, 0, dataplane::kPuntPrivateBytes,
                                    RTE_PKTMBUF_HEADROOM + kRoom, SOCKET_ID_ANY);
    require(pool_ != nullptr, "packet pool");
    large_pool_ =
        rte_pktmbuf_pool_create(("large" + tag).c_str(), 15, 0, dataplane::kPuntPrivateBytes,
                                dataplane::ports::kLargeBufferBytes, SOCKET_ID_ANY);
    require(large_pool_ != nullptr, "pool of large buffers");
    engine_ = crypto::esp::make_engine();
    config::Limits limits;
    limits.sas = 1024;
    limits.flows = 1024;  // they are touched at the start of every test
    auto made = dataplane::Tables::create(limits, 1, *engine_);
    require(made.has_value(), "tables");
    tables_ = std::move(*made);
    for (unsigned port = 0; port < 2; ++port)
      open_port("net_ring" + tag + std::to_string(port), port);
    context_.id = kWorker;
    context_.tables = tables_.get();
    context_.engine = crypto::esp::make_engine();
    context_.pool = pool_;
    context_.large_pool = large_pool_;
    context_.punt = rte_ring_create(("punt" + tag).c_str(), 1024, SOCKET_ID_ANY, 0);
    context_.inject = rte_ring_create(("inject" + tag).c_str(), 256, SOCKET_ID_ANY, 0);
    context_.peer_moved = rte_ring_create_elem(
        ("moved" + tag).c_str(), sizeof(dataplane::PeerMovedHint), 256, SOCKET_ID_ANY, 0);
    require(
        context_.punt != nullptr && context_.inject != nullptr && context_.peer_moved != nullptr,
        "rings");
    worker_ = std::make_unique<dataplane::WorkerState>(context_);
    burst_ = std::make_unique<dataplane::Burst>();
    tables_->reclaimer->online(kWorker);
    add_routes();
  }

  ~Gateway() {
    tables_->reclaimer->offline(kWorker);
    collect();
    worker_->free_given_back();
    for (const std::string& name : ports_) {
      std::uint16_t port = 0;
      rte_eth_dev_get_port_by_name(name.c_str(), &port);
      rte_eth_dev_stop(port);
      rte_eth_dev_close(port);
      rte_eal_hotplug_remove("vdev", name.c_str());
    }
    rte_ring_free(context_.punt);
    rte_ring_free(context_.inject);
    rte_ring_free(context_.peer_moved);
    worker_.reset();
    tables_.reset();
    rte_mempool_free(pool_);
    rte_mempool_free(large_pool_);
  }
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // ---- addresses; family 4 or 6 ----

  [[nodiscard]] unsigned peer_site() const { return 3 - site_; }
  [[nodiscard]] std::string wan(unsigned family) const { return wan_of(family, site_); }
  [[nodiscard]] std::string peer(unsigned family) const { return wan_of(family, peer_site()); }
  [[nodiscard]] std::string client(unsigned family) const { return client_of(family, site_); }
  [[nodiscard]] std::string far_client(unsigned family) const {
    return client_of(family, peer_site());
  }
  [[nodiscard]] static std::string net(unsigned family, unsigned site) {
    const std::string x = std::to_string(site);
    return family == 4 ? "10." + x + ".0.0/24" : "2001:db8:" + x + "::/64";
  }
  /// 02:00:00:00:SITE:PORT.
  [[nodiscard]] static ByteString mac(dataplane::PortId port, unsigned site) {
    return {2, 0, 0, 0, static_cast<std::uint8_t>(site), static_cast<std::uint8_t>(raw(port))};
  }
  [[nodiscard]] ByteString frame(dataplane::PortId port, const ByteString& ip) const {
    const unsigned type = ip.empty() || ip[0] >> 4U == 4 ? 0x0800 : 0x86dd;
    return model::ethernet(mac(port, site_), {2, 0, 0, 0, 9, 5}, type, ip);
  }

  // ---- what the main thread does ----

  dataplane::Tables& tables() { return *tables_; }

  /// `outer` and `inner`: families.
  [[nodiscard]] channel::InstallSa request(std::uint64_t id, channel::Direction direction,
                                           std::uint32_t spi, unsigned outer = 4,
                                           unsigned inner = 4) const {
    channel::InstallSa made = sa_request(id, direction, spi);
    made.local = {address(wan(outer)), 0};
    made.remote = {address(peer(outer)), 0};
    made.local_selectors = selectors({net(inner, site_)});
    made.remote_selectors = selectors({net(inner, peer_site())});
    return made;
  }
  dataplane::SlotIndex install(const channel::InstallSa& sa) {
    const auto slot = tables_->sad->install_manual(sa, 1);
    require(slot.has_value(), "SA");
    return *slot;
  }
  [[nodiscard]] static dataplane::PolicyEntry protect(const channel::InstallSa& sa,
                                                      dataplane::SlotIndex slot) {
    dataplane::PolicyEntry entry;
    entry.origin = dataplane::PolicyOrigin::negotiated;
    entry.action = dataplane::PolicyAction::protect;
    entry.policy = channel::PolicyId{static_cast<std::uint64_t>(sa.sa)};
    entry.outbound = slot;
    entry.local.assign(sa.local_selectors.items.begin(),
                       sa.local_selectors.items.begin() + sa.local_selectors.count);
    entry.remote.assign(sa.remote_selectors.items.begin(),
                        sa.remote_selectors.items.begin() + sa.remote_selectors.count);
    return entry;
  }
  void inject(dataplane::InjectKind kind, const ByteString& bytes, dataplane::PortId port) {
    inject({.kind = kind, .port = port}, bytes);
  }
  void inject(const dataplane::InjectedPacket& how, const ByteString& bytes) {
    rte_mbuf* const packet = to_mbuf(bytes);
    dataplane::injected(packet) = how;
    tables_->main_counters().originated.add(1);
    require(rte_ring_sp_enqueue(context_.inject, packet) == 0, "room in the inject ring");
  }

  // ---- packets ----

  /// Puts a frame on a port's wire; `run` takes it off. At most kBurstPackets a port and run.
  void feed(dataplane::PortId port, const ByteString& bytes) {
    require(rte_ring_sp_enqueue(wires_[raw(port)], to_mbuf(bytes)) == 0, "room on a wire");
  }
  void feed_ip(dataplane::PortId port, const ByteString& ip) { feed(port, frame(port, ip)); }
  /// One iteration and what a worker's loop does after it; then `sent` and `punts` hold what came.
  void run() {
    // All that was fed, whatever has changed.
    worker_->pace.see(tables_->spd->snapshot());
    for (int burst = 0; burst < 7; ++burst) worker_->pace.end_burst(dataplane::kBurstPackets);
    dataplane::run_iteration(*worker_, *burst_);
    tables_->reclaimer->quiescent(kWorker);
    tables_->reclaimer->poll();
    collect();
  }
  /// All of the last burst, as far as it was to be sealed or opened.
  [[nodiscard]] bool went_the_short_way() const { return worker_->went_the_short_way; }
  std::array<std::vector<ByteString>, 2> sent;  ///< frames, by port
  std::vector<Punt> punts;
  std::uint64_t punts_seen = 0;
  void forget() {
    for (auto& frames : sent) frames.clear();
    punts.clear();
  }

  // ---- counters ----

  [[nodiscard]] const dataplane::WorkerCounters& counters() const { return tables_->counters[0]; }
  [[nodiscard]] std::uint64_t drops(DropReason reason) const {
    std::uint64_t sum = 0;
    for (const auto& direction : counters().drops) {
      sum += direction[static_cast<std::size_t>(reason)].read();
    }
    return sum;
  }
  [[nodiscard]] std::uint64_t all_drops() const {
    std::uint64_t sum = 0;
    for (const auto& row : dataplane::all_drop_reasons()) sum += drops(row.reason);
    return sum;
  }
  /// received + originated - sent - delivered - dropped - punted - held: 0 when no packet was lost
  /// or made.
  [[nodiscard]] std::int64_t unaccounted() const {
    const std::uint64_t in = counters().received.read() + counters().originated.read() +
                             tables_->main_counters().originated.read();
    const std::uint64_t out =
        counters().sent.read() + counters().delivered.read() + all_drops() + punts_seen + held();
    return static_cast<std::int64_t>(in - out);
  }
  /// Fragments that wait for the rest of their packet.
  [[nodiscard]] std::uint64_t held() const { return worker_->reassembler.held(); }
  /// Buffers that did not come back, but for those.
  [[nodiscard]] std::uint64_t buffers_in_use() const {
    return rte_mempool_in_use_count(pool_) + rte_mempool_in_use_count(large_pool_) - held();
  }

 private:
  static void require(bool claim, const char* what) {
    if (claim) return;
    std::fprintf(stderr, "the test's gateway has no %s\n", what);
    std::abort();
  }
  static std::string wan_of(unsigned family, unsigned site) {
    return (family == 4 ? "198.51.100." : "2001:db8:ffff::") + std::to_string(site);
  }
  static std::string client_of(unsigned family, unsigned site) {
    const std::string x = std::to_string(site);
    return family == 4 ? "10." + x + ".0.5" : "2001:db8:" + x + "::5";
  }
  [[nodiscard]] std::string lan(unsigned family) const {
    const std::string x = std::to_string(site_);
    return family == 4 ? "10." + x + ".0.1" : "2001:db8:" + x + "::1";
  }
  [[nodiscard]] rte_mbuf* to_mbuf(const ByteString& bytes) const {
    rte_mbuf* const packet = rte_pktmbuf_alloc(pool_);
    require(packet != nullptr, "buffer");
    char* const room = rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size()));
    require(room != nullptr, "room in a buffer");
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<std::uint8_t*>(room));
    return packet;
  }

  /// A port whose two directions are one ring: what is fed is received, what is sent stands in it
  /// after the iteration.
  void open_port(const std::string& name, unsigned index) {
    require(rte_eal_hotplug_add("vdev", name.c_str(), "") == 0, "device");
    ports_.push_back(name);
    std::uint16_t port = 0;
    require(rte_eth_dev_get_port_by_name(name.c_str(), &port) == 0, "port");
    const rte_eth_conf configuration{};
    require(rte_eth_dev_configure(port, 1, 1, &configuration) == 0 &&
                rte_eth_rx_queue_setup(port, 0, 512, 0, nullptr, pool_) == 0 &&
                rte_eth_tx_queue_setup(port, 0, 512, 0, nullptr) == 0 &&
                rte_eth_dev_start(port) == 0,
            "started port");
    rte_ring* const wire = rte_ring_lookup(("ETH_RXTX0_" + name).c_str());
    require(wire != nullptr, "wire");
    wires_[index] = wire;
    dataplane::PortInfo info;
    info.dpdk_port = port;
    const ByteString own = mac(static_cast<dataplane::PortId>(index), site_);
    std::copy(own.begin(), own.end(), info.mac.begin());
    auto ports = tables_->ports.copy();
    ports.push_back(info);
    tables_->ports.publish(ports, *tables_->reclaimer);
  }

  void add_route(const std::string& prefix, dataplane::AdjacencyIndex to) {
    require(tables_->fib->add(wire::Prefix::parse(prefix).value(), to).has_value(), "route");
    for (int both_copies = 0; both_copies < 2; ++both_copies) {
      tables_->reclaimer->quiescent(kWorker);
      tables_->reclaimer->poll();
    }
  }
  dataplane::AdjacencyIndex add_neighbor(dataplane::PortId port, const std::string& next_hop,
                                         const ByteString& mac_of) {
    auto& adjacencies = *tables_->adjacencies;
    const auto index = adjacencies.add_neighbor(port, address(next_hop), 1500);
    require(index.has_value(), "adjacency");
    dataplane::MacAddress theirs{};
    std::copy(mac_of.begin(), mac_of.end(), theirs.begin());
    adjacencies.resolve(*index, theirs, tables_->ports[raw(port)].mac);
    add_route(next_hop, *index);
    return *index;
  }
  void add_routes() {
    using dataplane::Adjacencies;
    for (const unsigned family : {4U, 6U}) {
      add_route(wan(family), Adjacencies::kLocal);
      add_route(lan(family), Adjacencies::kLocal);
      add_route(family == 4 ? "198.51.100.0/24" : "2001:db8:ffff::/64",
                tables_->adjacencies->add_glean(kWan, 1500).value());
      add_route(net(family, site_), tables_->adjacencies->add_glean(kLan, 1500).value());
      const auto next = add_neighbor(kWan, peer(family), mac(kWan, peer_site()));
      add_neighbor(kLan, client(family), {2, 0, 0, 0, static_cast<std::uint8_t>(site_), 5});
      add_route(net(family, peer_site()), next);
    }
  }

  void collect() {
    void* element = nullptr;
    for (std::size_t port = 0; port < wires_.size(); ++port) {
      while (rte_ring_sc_dequeue(wires_[port], &element) == 0) {
        sent[port].push_back(take(static_cast<rte_mbuf*>(element)));
      }
    }
    while (rte_ring_sc_dequeue(context_.punt, &element) == 0) {
      auto* const packet = static_cast<rte_mbuf*>(element);
      const dataplane::PuntedPacket what = dataplane::punted(packet);
      punts.push_back({what, take(packet)});
      ++punts_seen;
    }
  }
  static ByteString take(rte_mbuf* packet) {
    const auto* const data = rte_pktmbuf_mtod(packet, const std::uint8_t*);
    ByteString bytes(data, data + packet->data_len);
    rte_pktmbuf_free(packet);
    return bytes;
  }

  unsigned site_;
  rte_mempool* pool_ = nullptr;
  rte_mempool* large_pool_ = nullptr;
  std::unique_ptr<crypto::esp::Engine> engine_;
  std::unique_ptr<dataplane::Tables> tables_;
  dataplane::WorkerContext context_;
  std::unique_ptr<dataplane::WorkerState> worker_;
  std::unique_ptr<dataplane::Burst> burst_;
  std::vector<std::string> ports_;
  std::array<rte_ring*, 2> wires_{};
};

/// The SA of a request as the model wants it.
inline model::EspSa model_of(const channel::InstallSa& sa) {
  const auto key = sa.key.view();
  return {ByteString(key.begin(), key.end()), static_cast<std::uint32_t>(sa.spi), sa.esn};
}

}  // namespace culvert::test
