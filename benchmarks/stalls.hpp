// What a worker feels of changes: its iterations, timed one by one, while another thread changes
// policies, SAs and routes as the main thread does.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/workload.hpp"
#include "dataplane/tables/tables.hpp"
#include "dataplane/worker/worker.hpp"

struct rte_ring;

namespace culvert::dataplane {
class WorkerState;
struct Burst;
}  // namespace culvert::dataplane

namespace culvert::benchmarks {

/// How alike policies are: 2 shapes, or 351 by prefix lengths, ports and protocols; with those of
/// the other direction twice as many. A search costs a probe for each
/// (docs/decisions/0010-policies-by-shape.md).
enum class Shapes : std::uint8_t { few, many };

/// What the main thread does to the tables, in turns; `none` is what the others are compared with.
enum class Change : std::uint8_t {
  none,
  policy_more,         ///< a policy that no packet of the traffic meets
  policy_less,         ///< the same one
  policy_in_front,     ///< one that a burst's first flow meets from now on
  policy_from_front,   ///< the same one
  rekey,               ///< new SAs both ways, the policy switched, the old outbound SA deleted
  inbound_sa_less,     ///< the new inbound SA
  peer_moved,          ///< an SA's outer addresses are set anew
  path_mtu,            ///< of an SA
  route_more,          ///< to somewhere else
  route_less,          ///< the same one
  next_hop,            ///< of all the traffic
  all_policies_again,  ///< the list is built anew and swapped, as by a reload
};
inline constexpr std::size_t kChangeKinds = 13;
[[nodiscard]] const char* to_string(Change change);

/// A worker's iterations in the wake of one change, or of those that are made at once: from the one
/// that it falls in to the last one in which a flow may be met for the first time since.
struct Wake {
  double longest = 0;        ///< seconds of the worker's processor time that an iteration took
  double longest_there = 0;  ///< the same by the clock on the wall: with what others ran meanwhile
  double seconds = 0;        ///< of the worker's processor time, all of them
  std::uint32_t waits = 0;   ///< times that the worker gave up its processor by itself
  std::uint32_t faults = 0;  ///< pages that the kernel had to bring
};

struct StallSettings {
  std::uint32_t policies = 100'000;
  Shapes shapes = Shapes::few;
  std::uint32_t flows = 256;   ///< each way, each of an SA and a policy of its own
  double seconds_between = 0;  ///< changes begin so far apart, or later; 0: at once
  std::uint32_t at_once = 1;   ///< changes of one wake, made in a row
  // What a test does to see that a pause would be seen.
  std::function<void(Change)> beside_change;  ///< after each
  std::function<void()> in_iteration;         ///< timed with it
};

/// DPDK's environment with the two ports that a rig wants: once a process.
void start_stall_environment();

/// A gateway's tables, one worker with full bursts from both sides, and the changes.
class StallRig {
 public:
  explicit StallRig(const StallSettings& settings);
  ~StallRig();
  StallRig(const StallRig&) = delete;
  StallRig& operator=(const StallRig&) = delete;

  /// Changes of these kinds in turns, so many of each, the worker at work beside them; their wakes
  /// in the order of the changes, `at_once` of them a wake. The same every time: what a change
  /// costs can be told from what the machine did meanwhile by the least of several rounds. A wake
  /// lasts until all flows are met again, and `least_seconds` of the worker's processor time: the
  /// longer, the more of it is disturbed by others, with or without a change. Ends the program when
  /// the traffic lost a packet.
  [[nodiscard]] std::vector<Wake> round(const std::vector<Change>& kinds, std::uint32_t of_each,
                                        double least_seconds = 0);
  /// Every iteration of the last round, seconds of the worker's processor time.
  [[nodiscard]] const std::vector<float>& iterations() const { return times_; }

 private:
  /// What the kernel knows of the calling thread.
  struct Kernel {
    long waits = 0, faults = 0;
    static Kernel now();
  };
  void make_tables();
  void make_traffic();
  void make_worker();
  [[nodiscard]] dataplane::PolicyEntry policy_of(std::uint32_t number) const;
  [[nodiscard]] dataplane::PolicyEntry other_policy(std::uint32_t number) const;

  // The thread that changes.
  void change(Change kind, std::uint32_t number);
  void rekey(std::uint32_t sa);
  void change_next_hop();
  void wait_for_wake(std::uint64_t begun_at, double least_seconds);

  // The worker's thread.
  void serve();
  void feed(std::size_t burst);
  [[nodiscard]] bool is_left(std::uint16_t port) const;
  void serve_once(std::uint64_t number);
  void give_back_sent();
  void reset_windows(std::size_t burst);
  void check_drops() const;

  StallSettings settings_;
  Case out_, in_;
  std::unique_ptr<crypto::esp::Engine> engine_;
  std::unique_ptr<dataplane::Tables> tables_;
  std::vector<dataplane::PolicyEntry> all_policies_;
  std::vector<channel::SaId> outbound_;
  std::vector<channel::Spi> spis_;
  channel::SaId spare_inbound_{};
  std::uint64_t next_sa_ = 1;
  dataplane::AdjacencyIndex next_hop_{};
  std::array<std::vector<Frame>, 2> frames_;  ///< by port
  std::vector<std::uint32_t> sa_of_frame_;

  std::array<rte_ring*, 4> rings_{};
  dataplane::WorkerContext context_;
  dataplane::WorkerContext* peers_[1] = {&context_};
  std::unique_ptr<dataplane::WorkerState> worker_;
  std::unique_ptr<dataplane::Burst> burst_;
  std::vector<float> times_;
  Kernel kernel_before_;
  std::vector<Wake> wakes_;               ///< the worker's while it serves
  std::atomic<std::uint32_t> begun_{0};   ///< changes
  std::atomic<double> in_wake_{0};        ///< seconds of the last one's wake
  std::atomic<std::uint64_t> rounds_{0};  ///< full bursts from both sides that are done
  std::atomic<bool> stop_{false};
  /// While the next list is being built: the one that workers have until it is done.
  std::atomic<const dataplane::SpdSnapshot*> list_until_swap_{nullptr};
};

}  // namespace culvert::benchmarks
