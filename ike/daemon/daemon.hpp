// The key daemon: owns the machine and everything it must not know of (the channel, the clock, the
// control socket, metrics, logs). One thread, one event loop.
#pragma once

#include <expected>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "channel/client.hpp"
#include "config/config.hpp"
#include "crypto/ike/ike_crypto.hpp"
#include "ike/daemon/early_events.hpp"
#include "ike/daemon/fetcher.hpp"
#include "ike/daemon/outbox.hpp"
#include "ike/daemon/recovery.hpp"
#include "ike/daemon/spi_stock.hpp"
#include "ike/identity/certificates.hpp"
#include "ike/identity/expiry_watch.hpp"
#include "ike/identity/pre_shared_keys.hpp"
#include "ike/machine/machine.hpp"
#include "runtime/control_server.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/metrics_endpoint.hpp"
#include "runtime/side_task.hpp"

namespace culvert::ike {

class Daemon {
 public:
  /// Loop, configuration and certificates outlive the daemon, also beyond a reload, which renews
  /// what `certificates` holds; it takes the place of `keys`, which are wiped then.
  Daemon(runtime::EventLoop& loop, const config::Config& configuration,
         std::unique_ptr<PreSharedKeys> keys, Certificates& certificates);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon();

  /// Binds the control socket and the metrics endpoint. The error is a sentence.
  std::expected<void, std::string> bind();
  /// Lists and statuses are fetched through it from now on.
  void use_fetch_helper(channel::Descriptor socket);
  /// Begins to look for the data plane.
  void start();
  /// SIGHUP: reads the file again, beside the loop, and applies it or says in the log why not
  /// (reload.cpp).
  void reload() { reloading_->begin(); }
  /// A file is being read, which the daemon's end waits for.
  [[nodiscard]] bool is_reloading() const { return reloading_ && reloading_->is_under_way(); }

 private:
  enum class Phase : std::uint8_t { disconnected, synchronizing, running };
  /// What is read of another configuration, keys and certificates only where it has no errors.
  struct ForReload {
    config::LoadResult file;
    std::string version;
    std::expected<std::unique_ptr<PreSharedKeys>, std::string> keys;
    std::expected<std::unique_ptr<Certificates>, std::string> certificates;
  };

  void feed_watchdog();
  // reload.cpp
  [[nodiscard]] std::expected<void, std::string> prepare_reload();
  void loaded(const runtime::SideTask::Ended& ended);
  [[nodiscard]] std::string apply(ForReload wanted);
  [[nodiscard]] std::filesystem::path channel_socket() const;
  void connect();
  void connect_again(const std::string& why);
  void greeted();
  void disconnected();
  void disconnect_if_gone();
  void on_channel_readable();
  void handle(const channel::Event& event);
  void handle_completion(const channel::Completion& completion);
  void begin_running();
  void ask_for_spis();
  [[nodiscard]] bool send_own(channel::RequestType type, channel::RequestId id,
                              const channel::LeaseSpis& lease);

  /// Carries out what the machine said, sends what may go, sets the next timer.
  void carry_out();
  void carry_out(SendDatagram& datagram);
  void carry_out(DataplaneRequest& request);
  void carry_out(const Report& report);
  void carry_out(const CommandDone& done);
  void arm_timer();
  void publish_metrics();
  void warn_of_expiry();
  // revocation.cpp
  void warn_of_revocation();
  void refresh_revocation_lists();
  void fetch_due();
  void fetched(std::uint64_t id, const Fetcher::Result& result);

  void handle_verbs();
  void command(CommandVerb verb, const nlohmann::json& args, runtime::Responder responder);
  [[nodiscard]] nlohmann::json status() const;

  runtime::EventLoop& loop_;
  const config::Config* configuration_;  ///< as started, or `reloaded_configuration_`
  std::unique_ptr<config::Config> reloaded_configuration_;
  std::string config_version_;              ///< of what `configuration_` was read from
  bool last_reload_ok_ = true;              ///< or there was none
  const std::vector<std::string> devices_;  ///< of interfaces, as started
  std::unique_ptr<PreSharedKeys> keys_;
  Certificates& certificates_;
  std::unique_ptr<Fetcher> fetcher_;  ///< nullptr: the configuration fetches nothing
  std::unique_ptr<crypto::ike::Random> random_;
  SpiStock spis_;
  bool out_of_spis_ = false;  ///< and said so
  std::unique_ptr<Machine> machine_;
  std::vector<Action> actions_;
  Outbox outbox_;
  Recovery recovery_;

  channel::Descriptor greeting_;  ///< connected, the data plane has not said a word yet
  std::optional<runtime::TimerId> greeting_timer_;
  std::unique_ptr<channel::Client> client_;
  std::uint64_t connects_ = 0;
  ExpiryWatch expiry_;
  Phase phase_ = Phase::disconnected;
  bool machine_started_ = false;
  bool snapshot_complete_ = false;
  bool leased_ = false;  ///< the first lease was answered, if only with a refusal
  EarlyEvents early_;    ///< came before the machine knew the snapshot
  std::string last_connect_error_;

  struct WaitingCommand {
    std::string name;
    runtime::Responder responder;
    runtime::TimerId timeout;
  };
  std::map<CommandId, WaitingCommand> commands_;
  std::uint64_t last_command_ = 0;

  std::unique_ptr<runtime::ControlServer> control_;
  runtime::MetricsSnapshot metrics_;
  std::unique_ptr<runtime::MetricsEndpoint> metrics_endpoint_;
  std::optional<runtime::TimerId> machine_timer_;
  runtime::Instant started_ = runtime::now();
  ForReload for_reload_;  ///< the thread's that reads it
  std::unique_ptr<runtime::SideTask> reloading_;
};

}  // namespace culvert::ike
