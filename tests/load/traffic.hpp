// Echo requests through the tunnels of many peers at a steady rate, the answers counted; what the
// peers' machines do to their SAs meanwhile is theirs.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/event_loop.hpp"
#include "tests/load/ledger.hpp"
#include "tests/load/network.hpp"
#include "tests/load/peer.hpp"

namespace culvert::load {

inline constexpr double kMostPacketsPerSecond = 100'000;

class Traffic {
 public:
  using Peers = std::vector<std::unique_ptr<Peer>>;
  /// All outlive it. `host` answers echo requests; `first_network`: the address of the first peer's
  /// network, the others' count on from there.
  Traffic(runtime::EventLoop& loop, Network& network, const Peers& peers, wire::IpAddress host,
          std::uint32_t first_network);

  /// One peer of [from, to) after the other, `per_second` packets in all; forgets what was before.
  void start(std::size_t from, std::size_t to, double per_second);
  /// Sends no more, waits for what is under way for as long as `grace`, then calls.
  void stop(Instant grace, std::function<void()> finished);
  void on_esp(std::size_t peer, wire::Bytes esp);

  [[nodiscard]] const Ledger& ledger() const { return ledger_; }
  [[nodiscard]] Instant began() const { return began_; }
  [[nodiscard]] double seconds() const;  ///< from the start to the last packet sent
  /// Since the start, IKE's among them.
  [[nodiscard]] std::uint64_t refused_by_kernel() const { return network_.refused() - refused_; }
  [[nodiscard]] std::uint64_t overrun_in_kernel() const { return network_.overrun() - overrun_; }

 private:
  void send_what_is_due();
  void send_one();
  void wait_for_answers();
  [[nodiscard]] wire::IpAddress address_of(std::size_t peer) const;

  runtime::EventLoop& loop_;
  Network& network_;
  const Peers& peers_;
  wire::IpAddress host_;
  std::uint32_t first_network_;
  Ledger ledger_;

  std::size_t first_ = 0, next_ = 0, end_ = 0;
  Instant period_{}, due_{}, began_{}, last_sent_{}, gives_up_{};
  std::optional<runtime::TimerId> timer_;
  std::uint64_t refused_ = 0, overrun_ = 0;
  std::function<void()> finished_;
};

}  // namespace culvert::load
