// The worker threads and the rings between them and the main thread: started, drained, stopped.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "crypto/esp/engine_choice.hpp"
#include "dataplane/worker/worker.hpp"

struct rte_ring;

namespace culvert::dataplane::control {

struct FreeRing {
  void operator()(rte_ring* ring) const;
};
using Ring = std::unique_ptr<rte_ring, FreeRing>;

/// What every worker gets, as in WorkerContext.
struct Equipment {
  rte_mempool* pool;
  rte_mempool* large_pool;
  crypto::esp::EngineMaker make_engine;  ///< of the kind that expands the tables' keys
  config::IdleMode idle;
  int wake_main;  ///< eventfd that workers write
};

struct Drained {
  std::uint64_t packets = 0;  ///< that reached their end after the ports were left
  bool is_all = false;        ///< nothing was on its way any more; false: time was over
};
/// Running workers leave their ports, and go on with what is on its way between them and us until
/// nothing is, for no longer than `patience`. `serve_punts` takes what they hand to the main thread
/// and says how many packets that was; it may inject. Main thread.
Drained drain_workers(std::span<WorkerContext* const> workers,
                      const std::function<std::uint64_t()>& serve_punts,
                      std::chrono::nanoseconds patience);

class Workers {
 public:
  /// Makes rings, engines and contexts; nothing runs yet.
  static std::expected<std::unique_ptr<Workers>, std::string> create(Tables& tables,
                                                                     const Equipment& equipment);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  [[nodiscard]] std::expected<void, std::string> start();
  /// `drain_workers`, of those that run: before `stop`, that as little as can be is lost.
  Drained drain_rings(const std::function<std::uint64_t()>& serve_punts,
                      std::chrono::nanoseconds patience);
  /// Waits for every worker to return.
  void stop();

  /// The ring to the first worker.
  [[nodiscard]] rte_ring* inject_ring() const;
  /// Hands what waits in the rings to the callbacks, what must not wait for the rest first; at most
  /// a bounded number. True: more is left.
  bool drain(const std::function<void(rte_mbuf*)>& punt,
             const std::function<void(const PeerMovedHint&)>& moved);
  /// After `stop`: every packet left in any ring.
  void empty(const std::function<void(rte_mbuf*)>& left_over);
  /// "2", or "0,1" when the worker floats.
  [[nodiscard]] std::string cores_of(std::uint32_t worker) const;
  /// Of its core; none when it floats over cores of several nodes.
  [[nodiscard]] std::optional<std::uint32_t> numa_node_of(std::uint32_t worker) const;

 private:
  struct Lane {
    std::unique_ptr<WorkerContext> context;
    Ring punt, punt_links, punt_peers, punt_newcomers, inject, peer_moved, handoff;
    unsigned int lcore = 0;
  };
  Workers() = default;
  std::expected<void, std::string> add_lane(Tables& tables, const Equipment& equipment,
                                            std::uint16_t worker, unsigned int lcore);

  std::vector<Lane> lanes_;
  std::vector<WorkerContext*> peers_;
  bool running_ = false;
};

}  // namespace culvert::dataplane::control
