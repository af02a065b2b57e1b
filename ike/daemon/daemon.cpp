#include "ike/daemon/daemon.hpp"

#include <algorithm>
#include <utility>

#include <unistd.h>

#include "config/config_version.hpp"
#include "config/dataplane_changes.hpp"
#include "ike/daemon/local_address.hpp"
#include "ike/daemon/log_event.hpp"
#include "ike/daemon/metrics.hpp"
#include "ike/daemon/status.hpp"
#include "runtime/log.hpp"
#include "runtime/notify.hpp"
#include "runtime/privileges.hpp"

namespace culvert::ike {
namespace {

using namespace std::chrono_literals;

/// The daemon's own requests have the top bit set; the machine counts from 1.
constexpr auto kLeaseRequest = channel::RequestId{(1ULL << 63) | 1U};
constexpr auto kSnapshotRequest = channel::RequestId{(1ULL << 63) | 2U};

constexpr auto kReconnectInterval = 100ms;
constexpr auto kGreetingTimeout = 2s;
constexpr auto kMetricsInterval = 1s;
constexpr auto kExpiryInterval = 1h;
/// Messages taken from each ring in one turn, so that the control socket and timers get theirs.
constexpr int kMessagesPerTurn = 256;

channel::Datagram to_ring(const SendDatagram& datagram) {
  channel::Datagram slot;
  slot.local = datagram.local;
  slot.remote = datagram.remote;
  slot.keepalive = datagram.keepalive;
  slot.ike_spi = datagram.ike_spi;
  slot.length = static_cast<std::uint32_t>(datagram.bytes.size());
  std::ranges::copy(datagram.bytes, slot.bytes.begin());
  return slot;
}

}  // namespace

Daemon::Daemon(runtime::EventLoop& loop, const config::Config& configuration,
               std::unique_ptr<PreSharedKeys> keys, Certificates& certificates)
    : loop_(loop),
      configuration_(&configuration),
      config_version_(config::config_version(configuration.file)),
      devices_(config::device_texts(configuration.dataplane)),
      keys_(std::move(keys)),
      certificates_(certificates),
      random_(crypto::ike::make_system_random()),
      spis_(SpiStock::low_water_for(configuration.dataplane.limits.sas)) {
  Environment environment;
  environment.config = configuration_;
  environment.random = random_.get();
  environment.spis = &spis_;
  environment.secrets = keys_.get();
  environment.signatures = &certificates_;
  environment.local_address_for = [this](const wire::IpAddress& remote) {
    return local_address_for(configuration_->dataplane, remote);
  };
  environment.is_own_address = [this](const wire::IpAddress& address) {
    return is_own_address(configuration_->dataplane, address);
  };
  environment.local_addresses_for = [this](const wire::IpAddress& remote) {
    return local_addresses_for(configuration_->dataplane, remote);
  };
  machine_ = Machine::create(environment, Tuning{});
}

Daemon::~Daemon() {
  for (auto& [id, waiting] : commands_) loop_.cancel_timer(waiting.timeout);
}

std::expected<void, std::string> Daemon::bind() {
  const auto directory = config::run_directory(configuration_->instance);
  auto control = runtime::ControlServer::create(directory / "ike.sock", 0600, ::geteuid());
  if (!control) return std::unexpected(control.error());
  control_ = std::move(*control);
  handle_verbs();
  if (const auto& listen = configuration_->metrics.ike_listen) {
    auto endpoint = runtime::MetricsEndpoint::create(listen->to_string(), metrics_);
    if (!endpoint) return std::unexpected(endpoint.error());
    metrics_endpoint_ = std::move(*endpoint);
  }
  if (auto done = prepare_reload(); !done) return done;
  return loop_.add(control_->descriptor(), [this] {
    control_->poll();
    carry_out();
  });
}

void Daemon::start() {
  publish_metrics();
  warn_of_expiry();
  warn_of_revocation();
  refresh_revocation_lists();
  feed_watchdog();
  connect();
}

void Daemon::feed_watchdog() {
  const auto interval = runtime::watchdog_interval();
  if (!interval) return;
  runtime::notify_watchdog();
  loop_.set_timer(runtime::now() + *interval, [this] { feed_watchdog(); });
}

std::filesystem::path Daemon::channel_socket() const {
  return config::run_directory(configuration_->instance) / "channel.sock";
}

void Daemon::connect() {
  // The greeting is awaited by the event loop: a data plane that is slow must not stop timers and
  // the control socket.
  auto connection = channel::Client::begin(channel_socket());
  if (!connection) {
    connect_again(connection.error());
    return;
  }
  greeting_ = std::move(*connection);
  greeting_timer_ = loop_.set_timer(runtime::now() + kGreetingTimeout, [this] {
    greeting_timer_.reset();
    loop_.remove(greeting_.number());
    greeting_ = channel::Descriptor();
    connect_again("the data plane did not answer in two seconds");
  });
  if (auto watched = loop_.add(greeting_.number(), [this] { greeted(); }); !watched) {
    loop_.cancel_timer(*greeting_timer_);
    greeting_timer_.reset();
    greeting_ = channel::Descriptor();
    connect_again(watched.error());
  }
}

void Daemon::connect_again(const std::string& why) {
  if (why != last_connect_error_) {
    last_connect_error_ = why;
    runtime::log(runtime::Level::warning, "dataplane_not_reached", {{"why", why}});
  }
  loop_.set_timer(runtime::now() + kReconnectInterval, [this] { connect(); });
}

void Daemon::greeted() {
  if (greeting_timer_) loop_.cancel_timer(*greeting_timer_);
  greeting_timer_.reset();
  loop_.remove(greeting_.number());
  auto client = channel::Client::finish(channel_socket(), std::move(greeting_));
  if (!client) {
    connect_again(client.error());
    return;
  }
  last_connect_error_.clear();
  client_ = std::move(*client);
  ++connects_;
  phase_ = Phase::synchronizing;
  snapshot_complete_ = false;
  leased_ = false;
  early_ = {};
  const auto watched_socket =
      loop_.add(client_->socket_descriptor(), [this] { disconnect_if_gone(); });
  const auto watched_events =
      loop_.add(client_->event_descriptor(), [this] { on_channel_readable(); });
  if (!watched_socket || !watched_events) {
    disconnected();
    return;
  }
  recovery_.connected(client_->held(), machine_started_);
  static_cast<void>(send_own(channel::RequestType::take_snapshot, kSnapshotRequest, {}));
  for (const channel::Request& request : recovery_.requests()) (void)client_->send(request);
  ask_for_spis();
  client_->flush();
  disconnect_if_gone();
}

void Daemon::disconnect_if_gone() {
  if (client_ != nullptr && !client_->alive()) disconnected();
}

void Daemon::disconnected() {
  const bool torn = client_->statistics().torn_indices > 0;
  runtime::log(runtime::Level::warning, "dataplane_lost",
               {{"why", torn ? "an index in the channel's memory cannot be" : "it hung up"}});
  loop_.remove(client_->socket_descriptor());
  loop_.remove(client_->event_descriptor());
  client_.reset();
  recovery_.disconnected();
  phase_ = Phase::disconnected;
  spis_.clear();
  outbox_.clear();
  loop_.set_timer(runtime::now() + kReconnectInterval, [this] { connect(); });
}

bool Daemon::send_own(channel::RequestType type, channel::RequestId id,
                      const channel::LeaseSpis& lease) {
  channel::Request request;
  request.type = type;
  request.id = id;
  if (type == channel::RequestType::lease_spis) request.body.lease_spis = lease;
  // A full ring is emptied by the data plane; the next turn asks again.
  if (!client_->send(request)) return false;
  if (type == channel::RequestType::lease_spis) spis_.lease_sent();
  return true;
}

void Daemon::ask_for_spis() {
  if (client_ == nullptr) return;
  const channel::LeaseSpis block{spis_.block()};
  while (spis_.wants_lease(runtime::now()) &&
         send_own(channel::RequestType::lease_spis, kLeaseRequest, block)) {
  }
}

void Daemon::on_channel_readable() {
  client_->acknowledge();
  int left = kMessagesPerTurn;
  while (left > 0) {
    const auto event = client_->next_event();
    if (!event) break;
    handle(*event);
    --left;
  }
  while (left > 0) {
    const auto datagram = client_->next_datagram();
    if (!datagram) break;
    --left;
    if (phase_ != Phase::running) continue;  // the peer sends it again
    machine_->on_datagram(datagram->local, datagram->remote,
                          wire::Bytes(datagram->bytes.data(), datagram->length), runtime::now(),
                          actions_);
  }
  carry_out();
  if (left == 0 && client_ != nullptr) {
    loop_.set_timer(runtime::now(), [this] {
      if (client_ != nullptr) on_channel_readable();
    });
  }
}

void Daemon::handle(const channel::Event& event) {
  switch (event.type) {
    case channel::EventType::completion:
      handle_completion(event.body.completion);
      break;
    case channel::EventType::snapshot_sa:
    case channel::EventType::snapshot_policy:
      early_.add(event);
      break;
    case channel::EventType::acquire:
    case channel::EventType::soft_expire:
    case channel::EventType::hard_expire:
    case channel::EventType::unknown_spi:
    case channel::EventType::peer_moved:
      if (phase_ == Phase::running) {
        machine_->on_event(event, runtime::now(), actions_);
      } else {
        early_.add(event);
      }
      break;
    case channel::EventType::none:
      break;
  }
}

void Daemon::handle_completion(const channel::Completion& completion) {
  if (completion.request == kLeaseRequest) {
    spis_.add(completion, runtime::now());
    leased_ = true;
    const bool granted = completion.outcome == channel::Outcome::ok;
    if (!granted && !spis_.awaits_lease()) {
      // Asked for again every second; while there are some left nobody misses them.
      if (spis_.size() == 0 && !std::exchange(out_of_spis_, true)) {
        runtime::log(runtime::Level::error, "spis_refused",
                     {{"why", channel::to_string(completion.outcome)},
                      {"effect", "no SA can be negotiated until one ends"},
                      {"remedy", "raise dataplane.limits.sas"}});
      }
      loop_.set_timer(runtime::now() + SpiStock::kRefusedPause, [this] { carry_out(); });
    }
    if (granted) out_of_spis_ = false;
  } else if (completion.request == kSnapshotRequest) {
    snapshot_complete_ = true;
  } else if (recovery_.handle(completion)) {
    // Answered in order, before the lease.
  } else {
    outbox_.completed(completion.request);
    machine_->on_completion(completion, runtime::now(), actions_);
  }
  const bool complete = snapshot_complete_ && leased_ && !recovery_.waits();
  if (phase_ == Phase::synchronizing && complete) begin_running();
}

void Daemon::begin_running() {
  phase_ = Phase::running;
  const Instant now = runtime::now();
  runtime::log(runtime::Level::info, "dataplane_connected",
               {{"sas", early_.sas().size()}, {"policies", early_.policies().size()}});
  if (early_.refused() > 0) {
    runtime::log(runtime::Level::error, "dataplane_says_too_much",
                 {{"events", early_.refused()},
                  {"effect", "SAs beyond those that any data plane holds are not known here"}});
  }
  if (!machine_started_) {
    recovery_.begin(*machine_, early_.sas(), early_.policies(), spis_, now, actions_);
  } else {
    machine_->on_dataplane_lost(now, actions_);
    if (!early_.sas().empty() || !early_.policies().empty()) {
      machine_->adopt(early_.sas(), early_.policies(), now, actions_);
    }
  }
  machine_started_ = true;
  early_.hand_over([&](const channel::Event& event) { machine_->on_event(event, now, actions_); });
  early_ = {};
}

void Daemon::carry_out() {
  // By index: a command that ends may lead to the next one while we are here.
  for (std::size_t index = 0; index < actions_.size(); ++index) {
    std::visit([this](auto& action) { carry_out(action); }, actions_[index]);
  }
  actions_.clear();
  // On record before it leaves: whoever goes on from the record knows what a peer may have seen.
  recovery_.record(*machine_, runtime::now());
  if (client_ != nullptr) {
    outbox_.drain([this](const channel::Request& request) { return client_->send(request); },
                  [this](const SendDatagram& datagram) {
                    // A full datagram ring loses one, as networks do: retransmission mends it.
                    client_->send(to_ring(datagram));
                    return true;
                  });
    ask_for_spis();
    client_->flush();
    // Nothing more comes or goes over rings whose indices cannot be.
    disconnect_if_gone();
  }
  fetch_due();
  arm_timer();
}

void Daemon::carry_out(SendDatagram& datagram) {
  if (datagram.bytes.size() > channel::kMaxDatagramBytes) {
    runtime::log(runtime::Level::error, "message_too_long",
                 {{"remote", datagram.remote.to_string()},
                  {"bytes", datagram.bytes.size()},
                  {"most", channel::kMaxDatagramBytes}});
    return;
  }
  outbox_.push(std::move(datagram));
}

void Daemon::carry_out(DataplaneRequest& request) {
  const channel::Request& asked = request.request;
  if (asked.type == channel::RequestType::install_sa &&
      asked.body.install_sa.direction == channel::Direction::in) {
    spis_.installed(asked.body.install_sa.spi);
  }
  outbox_.push(request.request);
}

void Daemon::carry_out(const Report& report) {
  const LogEvent event = to_log_event(report);
  runtime::log_fields(event.level, event.name, event.fields);
}

void Daemon::carry_out(const CommandDone& done) {
  const auto found = commands_.find(done.command);
  if (found == commands_.end()) return;  // its caller's time was up
  WaitingCommand waiting = std::move(found->second);
  commands_.erase(found);
  loop_.cancel_timer(waiting.timeout);
  if (done.ok) {
    waiting.responder.ok({{"name", waiting.name}, {"message", done.message}});
  } else {
    waiting.responder.fail("failed", done.message);
  }
}

void Daemon::arm_timer() {
  if (machine_timer_) loop_.cancel_timer(*machine_timer_);
  machine_timer_.reset();
  // Without a data plane nothing can be sent: the machine's timers wait with it.
  if (phase_ != Phase::running) return;
  const auto deadline = machine_->next_deadline();
  if (!deadline) return;
  machine_timer_ = loop_.set_timer(*deadline, [this] {
    machine_timer_.reset();
    machine_->on_timer(runtime::now(), actions_);
    carry_out();
  });
}

void Daemon::publish_metrics() {
  const Instant now = runtime::now();
  auto families =
      render_metrics(machine_->counters(), machine_->ike_sas(now), machine_->connections(now),
                     phase_ == Phase::running, certificates_.loaded());
  families.push_back(render_fetches(certificates_.fetches().counters()));
  recovery_.add_metrics(families);
  add_process({configuration_->instance, config_version_, last_reload_ok_}, families);
  metrics_.publish(std::move(families));
  loop_.set_timer(now + kMetricsInterval, [this] { publish_metrics(); });
}

void Daemon::warn_of_expiry() {
  const std::int64_t now = Certificates::system_calendar()();
  for (const auto& [certificate, days_left] : expiry_.due(certificates_.loaded(), now)) {
    runtime::log(days_left < 0 ? runtime::Level::error : runtime::Level::warning,
                 days_left < 0 ? "certificate_expired" : "certificate_expires",
                 {{"file", certificate.file},
                  {"kind", certificate.kind},
                  {"subject", certificate.subject},
                  {"not_after", crypto::pki::date_text(certificate.not_after)},
                  {"days_left", days_left},
                  {"remedy", "renew it, then reload"}});
  }
  loop_.set_timer(runtime::now() + kExpiryInterval, [this] { warn_of_expiry(); });
}

}  // namespace culvert::ike
