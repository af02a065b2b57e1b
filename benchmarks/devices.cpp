// The virtual devices of a case, and what they do without us.
#include <atomic>

#include <rte_bus_vdev.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <sys/mman.h>

#include "benchmarks/clock.hpp"
#include "benchmarks/lcores.hpp"
#include "benchmarks/rig.hpp"

namespace culvert::benchmarks {
namespace {

constexpr std::uint16_t kDescriptors = 1024;
constexpr std::uint16_t kBurst = 64;
/// Beside a capture's own packets: bursts, transmit queues, the pool's caches.
constexpr std::uint32_t kOnTheirWay = 12287;
constexpr std::uint16_t kPacketBytes = 2048;

std::uint16_t open_port(const std::string& name, const std::string& arguments, std::size_t queues,
                        rte_mempool* pool) {
  if (rte_vdev_init(name.c_str(), arguments.c_str()) != 0) give_up("no device " + name);
  std::uint16_t port = 0;
  if (rte_eth_dev_get_port_by_name(name.c_str(), &port) != 0) give_up("no port " + name);
  const rte_eth_conf configuration{};
  const auto count = static_cast<std::uint16_t>(queues);
  bool is_set_up = rte_eth_dev_configure(port, count, count, &configuration) == 0;
  for (std::uint16_t queue = 0; queue < count && is_set_up; ++queue) {
    is_set_up =
        rte_eth_rx_queue_setup(port, queue, kDescriptors, SOCKET_ID_ANY, nullptr, pool) == 0 &&
        rte_eth_tx_queue_setup(port, queue, kDescriptors, SOCKET_ID_ANY, nullptr) == 0;
  }
  if (!is_set_up || rte_eth_dev_start(port) != 0) give_up("cannot start " + name);
  return port;
}

void close_port(std::uint16_t port) {
  char name[RTE_ETH_NAME_MAX_LEN];
  rte_eth_dev_get_name_by_port(port, name);
  rte_eth_dev_stop(port);
  rte_eth_dev_close(port);
  rte_vdev_uninit(name);
}

struct IoLane {
  std::uint16_t source = 0, sink = 0, queue = 0;
  ThreadClock clock;
  std::atomic<bool> stop{false};
  dataplane::Counter sent;
};

int run_io(void* argument) {
  auto& lane = *static_cast<IoLane*>(argument);
  lane.clock.start();
  rte_mbuf* burst[kBurst];
  // Relaxed: a burst later is soon enough.
  while (!lane.stop.load(std::memory_order_relaxed)) {
    const std::uint16_t received = rte_eth_rx_burst(lane.source, lane.queue, burst, kBurst);
    const std::uint16_t sent = rte_eth_tx_burst(lane.sink, lane.queue, burst, received);
    rte_pktmbuf_free_bulk(burst + sent, received - sent);
    lane.sent.add(sent);
  }
  return 0;
}

}  // namespace

std::uint32_t packets_in_memory(const Case& test) {
  return (frames_of(test) + kOnTheirWay) * test.workers;
}

void FreePool::operator()(rte_mempool* pool) const { rte_mempool_free(pool); }

Pool make_pool(std::uint32_t packets) {
  return Pool(rte_pktmbuf_pool_create("packets", packets, 256, dataplane::kPuntPrivateBytes,
                                      kPacketBytes + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY));
}

Pool make_pool_in_ordinary_pages(std::uint32_t packets) {
  constexpr std::uint16_t kRoom = kPacketBytes + RTE_PKTMBUF_HEADROOM;
  constexpr unsigned kElement = sizeof(rte_mbuf) + dataplane::kPuntPrivateBytes + kRoom;
  Pool pool(rte_mempool_create_empty("packets", packets, kElement, 256,
                                     sizeof(rte_pktmbuf_pool_private), SOCKET_ID_ANY,
                                     RTE_MEMPOOL_F_NO_IOVA_CONTIG));
  if (!pool || rte_mempool_set_ops_byname(pool.get(), rte_mbuf_best_mempool_ops(), nullptr) != 0) {
    return nullptr;
  }
  rte_pktmbuf_pool_private about{};
  about.mbuf_data_room_size = kRoom;
  about.mbuf_priv_size = dataplane::kPuntPrivateBytes;
  rte_pktmbuf_pool_init(pool.get(), &about);
  std::size_t least = 0, alignment = 0;
  const ssize_t bytes =
      rte_mempool_op_calc_mem_size_default(pool.get(), packets, 0, &least, &alignment);
  if (bytes <= 0) return nullptr;
  const auto size = static_cast<std::size_t>(bytes);
  void* const memory =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  const auto give_back = [](rte_mempool_memhdr* chunk, void*) {
    ::munmap(chunk->addr, chunk->len);
  };
  // Nothing but the processor looks at these packets: no physical addresses.
  const int made = rte_mempool_populate_iova(pool.get(), static_cast<char*>(memory), RTE_BAD_IOVA,
                                             size, give_back, nullptr);
  if (made < 0) ::munmap(memory, size);
  if (made != static_cast<int>(packets)) return nullptr;
  rte_mempool_obj_iter(pool.get(), rte_pktmbuf_init, nullptr);
  return pool;
}

std::uint32_t pool_mib(std::uint32_t packets) {
  // Buffer, mbuf, the pool's header and padding to whole channels; places in its ring, the
  // source's.
  constexpr std::uint64_t kBytes = kPacketBytes + RTE_PKTMBUF_HEADROOM + sizeof(rte_mbuf) +
                                   dataplane::kPuntPrivateBytes + 256 + 4 * sizeof(void*);
  return static_cast<std::uint32_t>(packets * kBytes >> 20U) + 1;
}

Devices::Devices(const std::vector<std::string>& captures, rte_mempool* pool)
    : queues_(captures.size()) {
  std::string arguments = "infinite_rx=1";
  for (const std::string& capture : captures) arguments += ",rx_pcap=" + capture;
  source_ = open_port("net_pcap0", arguments, queues_, pool);
  sink_ = open_port("net_null0", "no-rx=1", queues_, pool);
}

Devices::~Devices() {
  close_port(source_);
  close_port(sink_);
}

std::vector<double> io_nanoseconds(const Devices& devices, double seconds) {
  std::vector<IoLane> lanes(devices.queues());
  std::vector<Probe> probes;
  for (std::size_t worker = 0; worker < lanes.size(); ++worker) {
    IoLane& lane = lanes[worker];
    lane.source = devices.source();
    lane.sink = devices.sink();
    lane.queue = static_cast<std::uint16_t>(worker);
    probes.push_back({&lane.clock, [&lane] { return lane.sent.read(); }, [] { return 0.0; }});
  }
  return measure_on_lcores(lanes, run_io, probes, seconds);
}

}  // namespace culvert::benchmarks
