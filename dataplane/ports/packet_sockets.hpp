// The packet sockets behind a net_af_packet device, as far as its driver does not tell of them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace culvert::dataplane::ports {

/// What the kernel had no room for in the rings of packet sockets. DPDK 22.11's driver does not
/// count it. Main thread.
class PacketSockets {
 public:
  PacketSockets() = default;
  /// Those of this process that are bound to the interface of this index. They stay the driver's,
  /// and open longer than this is used.
  explicit PacketSockets(std::uint32_t interface_index);

  /// Packets since the last call: the kernel counts anew from each (packet(7), PACKET_STATISTICS).
  [[nodiscard]] std::uint64_t take_dropped() const;
  /// Bytes of IP packet that the kernel's interface takes; nullopt: it does not tell.
  [[nodiscard]] std::optional<std::uint16_t> kernel_mtu() const;
  /// Whether the kernel's interface has a link; nullopt: it does not tell. The driver says up,
  /// whatever the kernel knows.
  [[nodiscard]] std::optional<bool> has_link() const;

 private:
  std::vector<int> sockets_;
  std::uint32_t interface_index_ = 0;
};

}  // namespace culvert::dataplane::ports
