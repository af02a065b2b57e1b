// The gateway as it runs: its parts, in the order in which they are made. gateway.cpp brings it up
// and takes it down, gateway_reload.cpp gives it another configuration.
#pragma once

#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "channel/server.hpp"
#include "config/dataplane_changes.hpp"
#include "dataplane/control/bell.hpp"
#include "dataplane/control/figures.hpp"
#include "dataplane/control/gateway.hpp"
#include "dataplane/control/hardware.hpp"
#include "dataplane/control/interfaces.hpp"
#include "dataplane/control/link_watch.hpp"
#include "dataplane/control/manual_sas.hpp"
#include "dataplane/control/punts.hpp"
#include "dataplane/control/reporter.hpp"
#include "dataplane/control/requests.hpp"
#include "dataplane/control/steering.hpp"
#include "runtime/control_server.hpp"
#include "runtime/privileges.hpp"

namespace culvert::dataplane::control {

/// Main thread.
class RunningGateway final : public Gateway {
 public:
  RunningGateway(config::Config config, runtime::EventLoop& loop)
      : config_(std::move(config)),
        loop_(loop),
        devices_(config::device_texts(config_.dataplane)),
        topology_(config_.dataplane),
        children_(config_) {}
  ~RunningGateway() override { take_down(); }

  std::expected<void, std::string> bring_up();
  void reload(config::LoadResult loaded, const std::string& version) override;
  void stop() override;

 private:
  using Done = std::expected<void, std::string>;
  Done make_run_directory();
  Done make_duties();
  Done make_steering();
  [[nodiscard]] std::vector<Steering::Interface> steered_interfaces() const;
  Done install_configuration(Instant now);
  Done change_tables(const config::Config& wanted, Instant now);
  void take_configuration(config::Config wanted);
  Done open_control();
  Done watch_descriptors();
  Done watch_channel();
  void start_timers();
  /// What became of the packets that were inside.
  struct Ended {
    Drained drained;
    std::uint64_t dropped = 0;
  };
  Ended take_down();
  Drained drain();

  void workers_called();
  void channel_called();
  void scan();
  void neighbors_tick();
  void each_second();
  void watch_links();
  void gather_figures();
  void arm_dummies(Instant now);
  void send_dummies();
  void repeat(Instant interval, void (RunningGateway::*task)());
  void know_peers(Instant now);

  config::Config config_;
  runtime::EventLoop& loop_;
  const std::vector<std::string> devices_;  ///< open since the start
  Topology topology_;
  ChildDirectory children_;
  std::filesystem::path run_directory_;
  runtime::UserIds owner_{};

  std::unique_ptr<Hardware> hardware_;
  std::optional<Interfaces> interfaces_;
  LinkWatch links_;
  Bell bell_;
  std::unique_ptr<channel::Server> channel_;
  std::unique_ptr<Workers> workers_;
  std::optional<Packets> packets_;
  std::optional<Forwarding> forwarding_;
  std::optional<Neighbors> neighbors_;
  std::optional<IcmpSender> icmp_;
  std::optional<IkePath> ike_;
  std::optional<Acquires> acquires_;
  std::unique_ptr<Steering> steering_;
  std::optional<Associations> associations_;
  std::optional<PolicyBook> policies_;
  std::optional<ManualSas> manual_sas_;
  std::optional<Requests> requests_;
  std::optional<Punts> punts_;
  std::optional<Reporter> reporter_;
  std::unique_ptr<runtime::ControlServer> control_;
  std::optional<FigureRounds> figures_;
  std::vector<int> channel_descriptors_;  ///< those the loop watches
  bool running_ = false;
  bool channel_is_due_ = false;   ///< a timer is set for the rest of its requests
  bool dummies_are_due_ = false;  ///< a timer is set for them
  bool is_gathering_ = false;     ///< figures, and a timer is set for more
};

}  // namespace culvert::dataplane::control
