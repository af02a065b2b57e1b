// The addresses of configured peers as workers see them: their IKE keeps its place in the ring to
// the main thread. RCU: workers read a list, which is freed a grace period after another took its
// place; single writer: main.
#pragma once

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "dataplane/tables/reclaimer.hpp"
#include "wire/ip_address.hpp"

namespace culvert::dataplane {

class PeerAddresses {
 public:
  PeerAddresses() : now_(new List) {}
  ~PeerAddresses() { delete now_.load(std::memory_order_relaxed); }  ///< workers have stopped
  PeerAddresses(const PeerAddresses&) = delete;
  PeerAddresses& operator=(const PeerAddresses&) = delete;

  /// Any thread.
  [[nodiscard]] bool contains(const wire::IpAddress& address) const {
    // Acquire pairs with the release in `publish`: a list is read as it was completed.
    return std::ranges::binary_search(*now_.load(std::memory_order_acquire), address);
  }
  /// Main thread, or before workers start: these from now on.
  void publish(std::vector<wire::IpAddress> peers, Reclaimer& reclaimer) {
    std::ranges::sort(peers);
    const List* const before = now_.exchange(new List(std::move(peers)), std::memory_order_acq_rel);
    reclaimer.retire([before] { delete before; });
  }

 private:
  using List = std::vector<wire::IpAddress>;
  std::atomic<const List*> now_;
};

}  // namespace culvert::dataplane
