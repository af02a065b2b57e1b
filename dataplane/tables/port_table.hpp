// The ports as workers see them. RCU: workers read a snapshot, which is freed a grace period after
// another took its place; single writer: main.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "dataplane/tables/adjacency.hpp"
#include "dataplane/tables/ids.hpp"
#include "wire/vlan.hpp"

namespace culvert::dataplane {

class Reclaimer;

/// A configured interface as workers see it. The VLANs of a device are a port each; one of them is
/// where all of the device's packets are received.
struct PortInfo {
  std::uint16_t dpdk_port = 0;
  std::uint16_t queues = 1;  ///< worker w receives from queue w when w < queues; 0: another port's
  std::uint16_t mtu = 1500;
  MacAddress mac{};
  wire::vlan::Ids vlan;        ///< the tags its frames have on the wire
  bool shares_device = false;  ///< with other ports, or its frames are tagged
  /// False: an interface that was removed. It takes no frame in; what was on its way out yet leaves
  /// as it would have before.
  bool is_used = true;
};

class PortTable {
 public:
  PortTable();
  ~PortTable();  ///< workers have stopped
  PortTable(const PortTable&) = delete;
  PortTable& operator=(const PortTable&) = delete;

  /// Any thread. Valid until the worker's next quiescent state. `port` < kMaxPorts; from `size` on
  /// there is none.
  [[nodiscard]] const PortInfo& operator[](std::size_t port) const { return now().ports[port]; }
  /// Never less than before: a port that has been there may be named by a packet yet.
  [[nodiscard]] std::size_t size() const { return now().count; }

  /// Main thread, or before workers start: these, by PortId, from now on. As many as there are, or
  /// more.
  void publish(const std::vector<PortInfo>& ports, Reclaimer& reclaimer);
  /// Main thread: to change some of them.
  [[nodiscard]] std::vector<PortInfo> copy() const;

 private:
  struct Snapshot {
    std::size_t count = 0;
    std::array<PortInfo, kMaxPorts> ports{};
  };
  // Acquire pairs with the release in `publish`: a snapshot is read as it was completed.
  [[nodiscard]] const Snapshot& now() const { return *now_.load(std::memory_order_acquire); }
  std::atomic<const Snapshot*> now_;
};

}  // namespace culvert::dataplane
