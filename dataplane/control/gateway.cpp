#include "dataplane/control/gateway.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include "config/config_version.hpp"
#include "dataplane/control/confinement.hpp"
#include "dataplane/control/running_gateway.hpp"
#include "dataplane/control/verbs.hpp"
#include "runtime/log.hpp"
#include "runtime/notify.hpp"

namespace culvert::dataplane::control {
namespace {

using namespace std::chrono_literals;
using Failure = std::unexpected<std::string>;
using Done = std::expected<void, std::string>;

// How often what no descriptor announces is looked at. A scan of expiring SAs and a poll for RCU
// grace take microseconds: 50 a second cost 0.1 % of a core.
constexpr Instant kScanInterval = 20ms;
constexpr Instant kNeighborInterval = 100ms;
constexpr Instant kMetricsInterval = 1s;
/// Between two slices of a round of figures, for what else there is to do.
constexpr Instant kFiguresPause = 5ms;
/// Turns of dummy packets that are nearer to each other are served at once.
constexpr Instant kDummyPause = 2ms;
/// At the end, for what is on its way inside; some milliseconds where workers sleep.
constexpr Instant kDrainPatience = 100ms;

/// Who owns the run directory: the service user when we can give it away, else ourselves.
std::expected<runtime::UserIds, std::string> service_user(const config::Config& config) {
  if (geteuid() != 0) return runtime::UserIds{geteuid(), getegid()};
  return runtime::lookup_user(config.user);
}

/// What the key daemon may record its IKE SAs in: four kilobytes for each pair of SAs, most of them
/// never touched.
std::size_t held_bytes(const config::Limits& limits) {
  constexpr std::size_t kBytesPerSa = 4096, kLeast = 4UL << 20U, kMost = 1UL << 30U;
  return std::clamp(limits.sas * kBytesPerSa, kLeast, kMost);
}

}  // namespace

Done RunningGateway::bring_up() {
  if (auto done = make_run_directory(); !done) return done;
  auto hardware = Hardware::start(config_);
  if (!hardware) return Failure(hardware.error());
  hardware_ = std::move(*hardware);
  interfaces_.emplace(config_.dataplane, *hardware_);

  auto channel = channel::Server::create(
      {run_directory_ / "channel.sock", owner_.uid, held_bytes(config_.dataplane.limits)});
  if (!channel) return Failure(channel.error());
  channel_ = std::move(*channel);
  if (!channel_->held_problem().empty()) {
    runtime::log(runtime::Level::warning, "checkpoint_not_held",
                 {{"why", channel_->held_problem()},
                  {"effect", "a restarted key daemon establishes its tunnels anew"}});
  }
  if (!hardware_->tables->sad->keys_locked()) {
    runtime::log(
        runtime::Level::warning, "keys_not_locked",
        {{"effect", "keys may be swapped out"}, {"remedy", "raise LimitMEMLOCK to infinity"}});
  }
  auto workers = Workers::create(*hardware_->tables, {.pool = hardware_->pool.get(),
                                                      .large_pool = hardware_->large_pool.get(),
                                                      .make_engine = hardware_->engine_choice.make,
                                                      .idle = config_.dataplane.idle,
                                                      .wake_main = bell_.descriptor()});
  if (!workers) return Failure(workers.error());
  workers_ = std::move(*workers);

  if (auto done = make_duties(); !done) return done;
  if (auto done = install_configuration(runtime::now()); !done) return done;
  if (auto done = open_control(); !done) return done;
  // The tables are complete before the first packet comes in.
  if (auto done = hardware_->start_ports(); !done) return done;
  steering_->start();
  if (auto done = workers_->start(); !done) return done;
  running_ = true;
  // Devices, sockets and threads are there; from here on only what forwarding needs.
  if (auto done = confine(config_); !done) return done;
  if (auto done = watch_descriptors(); !done) return done;
  start_timers();
  neighbors_->announce();
  runtime::log(runtime::Level::info, "gateway_started",
               {{"instance", config_.instance},
                {"workers", hardware_->tables->workers},
                {"engine", hardware_->engine->name()},
                {"huge_pages", hardware_->huge_pages},
                {"run_directory", run_directory_.string()}});
  runtime::notify_ready("forwarding on " + std::to_string(config_.dataplane.interfaces.size()) +
                        " interfaces");
  return {};
}

Done RunningGateway::make_run_directory() {
  const auto owner = service_user(config_);
  if (!owner) return Failure(owner.error());
  owner_ = *owner;
  run_directory_ = config::run_directory(config_.instance);
  return runtime::create_run_directory(run_directory_, owner_);
}

Done RunningGateway::make_duties() {
  const Instant now = runtime::now();
  Tables& tables = *hardware_->tables;
  if (bell_.descriptor() < 0) return Failure(std::string("eventfd failed"));
  packets_.emplace(tables, hardware_->pool.get(), workers_->inject_ring());
  forwarding_.emplace(tables);
  neighbors_.emplace(topology_, *tables.spd, *forwarding_, *packets_);
  icmp_.emplace(topology_, *tables.spd, *packets_, now);
  ike_.emplace(topology_, *neighbors_, *packets_, *channel_, *tables.ike_spis, now);
  acquires_.emplace(children_, *packets_, *channel_);
  if (auto done = make_steering(); !done) return done;
  associations_.emplace(tables, topology_, children_, *steering_);
  policies_.emplace(tables, config_, children_);
  manual_sas_.emplace(tables, *associations_, *policies_);
  requests_.emplace(tables, *associations_, *policies_, *acquires_, *channel_);
  punts_.emplace(*packets_, *neighbors_, *icmp_, *ike_, *acquires_, *associations_, *channel_, now);
  reporter_.emplace(
      Reporter::Sources{config_, tables, *interfaces_, *workers_, *channel_, topology_, children_,
                        *associations_, *policies_, *neighbors_, *steering_, &*acquires_},
      *hardware_, now);
  neighbors_->on_unreachable(
      [this](const NeighborKey&, const Packet& packet, const PuntedPacket& origin) {
        icmp_->report(IcmpErrorKind::host_unreachable, 0, packet, origin, runtime::now());
      });
  return {};
}

Done RunningGateway::make_steering() {
  const Tables& tables = *hardware_->tables;
  auto steering = Steering::create(steered_interfaces(), tables.workers, tables.sad->slots());
  if (!steering) return Failure(steering.error());
  steering_ = std::move(*steering);
  return {};
}

/// By PortId, those that were interfaces among them.
std::vector<Steering::Interface> RunningGateway::steered_interfaces() const {
  const PortDirectory& directory = interfaces_->directory();
  std::vector<Steering::Interface> steered;
  for (std::size_t index = 0; index < directory.size(); ++index) {
    const auto port = static_cast<PortId>(index);
    const auto at = directory.interface_of(port);
    steered.push_back({interfaces_->device_of(port).dpdk_port(), directory[port].vlan,
                       at ? config_.dataplane.interfaces[*at].name : std::string("removed")});
  }
  return steered;
}

/// Policies before anything else: from the first packet on, nothing that a child protects leaves in
/// clear, whether the key daemon is there or not (docs/decisions/0001).
Done RunningGateway::install_configuration(Instant now) {
  policies_->publish();
  if (auto done = forwarding_->install(topology_); !done) return done;
  neighbors_->topology_changed(now);
  auto plan = manual_sas_->plan(config_);
  if (!plan) return Failure(plan.error());
  if (auto done = manual_sas_->apply(config_, *std::move(plan), now); !done) return done;
  if (!config_.manual_sas.empty()) policies_->publish([this] { manual_sas_->begin_numbers(); });
  know_peers(now);
  reporter_->configuration_changed(config::config_version(config_.file));
  return {};
}

void RunningGateway::know_peers(Instant now) {
  std::vector<wire::IpAddress> peers;
  ike_->know_no_peer();
  for (const config::Connection& connection : config_.connections) {
    if (!connection.remote.address) continue;
    ike_->know_peer(*connection.remote.address, now);
    peers.push_back(*connection.remote.address);
  }
  for (const config::ManualSa& sa : config_.manual_sas) peers.push_back(sa.remote);
  hardware_->tables->peers.publish(std::move(peers), *hardware_->tables->reclaimer);
}

Done RunningGateway::open_control() {
  auto control =
      runtime::ControlServer::create(run_directory_ / "dataplane.sock", 0600, owner_.uid);
  if (!control) return Failure(control.error());
  control_ = std::move(*control);
  register_verbs(*control_, *reporter_);
  figures_.emplace(
      *associations_, children_,
      [this](Figures& figures) {
        figures.status = reporter_->gateway(runtime::now());
        figures.drops = reporter_->drops(true);
      },
      &*acquires_);
  return figures_->listen(config_.metrics.listen);
}

Done RunningGateway::watch_descriptors() {
  if (auto done = loop_.add(bell_.descriptor(), [this] { workers_called(); }); !done) return done;
  if (auto done = loop_.add(control_->descriptor(), [this] { control_->poll(); }); !done) {
    return done;
  }
  return watch_channel();
}

/// The channel's descriptors change when a key daemon comes or goes.
Done RunningGateway::watch_channel() {
  const auto wanted = channel_->descriptors();
  for (const int descriptor : channel_descriptors_) {
    if (std::ranges::find(wanted, descriptor) == wanted.end()) loop_.remove(descriptor);
  }
  for (const int descriptor : wanted) {
    if (auto done = loop_.add(descriptor, [this] { channel_called(); }); !done) return done;
  }
  channel_descriptors_.assign(wanted.begin(), wanted.end());
  return {};
}

void RunningGateway::start_timers() {
  repeat(kScanInterval, &RunningGateway::scan);
  repeat(kNeighborInterval, &RunningGateway::neighbors_tick);
  repeat(kMetricsInterval, &RunningGateway::each_second);
}

void RunningGateway::repeat(Instant interval, void (RunningGateway::*task)()) {
  loop_.set_timer(runtime::now() + interval, [this, interval, task] {
    if (!running_) return;
    (this->*task)();
    repeat(interval, task);
  });
}

void RunningGateway::workers_called() {
  // Silence first: what is put into a ring from now on rings again.
  bell_.silence();
  const Instant now = runtime::now();
  const bool more =
      workers_->drain([&](rte_mbuf* packet) { punts_->arrived(packet, now); },
                      [&](const PeerMovedHint& hint) { punts_->peer_moved(hint, now); });
  channel_->flush();
  if (more)
    loop_.set_timer(now, [this] {
      if (running_) workers_called();
    });
}

void RunningGateway::channel_called() {
  const Instant now = runtime::now();
  if (channel_->poll()) {
    requests_->peer_changed(now);
    if (auto done = watch_channel(); !done) {
      runtime::log(runtime::Level::error, "channel_not_watched", {{"error", done.error()}});
    }
  }
  const auto pause = requests_->handle_waiting(now);
  ike_->send_waiting(now);
  channel_->flush();
  // One timer, however often somebody calls meanwhile.
  if (!pause || std::exchange(channel_is_due_, true)) return;
  loop_.set_timer(now + *pause, [this] {
    channel_is_due_ = false;
    if (running_) channel_called();
  });
}

void RunningGateway::scan() {
  // Some milliseconds after a reload: no worker seals by the policies before it any more.
  manual_sas_->remove_replaced();
  const Instant now = runtime::now();
  associations_->scan(*channel_, now);
  arm_dummies(now);
  hardware_->tables->reclaimer->poll();
  associations_->steer_some();
  steering_->work();
  channel_called();
  workers_called();
}

/// A timer of their own, where any SA sends them: at the next turn, so that they are spaced evenly.
void RunningGateway::arm_dummies(Instant now) {
  const auto next = associations_->next_dummy();
  if (!next || dummies_are_due_) return;
  dummies_are_due_ = true;
  // Of an SA that comes meanwhile the first turn may be before.
  const Instant when = std::clamp<Instant>(*next, now + kDummyPause, now + kScanInterval);
  loop_.set_timer(when, [this] {
    dummies_are_due_ = false;
    if (running_) send_dummies();
  });
}

void RunningGateway::send_dummies() {
  const Instant now = runtime::now();
  associations_->send_dummies(*packets_, now);
  arm_dummies(now);
}

void RunningGateway::neighbors_tick() {
  const Instant now = runtime::now();
  neighbors_->tick(now);
  acquires_->tick(now);
  associations_->expire_path_mtus(now);
}

void RunningGateway::each_second() {
  runtime::notify_watchdog();
  reporter_->take_cycles();
  watch_links();
  if (!is_gathering_) gather_figures();
}

void RunningGateway::watch_links() {
  const auto& configured = config_.dataplane.interfaces;
  for (std::size_t index = 0; index < configured.size(); ++index) {
    const PortId port = interfaces_->directory().ports()[index];
    const bool is_up = interfaces_->device_of(port).link_is_up();
    if (!links_.is_news(configured[index].name, is_up)) continue;
    runtime::log(is_up ? runtime::Level::info : runtime::Level::warning, "link_changed",
                 {{"interface", configured[index].name}, {"link", is_up ? "up" : "down"}});
  }
}

/// With few SAs it is one turn; with many each is short, and the next round begins in the second
/// after the end of this.
void RunningGateway::gather_figures() {
  is_gathering_ = !figures_->work();
  if (!is_gathering_) return;
  loop_.set_timer(runtime::now() + kFiguresPause, [this] {
    if (running_) gather_figures();
  });
}

void RunningGateway::stop() {
  runtime::notify_stopping();
  const Ended ended = take_down();
  runtime::log(runtime::Level::info, "gateway_stopped",
               {{"drained", ended.drained.packets}, {"dropped", ended.dropped}});
}

/// What came in before the end goes out, when nothing outside has to happen for it.
Drained RunningGateway::drain() {
  const auto serve_punts = [this] {
    const Instant now = runtime::now();
    std::uint64_t served = 0;
    const auto serve = [&] {
      return workers_->drain(
          [&](rte_mbuf* packet) {
            punts_->arrived(packet, now);
            ++served;
          },
          [&](const PeerMovedHint& hint) { punts_->peer_moved(hint, now); });
    };
    while (serve()) {
    }
    channel_->flush();
    return served;
  };
  return workers_->drain_rings(serve_punts, kDrainPatience);
}

/// 1. no more events; 2. no more from the ports, and what is inside is brought to its end; 3. the
/// workers; 4. what waits still is dropped, counted; 5. ports, and before them the rules that they
/// have; the rest goes with the members, tables with their keys before packet memory and DPDK.
RunningGateway::Ended RunningGateway::take_down() {
  if (!hardware_) return {};
  Ended ended;
  if (running_) {
    loop_.remove(bell_.descriptor());
    loop_.remove(control_->descriptor());
    for (const int descriptor : channel_descriptors_) loop_.remove(descriptor);
  }
  if (figures_) figures_->close();
  if (running_) ended.drained = drain();
  running_ = false;
  if (workers_) workers_->stop();
  if (neighbors_) neighbors_->stop();
  if (acquires_) acquires_->stop();
  if (workers_ && packets_) {
    workers_->empty([&](rte_mbuf* packet) {
      packets_->drop(Packet(packet), DropDirection::local, DropReason::shutting_down);
    });
  }
  if (reporter_) ended.dropped = reporter_->dropped(DropReason::shutting_down);
  if (steering_) steering_->stop();
  for (const auto& port : hardware_->ports) port->stop();
  control_.reset();
  channel_.reset();
  workers_.reset();
  hardware_.reset();
  return ended;
}

std::expected<std::unique_ptr<Gateway>, std::string> Gateway::start(config::Config config,
                                                                    runtime::EventLoop& loop) {
  auto gateway = std::make_unique<RunningGateway>(std::move(config), loop);
  if (auto done = gateway->bring_up(); !done) return Failure(done.error());
  return gateway;
}

}  // namespace culvert::dataplane::control
