// Many peers of one gateway: commands to all of them, paced, and how long each took; and the
// traffic in their tunnels.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/event_loop.hpp"
#include "tests/load/network.hpp"
#include "tests/load/peer.hpp"
#include "tests/load/traffic.hpp"

namespace culvert::load {

struct FleetOptions {
  std::size_t peers = 100;
  std::string gateway, gateway_id;
  std::string first_address, first_network;  ///< of the first peer; the others count on from there
  std::string gateway_networks;
  std::string host;  ///< behind the gateway, answers echo requests
  std::string psk;
  std::string ike_proposal, esp_proposal;
  bool udp_encapsulation = false;  ///< also without a NAT
  std::chrono::seconds dpd_delay{0}, rekey_time{14400};
};

/// A peer's identity.
[[nodiscard]] std::string name_of(std::size_t number);

/// How a command to all peers went.
struct Outcome {
  std::size_t done = 0, failed = 0;
  double seconds = 0;                   ///< from the first command to the last answer
  std::vector<double> milliseconds;     ///< each that was done, sorted
  std::uint64_t retransmits = 0;        ///< requests sent again
  std::uint64_t refused_by_kernel = 0;  ///< datagrams
  std::map<std::string, std::size_t> failures{};
  std::string first_failure;
};

class Fleet {
 public:
  Fleet(runtime::EventLoop& loop, FleetOptions options);
  std::expected<void, std::string> open();

  /// The same command to peers [from, to), at most `at_once` under way, spread evenly over
  /// `window` (0: as fast as they go). Calls `finished` when all have answered.
  void command(ike::CommandVerb verb, std::size_t from, std::size_t to, std::size_t at_once,
               std::chrono::duration<double> window, std::function<void(const Outcome&)> finished);

  [[nodiscard]] Traffic& traffic() { return traffic_; }

  [[nodiscard]] std::size_t size() const { return peers_.size(); }
  /// SAs that the peers hold, both directions; four a tunnel while a rekeyed pair lingers.
  [[nodiscard]] std::size_t sas() const;
  /// What a machine asked of its data plane and must not have.
  [[nodiscard]] std::vector<std::string> violations() const;

 private:
  void on_ike(const Received& received);
  /// Whose address it came to; one that is no peer's is a number beyond the last one.
  [[nodiscard]] std::size_t peer_of(const Received& received) const;
  void on_done(Peer& peer, const ike::CommandDone& done);
  void on_report(const ike::Report& report);
  void start_more();
  void finish();
  void arm(Peer& peer);
  [[nodiscard]] std::uint64_t retransmits() const;

  runtime::EventLoop& loop_;
  FleetOptions options_;
  std::unique_ptr<crypto::ike::Random> random_;
  /// OpenSSL's, where the gateway has IPsec-MB: neither judges itself.
  std::unique_ptr<crypto::esp::Engine> engine_;
  simulation::Secrets secrets_;
  Peer::Callbacks callbacks_;
  Network network_;
  std::vector<std::unique_ptr<Peer>> peers_;
  Traffic traffic_;
  struct Armed {
    Instant when{};
    runtime::TimerId timer{};
  };
  std::vector<std::optional<Armed>> armed_;
  std::uint32_t first_address_ = 0;

  // The command under way.
  ike::CommandVerb verb_{};
  std::size_t first_ = 0, next_ = 0, end_ = 0, at_once_ = 0, open_ = 0;
  std::chrono::duration<double> window_{};
  Instant began_{};
  std::vector<Instant> asked_;
  std::optional<runtime::TimerId> pacing_;
  std::uint64_t retransmits_before_ = 0, refused_before_ = 0;
  Outcome outcome_;
  std::function<void(const Outcome&)> finished_;
};

}  // namespace culvert::load
