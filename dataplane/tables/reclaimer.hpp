// Quiescence: what workers may still read is freed only after each of them has reported (RCU by
// rte_rcu_qsbr). Main thread, but for `report`.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "dataplane/tables/ids.hpp"

struct rte_rcu_qsbr;

namespace culvert::dataplane {

class Reclaimer {
 public:
  explicit Reclaimer(std::uint32_t workers);
  ~Reclaimer();  ///< runs what is left; workers have stopped
  Reclaimer(const Reclaimer&) = delete;
  Reclaimer& operator=(const Reclaimer&) = delete;

  /// Worker threads: online before the first read, quiescent once an iteration, offline while
  /// asleep or gone.
  void online(WorkerId worker);
  void quiescent(WorkerId worker);
  void offline(WorkerId worker);

  /// Runs `free` in a later `poll`, when every worker that is online now has passed a quiescent
  /// state.
  void retire(std::function<void()> free);
  /// Runs what is due; never waits.
  void poll();
  /// Waits until everything retired so far has run (shutdown, tests).
  void drain();
  /// For DPDK's tables that wait for quiescence by themselves.
  [[nodiscard]] rte_rcu_qsbr* handle() { return qsbr_.get(); }
  [[nodiscard]] std::size_t pending() const { return waiting_.size(); }

 private:
  struct Waiting {
    std::uint64_t token;
    std::function<void()> free;
  };
  std::unique_ptr<rte_rcu_qsbr, void (*)(rte_rcu_qsbr*)> qsbr_;
  std::deque<Waiting> waiting_;
};

}  // namespace culvert::dataplane
