#include "dataplane/ports/packet_pool.hpp"

#include <algorithm>

#include <rte_errno.h>
#include <rte_mbuf.h>

namespace culvert::dataplane::ports {
namespace {

constexpr std::uint32_t kDescriptorsPerQueuePair = 2048;
/// Bursts in work, rings to and from the main thread, ESP that waits for its SA.
constexpr std::uint32_t kPerWorker = 3072;
constexpr std::uint32_t kWaiting = 4096;  ///< held for neighbours, for SAs, for the key daemon
constexpr std::uint32_t kCache = 256;     ///< buffers a thread keeps at hand

// Behind the packet: ESP padding, pad length, next header and ICV (at most 15 + 2 + 32 bytes), the
// Ethernet header and two VLAN tags in front are counted too.
constexpr std::uint32_t kRoomAroundPacket = 128;

}  // namespace

std::uint32_t packets_in_flight(std::uint32_t ports, std::uint32_t workers) {
  return ports * workers * kDescriptorsPerQueuePair + workers * kPerWorker + kWaiting;
}

std::uint16_t buffer_bytes(std::uint16_t largest_mtu) {
  constexpr std::uint32_t kSmallest = RTE_MBUF_DEFAULT_DATAROOM;
  const std::uint32_t room = std::max(kSmallest, largest_mtu + kRoomAroundPacket);
  return static_cast<std::uint16_t>(
      std::min<std::uint32_t>(RTE_ALIGN_CEIL(room, 64U) + RTE_PKTMBUF_HEADROOM, UINT16_MAX - 63));
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
                                                        std::uint16_t private_bytes) {
  const std::uint32_t count =
      packets_in_flight(static_cast<std::uint32_t>(dataplane.interfaces.size()), workers);
  rte_mempool* const pool = rte_pktmbuf_pool_create("culvert_packets", count, kCache, private_bytes,
                                                    buffer_bytes(largest_mtu(dataplane)),
                                                    static_cast<int>(SOCKET_ID_ANY));
  if (pool == nullptr) {
    return std::unexpected("no memory for " + std::to_string(count) + " packets (" +
                           rte_strerror(rte_errno) + "); raise dataplane.memory");
  }
  return PacketPool(pool);
}

}  // namespace culvert::dataplane::ports
