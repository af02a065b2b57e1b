#include "dataplane/ports/packet_pool.hpp"

#include <algorithm>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>

#include "dataplane/ports/eal_arguments.hpp"
#include "dataplane/ports/memory_remedy.hpp"
#include "dataplane/ports/packet_holders.hpp"
#include "dataplane/worker/stages.hpp"
#include "runtime/log.hpp"

namespace culvert::dataplane::ports {
namespace {

/// A cache may have half as many more (CACHE_FLUSHTHRESH_MULTIPLIER) before it gives any back.
constexpr std::uint32_t kCache = 256, kMostInCache = kCache * 3 / 2;

// Whoever can fill one of these can fill others at the same time: were one not counted, a flood
// that fills it would leave no buffer to receive what is not the flood.
/// Both queues' descriptors, what waits to be sent, and what a driver has given already.
constexpr std::uint32_t kPerQueuePair =
    2 * std::uint32_t{kDescriptors} + TransmitQueue::kCapacity + HeldFrames::kLeastAsked;
/// ESP that waits for its SA, fragments that wait for others, pieces of what was cut, the burst in
/// hand and what it has given back.
constexpr std::uint32_t kPerWorker = kRingPackets + EarlyPackets::kSas * EarlyQueue::kCapacity +
                                     Reassembler::kBuffers + PendingPackets::kMost + kBurstPackets +
                                     kMostGivenBack + kMostInCache;
constexpr std::uint32_t kOfMainThread =
    kHeldForNeighbors + kUnresolvedNeighbors + kHeldForSas + kDrainedAtOnce + kMostInCache;

// Behind the packet: ESP padding, pad length, next header and ICV (at most 15 + 2 + 32 bytes), the
// Ethernet header and two VLAN tags in front are counted too. And what is around a packet of this
// MTU when it comes by ESP in fragments: IPv6, UDP, ESP's header and IV, and the room for the same
// again.
constexpr std::uint32_t kRoomAroundPacket = 256;

constexpr int kAnyNode = static_cast<int>(SOCKET_ID_ANY);

/// As rte_pktmbuf_pool_create does it, which takes no flags. By itself DPDK keeps a buffer within
/// one page, for a device that reads it at one physical address: of ordinary pages, 4 KiB, each
/// then holds one buffer of 2.4. Where the processor alone touches buffers they lie side by side.
/// `cache`: buffers a thread keeps at hand.
PacketPool create(const char* name, std::uint32_t count, std::uint32_t cache,
                  std::uint16_t private_bytes, std::uint16_t room, bool processor_only,
                  int numa_node) {
  PacketPool pool(rte_mempool_create_empty(
      name, count, static_cast<unsigned>(sizeof(rte_mbuf)) + private_bytes + unsigned{room}, cache,
      sizeof(rte_pktmbuf_pool_private), numa_node,
      processor_only ? RTE_MEMPOOL_F_NO_IOVA_CONTIG : 0));
  if (pool == nullptr) return nullptr;
  const int error = rte_mempool_set_ops_byname(pool.get(), rte_mbuf_best_mempool_ops(), nullptr);
  if (error != 0) {
    rte_errno = -error;
    return nullptr;
  }
  rte_pktmbuf_pool_private about{};
  about.mbuf_data_room_size = room;
  about.mbuf_priv_size = private_bytes;
  rte_pktmbuf_pool_init(pool.get(), &about);
  if (const int made = rte_mempool_populate_default(pool.get()); made < 0) {
    rte_errno = -made;
    return nullptr;
  }
  rte_mempool_obj_iter(pool.get(), rte_pktmbuf_init, nullptr);
  return pool;
}

bool has_packet_sockets_only(const config::Dataplane& dataplane) {
  return std::ranges::all_of(dataplane.interfaces, is_packet_socket, &config::Interface::device);
}

/// On the node where it has the memory, else on any.
template <typename MakeOn>
PacketPool near(std::optional<std::uint32_t> numa_node, MakeOn make_on) {
  PacketPool pool = make_on(numa_node ? static_cast<int>(*numa_node) : kAnyNode);
  if (pool == nullptr && numa_node) pool = make_on(kAnyNode);
  return pool;
}

std::unexpected<std::string> no_memory(std::uint32_t packets) {
  return std::unexpected("no memory for " + std::to_string(packets) + " packets (" +
                         rte_strerror(rte_errno) + "); " + memory_remedy());
}

}  // namespace

std::uint32_t packets_in_flight(std::uint32_t ports, std::uint32_t workers) {
  return ports * workers * kPerQueuePair + workers * kPerWorker + kOfMainThread;
}

std::uint16_t buffer_bytes(std::uint16_t largest_mtu) {
  constexpr std::uint32_t kSmallest = RTE_MBUF_DEFAULT_DATAROOM;
  const std::uint32_t room = std::max(kSmallest, largest_mtu + kRoomAroundPacket);
  return static_cast<std::uint16_t>(
      std::min<std::uint32_t>(RTE_ALIGN_CEIL(room, 64U) + RTE_PKTMBUF_HEADROOM, UINT16_MAX - 63));
}

std::uint16_t largest_in_buffers(std::uint16_t buffer_bytes) {
  constexpr std::uint32_t kNotForPacket = RTE_PKTMBUF_HEADROOM + kRoomAroundPacket;
  return static_cast<std::uint16_t>(std::max<std::uint32_t>(buffer_bytes, kNotForPacket) -
                                    kNotForPacket);
}

std::uint16_t largest_mtu(const config::Dataplane& dataplane) {
  std::uint16_t largest = 0;
  for (const config::Interface& interface : dataplane.interfaces) {
    largest = std::max(largest, interface.mtu);
  }
  return largest;
}

void FreePool::operator()(rte_mempool* pool) const { rte_mempool_free(pool); }

std::expected<PacketPool, std::string> make_packet_pool(const config::Dataplane& dataplane,
                                                        std::uint32_t workers,
                                                        std::uint16_t private_bytes,
                                                        std::optional<std::uint32_t> numa_node) {
  const std::uint32_t count =
      packets_in_flight(static_cast<std::uint32_t>(dataplane.interfaces.size()), workers);
  const auto on = [&](int node) {
    return create("culvert_packets", count, kCache, private_bytes,
                  buffer_bytes(largest_mtu(dataplane)), has_packet_sockets_only(dataplane), node);
  };
  PacketPool pool = near(numa_node, on);
  if (pool == nullptr) return no_memory(count);
  return pool;
}

std::expected<PacketPool, std::string> make_large_pool(const config::Dataplane& dataplane,
                                                       std::uint16_t private_bytes,
                                                       std::optional<std::uint32_t> numa_node) {
  const bool processor_only = has_packet_sockets_only(dataplane);
  // What was padded to hide its size leaves from where it was opened.
  if (!processor_only && rte_eal_has_hugepages() == 0 && rte_eal_iova_mode() == RTE_IOVA_PA) {
    runtime::log(runtime::Level::warning, "fragments_limited",
                 {{"reason", "ordinary pages at physical addresses hold no large buffers"},
                  {"effect", "fragments for the gateway become no packet larger than a frame"},
                  {"remedy", "reserve huge pages (vm.nr_hugepages)"}});
    return PacketPool();
  }
  // No thread keeps any at hand: they are few, and each is for whoever needs it.
  PacketPool pool = near(numa_node, [&](int node) {
    return create("culvert_large_packets", kLargeBuffers, 0, private_bytes, kLargeBufferBytes,
                  processor_only, node);
  });
  if (pool == nullptr) return no_memory(kLargeBuffers);
  return pool;
}

}  // namespace culvert::dataplane::ports
