// One far end of a tunnel: its own configuration, the production state machine, a data plane that
// remembers its SAs, and ESP by what that remembers.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tests/load/esp_tunnel.hpp"
#include "tests/simulator/world.hpp"

namespace culvert::load {

using ike::Instant;

class Peer {
 public:
  /// What a peer's doings lead to.
  struct Callbacks {
    std::function<void(const ike::SendDatagram&)> send;
    std::function<void(Peer&, const ike::CommandDone&)> done;
    std::function<void(const ike::Report&)> report;
  };
  /// `secrets`, `random`, `engine` and `callbacks` outlive it.
  Peer(std::size_t number, const simulation::GatewayOptions& options, const ike::Tuning& tuning,
       const ike::SecretSource& secrets, crypto::ike::Random& random, crypto::esp::Engine& engine,
       const Callbacks& callbacks);

  void command(ike::CommandVerb verb, Instant now);
  void on_datagram(const wire::Endpoint& local, const wire::Endpoint& remote, wire::Bytes message,
                   Instant now);
  void on_timer(Instant now);
  [[nodiscard]] std::optional<Instant> next_deadline() const { return machine_->next_deadline(); }

  [[nodiscard]] std::size_t number() const { return number_; }
  [[nodiscard]] const simulation::DataPlane& data_plane() const { return data_plane_; }
  [[nodiscard]] EspTunnel& tunnel() { return tunnel_; }
  [[nodiscard]] ike::MachineCounters counters() const { return machine_->counters(); }

 private:
  void carry_out(Instant now);

  std::size_t number_;
  std::unique_ptr<config::Config> config_;
  simulation::DataPlane data_plane_;
  EspTunnel tunnel_;
  std::unique_ptr<ike::Machine> machine_;
  const Callbacks& callbacks_;
  std::vector<ike::Action> actions_;
  std::uint64_t commands_ = 0;
};

}  // namespace culvert::load
