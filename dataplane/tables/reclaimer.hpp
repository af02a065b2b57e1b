// Quiescence: what workers may still read is freed only after each of them has reported (RCU by
// rte_rcu_qsbr). Main thread, but for `report`.
#pragma once

#include <atomic>
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
  /// state. Call behind the store that makes unreachable what is freed: a worker that reports
  /// between the two has passed, and may come to it again.
  void retire(std::function<void()> free);
  /// Runs what is due; never waits.
  void poll();
  /// Waits until every worker that is online now has passed a quiescent state: none decides by what
  /// it read before this. Runs nothing.
  void wait();
  /// Waits until everything retired so far has run (shutdown, tests).
  void drain();
  /// What a worker remembers of the tables (a flow's SA and next hop) is out of date. Call after
  /// the change is visible; a policy, a route or an SA's slot that means something else than
  /// before.
  void outdate() {
    // Release pairs with the acquire in `era`. One writer.
    era_.store(era_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
  /// Worker threads, once a burst: what was remembered in this very era still holds. A burst that
  /// began before a change may end with what held then; the grace period covers it.
  [[nodiscard]] std::uint64_t era() const { return era_.load(std::memory_order_acquire); }
  /// For DPDK's tables that wait for quiescence by themselves.
  [[nodiscard]] rte_rcu_qsbr* handle() { return qsbr_.get(); }
  [[nodiscard]] std::size_t pending() const { return waiting_.size(); }

 private:
  struct Waiting {
    std::uint64_t token;
    std::function<void()> free;
  };
  /// Whether each worker that was online at `token` has passed a quiescent state.
  [[nodiscard]] bool is_over(std::uint64_t token, bool waits);
  void free_first();

  std::unique_ptr<rte_rcu_qsbr, void (*)(rte_rcu_qsbr*)> qsbr_;
  std::uint64_t acquired_ = 0;  ///< up to this token every worker's report has been looked at
  std::deque<Waiting> waiting_;
  alignas(64) std::atomic<std::uint64_t> era_{1};
};

}  // namespace culvert::dataplane
